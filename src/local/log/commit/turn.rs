//! The object that the callers of one batch wait on.

use std::task::Waker;

use crate::error::Error;
use crate::local::wakers::Place;
use crate::local::wakers::Wakers;
use crate::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    /// Signalled to the callers that block.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    listeners: Listeners,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Waiting,
    /// One of the blocked callers must lead.
    Lead,
    Done(Result<(), Error>),
}

impl Turn {
    /// Waits for the outcome. Returns `None` if this caller must lead instead.
    pub(super) fn wait(&self) -> Option<Result<(), Error>> {
        let mut state = self.state.lock();
        loop {
            match &state.phase {
                Phase::Waiting => self.changed.wait(&mut state),
                Phase::Lead => {
                    state.phase = Phase::Waiting;
                    return None;
                }
                Phase::Done(outcome) => return Some(outcome.clone()),
            }
        }
    }

    /// Whether the outcome is known, and is `Ok`.
    pub(super) fn is_granted(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Done(Ok(())))
    }

    pub(super) fn hand_lead(&self) {
        self.state.lock().phase = Phase::Lead;
        self.changed.notify_one();
    }

    /// Finishes the batch. Callers that block are woken at once, the others by [`Turn::announce`].
    pub(super) fn finish(&self, outcome: Result<(), Error>) {
        self.state.lock().phase = Phase::Done(outcome);
        self.changed.notify_all();
    }
}

/// The callers that don't block.
#[derive(Default)]
struct Listeners {
    wakers: Wakers,
    /// Callbacks left by dropped futures, which are called once the outcome is known.
    on_done: Vec<Will>,
}

type Will = Box<dyn FnOnce(&Result<(), Error>) + Send>;

impl Turn {
    /// Whether there is anyone to notify with [`Turn::announce`].
    pub(super) fn has_listeners(&self) -> bool {
        let Listeners { wakers, on_done } = &self.state.lock().listeners;
        !wakers.is_empty() || !on_done.is_empty()
    }

    /// Notifies the callers that don't block. No lock may be held, since wakers and callbacks may
    /// do anything.
    pub(super) fn announce(&self) {
        let mut state = self.state.lock();
        let Phase::Done(outcome) = &state.phase else { return };
        let outcome = outcome.clone();
        let Listeners { wakers, on_done } = &mut state.listeners;
        let (wakers, on_done) = (wakers.take(), std::mem::take(on_done));
        drop(state);
        wakers.wake();
        for done in on_done {
            done(&outcome);
        }
    }
}

impl Turn {
    /// The outcome, if it is known. If not, keeps the waker at `place`.
    pub(super) fn poll(
        &self,
        waker: Waker,
        place: &mut Option<Place>,
    ) -> Option<Result<(), Error>> {
        let mut state = self.state.lock();
        if let Phase::Done(outcome) = &state.phase {
            return Some(outcome.clone());
        }
        let replaced = state.listeners.wakers.keep(waker, place);
        drop(state);
        drop(replaced);
        None
    }

    /// Removes the future at this place, which no longer waits, and calls `done` once the outcome
    /// is known: right away if it is known already.
    pub(super) fn then(
        &self,
        place: Option<Place>,
        done: impl FnOnce(&Result<(), Error>) + Send + 'static,
    ) {
        let mut state = self.state.lock();
        let left = place.and_then(|place| state.listeners.wakers.leave(place));
        if let Phase::Done(outcome) = &state.phase {
            let outcome = outcome.clone();
            drop(state);
            done(&outcome);
        } else {
            state.listeners.on_done.push(Box::new(done));
            drop(state);
        }
        drop(left);
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
