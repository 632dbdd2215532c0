//! Callers that wait for the outcome of an operation in flight.

use std::task::Waker;
use std::time::Instant;

use crate::local::helper::Helper;
use crate::local::wakers::Place;
use crate::local::wakers::Wakers;
use crate::rules::record::Done;
use crate::sync::{Arc, Condvar, Mutex};

/// The outcome that a waiter is woken with.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// The operation was completed. This is the answer even if its retention is over by now, since
    /// the waiter was there before.
    Completed(Done),
    /// The holder is gone and has left no result: ask again.
    Gone,
}

/// Created by the first waiter of a key, and dropped with the last.
pub(crate) struct Waiters {
    state: Mutex<State>,
    /// Signalled to the waiters that block.
    changed: Condvar,
    helper: Arc<Helper>,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    /// The wakers of the futures that wait.
    wakers: Wakers,
}

impl Waiters {
    pub(super) fn new(helper: Arc<Helper>) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), helper }
    }

    /// The caller may hold locks, so futures are woken by the helper.
    pub(super) fn wake(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        state.outcome = Some(outcome);
        self.changed.notify_all();
        if !state.wakers.is_empty() {
            let wakers = state.wakers.take();
            self.helper.send(Box::new(|| wakers.wake()));
        }
    }

    /// The outcome, if it is known. If not, keeps the waker at `place`.
    pub(crate) fn poll(&self, waker: Waker, place: &mut Option<Place>) -> Option<Outcome> {
        let mut state = self.state.lock();
        if state.outcome.is_some() {
            return state.outcome.clone();
        }
        let replaced = state.wakers.keep(waker, place);
        drop(state);
        drop(replaced);
        None
    }

    /// Removes the future at this place, which no longer waits. Returns its waker, which must be
    /// dropped after all locks are released.
    pub(crate) fn leave(&self, place: Place) -> Option<Waker> {
        self.state.lock().wakers.leave(place)
    }

    /// Waits for the outcome. Returns `None` if the deadline comes first.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> Option<Outcome> {
        let mut state = self.state.lock();
        while state.outcome.is_none() {
            let Some(deadline) = deadline else {
                self.changed.wait(&mut state);
                continue;
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.outcome.clone()
    }
}
