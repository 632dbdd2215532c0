//! What the callers of one batch wait for.

use std::task::Waker;

use crate::error::Error;
use crate::local::wakers::Place;
use crate::local::wakers::Wakers;
use crate::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    /// Signalled to those who block.
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
    /// One of the blocked callers is to lead.
    Lead,
    Done(Result<(), Error>),
}

impl Turn {
    /// Waits for the outcome; `None` if this caller is to lead instead.
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

    /// Whether the end is known, and a good one.
    pub(super) fn is_granted(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Done(Ok(())))
    }

    pub(super) fn hand_lead(&self) {
        self.state.lock().phase = Phase::Lead;
        self.changed.notify_one();
    }

    /// Ends the batch. Those who block are told at once, the others by [`Turn::announce`].
    pub(super) fn finish(&self, outcome: Result<(), Error>) {
        self.state.lock().phase = Phase::Done(outcome);
        self.changed.notify_all();
    }
}

/// Those who do not block.
#[derive(Default)]
struct Listeners {
    wakers: Wakers,
    /// What dropped futures have left to be run once the outcome is known.
    on_done: Vec<Will>,
}

type Will = Box<dyn FnOnce(&Result<(), Error>) + Send>;

impl Turn {
    /// Whether there is anybody to tell by [`Turn::announce`].
    pub(super) fn has_listeners(&self) -> bool {
        let Listeners { wakers, on_done } = &self.state.lock().listeners;
        !wakers.is_empty() || !on_done.is_empty()
    }

    /// Tells those who do not block. No lock may be held: nobody knows what they do then.
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
    /// The outcome, if it is known. If not, the waker is kept in this place among all.
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

    /// The future at this place waits no longer, and wants this done when the outcome is known; at
    /// once if it is.
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
