//! Callers that wait for the outcome of an operation in flight.

use std::time::Instant;

use crate::record::Record;
use crate::sync::{Arc, Condvar, Mutex};

/// What a waiter is woken with.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// The operation was completed. This is the answer even if its retention is over by now:
    /// the waiter was there before.
    Completed(Arc<Record>),
    /// The holder is gone without a result: ask again.
    Gone,
}

/// Made by the first waiter of a key, dropped with the last.
#[derive(Default)]
pub(crate) struct Waiters {
    outcome: Mutex<Option<Outcome>>,
    changed: Condvar,
}

impl Waiters {
    pub(crate) fn wake(&self, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.changed.notify_all();
    }

    /// Waits for the outcome; `None` if the deadline came first.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> Option<Outcome> {
        let mut outcome = self.outcome.lock();
        while outcome.is_none() {
            let Some(deadline) = deadline else {
                self.changed.wait(&mut outcome);
                continue;
            };
            if self.changed.wait_until(&mut outcome, deadline).timed_out() {
                break;
            }
        }
        outcome.clone()
    }
}
