//! A helper thread for futures. A future cannot lead a batch, and its waker must not be called
//! under a lock, since a waker may do anything. The thread starts with the first future, and sleeps
//! while there is nothing to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::thread::{JoinHandle, current};
use crate::sync::{Condvar, Mutex};

/// Work to do while no lock is held.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Helper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    thread: Option<JoinHandle<()>>,
    /// Whether the thread is to lead a batch.
    called: bool,
    jobs: Vec<Job>,
    stopped: bool,
}

impl Helper {
    /// Starts the thread, unless it is running. Each [`Helper::call`] makes it call `lead`.
    pub(crate) fn spawn<L: Fn() + Send + 'static>(
        self: &crate::sync::Arc<Self>,
        lead: impl FnOnce() -> L,
    ) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if state.thread.is_none() && !state.stopped {
            let (helper, lead) = (self.clone(), lead());
            let thread = crate::sync::thread::Builder::new().name("idemstore-helper".to_owned());
            state.thread = Some(thread.spawn(move || helper.serve(lead))?);
        }
        Ok(())
    }

    /// Asks the thread to lead a batch.
    pub(crate) fn call(&self) {
        self.state.lock().called = true;
        self.changed.notify_one();
    }

    /// Takes the call back from the helper, if it hasn't started on it yet.
    pub(crate) fn take_call(&self) -> bool {
        std::mem::take(&mut self.state.lock().called)
    }

    /// Runs the job soon, without holding a lock.
    pub(crate) fn send(&self, job: Job) {
        self.state.lock().jobs.push(job);
        self.changed.notify_one();
    }

    /// Ends the thread once it has done all its work. The helper must not be called afterwards.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_one();
        // A job may drop the store's last handle. The store is then closed by the helper thread,
        // which cannot join itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != current().id()) {
            // The thread catches every panic.
            let _ = thread.join();
        }
    }

    fn serve(&self, lead: impl Fn()) {
        loop {
            let mut state = self.state.lock();
            while !state.called && state.jobs.is_empty() && !state.stopped {
                self.changed.wait(&mut state);
            }
            let called = std::mem::take(&mut state.called);
            let jobs = std::mem::take(&mut state.jobs);
            let is_over = state.stopped && !called && jobs.is_empty();
            drop(state);
            if is_over {
                return;
            }
            // Many may be waiting for the batch, so it comes first. If it panics, it has already
            // poisoned the store; if a waker panics, that isn't the store's concern. So the thread
            // continues after either.
            if called {
                let _ = catch_unwind(AssertUnwindSafe(&lead));
            }
            for job in jobs {
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        }
    }
}
