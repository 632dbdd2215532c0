//! How the background thread is woken and told to stop.

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
    /// There is something to look at.
    pub(crate) fn up(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    /// The end.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Sleeps until woken, or until this time is over. `false` if it is the end.
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
