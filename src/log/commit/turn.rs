//! What the callers of one batch wait for.

#[cfg(feature = "async")]
use std::task::Waker;

use crate::error::Error;
use crate::sync::{Condvar, Mutex};
#[cfg(feature = "async")]
use crate::wakers::Place;
use crate::wakers::Wakers;

#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    /// Signalled to those who block.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    audience: Audience,
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
struct Audience {
    wakers: Wakers,
    /// What those who have left want done when the outcome is known.
    wills: Vec<Will>,
}

type Will = Box<dyn FnOnce(&Result<(), Error>) + Send>;

impl Turn {
    /// Whether there is anybody to tell by [`Turn::announce`].
    pub(super) fn has_audience(&self) -> bool {
        let Audience { wakers, wills } = &self.state.lock().audience;
        !wakers.is_empty() || !wills.is_empty()
    }

    /// Tells those who do not block. No lock may be held: nobody knows what they do then.
    pub(super) fn announce(&self) {
        let mut state = self.state.lock();
        let Phase::Done(outcome) = &state.phase else { return };
        let outcome = outcome.clone();
        let Audience { wakers, wills } = &mut state.audience;
        let (wakers, wills) = (wakers.take(), std::mem::take(wills));
        drop(state);
        wakers.wake();
        for will in wills {
            will(&outcome);
        }
    }
}

#[cfg(feature = "async")]
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
        let replaced = state.audience.wakers.keep(waker, place);
        drop(state);
        drop(replaced);
        None
    }

    /// The future at this place waits no longer, and wants this done when the outcome is known; at
    /// once if it is.
    pub(super) fn then(
        &self,
        place: Option<Place>,
        will: impl FnOnce(&Result<(), Error>) + Send + 'static,
    ) {
        let mut state = self.state.lock();
        let left = place.and_then(|place| state.audience.wakers.leave(place));
        if let Phase::Done(outcome) = &state.phase {
            let outcome = outcome.clone();
            drop(state);
            will(&outcome);
        } else {
            state.audience.wills.push(Box::new(will));
            drop(state);
        }
        drop(left);
    }
}

impl std::fmt::Debug for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audience").finish_non_exhaustive()
    }
}
