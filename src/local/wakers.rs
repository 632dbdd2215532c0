//! The futures that wait for one thing.

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Each future has its own place, so that it is woken once however often it was polled, and so that
/// its waker leaves with it. The list takes memory for those who wait now, however many have waited
/// before.
///
/// Places count up and are never given out again: one that was left, or that was woken, is nobody
/// else's. Futures are woken in the order in which they came.
#[derive(Default)]
pub(crate) struct Wakers {
    kept: BTreeMap<u64, Waker>,
    next: u64,
}

/// Where a future's waker is kept.
#[derive(Clone, Copy)]
pub(crate) struct Place(u64);

impl Wakers {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps the waker of the future whose place this is, and gives back the one that was there.
    /// That is to be dropped after all locks: nobody knows what its end does.
    pub(crate) fn keep(&mut self, waker: Waker, place: &mut Option<Place>) -> Option<Waker> {
        let Place(at) = *place.get_or_insert_with(|| {
            let new = Place(self.next);
            self.next += 1;
            new
        });
        self.kept.insert(at, waker)
    }

    /// The future at this place waits no longer. Its waker, if it is still here, is to be dropped
    /// after all locks too.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        self.kept.remove(&place.0)
    }

    /// Takes out all who wait now.
    pub(crate) fn take(&mut self) -> Taken {
        Taken(mem::take(&mut self.kept))
    }
}

/// Futures that are to be woken.
pub(crate) struct Taken(BTreeMap<u64, Waker>);

impl Taken {
    /// No lock may be held. What a waker does is not the store's: the panic of one is no reason to
    /// leave the others asleep.
    pub(crate) fn wake(self) {
        for waker in self.0.into_values() {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
