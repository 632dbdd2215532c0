//! Wakes the background thread, and tells it to stop.

use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Wake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    stopped: bool,
}

impl Wake {
    /// Wakes the thread: there is something to do.
    pub(crate) fn up(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    /// Tells the thread to end.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Sleeps until woken, for at most this long. Returns `false` if the thread must end.
    pub(crate) fn sleep(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut state = self.state.lock();
        while !state.woken && !state.stopped {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.woken = false;
        !state.stopped
    }
}
