//! The thread that works for futures, which can do two things less than a blocked thread can: they
//! cannot lead a batch, and they must not be woken while a lock is held, since nobody knows what a
//! waker does. It is started with the first future, and sleeps while there is nothing to do.

#[cfg(feature = "async")]
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::thread::{JoinHandle, current};
use crate::sync::{Condvar, Mutex};

/// Something to do while no lock is held.
pub(crate) type Errand = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Steward {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    thread: Option<JoinHandle<()>>,
    /// Whether it is to lead.
    called: bool,
    errands: Vec<Errand>,
    dismissed: bool,
}

impl Steward {
    /// Starts the thread, unless it runs. It calls `lead` whenever it is called to.
    #[cfg(feature = "async")]
    pub(crate) fn employ<L: Fn() + Send + 'static>(
        self: &crate::sync::Arc<Self>,
        lead: impl FnOnce() -> L,
    ) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if state.thread.is_none() && !state.dismissed {
            let (steward, lead) = (self.clone(), lead());
            let thread = crate::sync::thread::Builder::new().name("idemstore-steward".to_owned());
            state.thread = Some(thread.spawn(move || steward.serve(lead))?);
        }
        Ok(())
    }

    /// There is a batch to lead.
    pub(crate) fn call(&self) {
        self.state.lock().called = true;
        self.changed.notify_one();
    }

    /// Takes the call over from the steward, if it has not gone to work yet.
    pub(crate) fn take_call(&self) -> bool {
        std::mem::take(&mut self.state.lock().called)
    }

    /// Does this soon, and without a lock.
    pub(crate) fn send(&self, errand: Errand) {
        self.state.lock().errands.push(errand);
        self.changed.notify_one();
    }

    /// Ends the thread when it has done all that it was told. Nobody may call it any more.
    pub(crate) fn dismiss(&self) {
        let mut state = self.state.lock();
        state.dismissed = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_one();
        // What it does may let go of the last handle of the store, which then closes on this
        // thread itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != current().id()) {
            // It catches every panic.
            let _ = thread.join();
        }
    }

    #[cfg(feature = "async")]
    fn serve(&self, lead: impl Fn()) {
        loop {
            let mut state = self.state.lock();
            while !state.called && state.errands.is_empty() && !state.dismissed {
                self.changed.wait(&mut state);
            }
            let called = std::mem::take(&mut state.called);
            let errands = std::mem::take(&mut state.errands);
            let is_over = state.dismissed && !called && errands.is_empty();
            drop(state);
            if is_over {
                return;
            }
            // Many may wait for the batch: it goes first. A panic of it has poisoned the store by
            // now, and what a waker does is not the store's, so the thread goes on after both.
            if called {
                let _ = catch_unwind(AssertUnwindSafe(&lead));
            }
            for errand in errands {
                let _ = catch_unwind(AssertUnwindSafe(errand));
            }
        }
    }
}
