//! The futures that wait for the same thing.

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Each future has a separate place, so that it is woken once however often it was polled, and so
/// that its waker is dropped when it leaves. The list takes memory for the futures that wait now,
/// however many have waited before.
///
/// Places count up and are never reused: once a future has left its place or was woken, no other
/// future gets the place. Futures are woken in the order in which they arrived.
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

    /// Keeps the waker of the future at this place, and returns the previous one. The caller must
    /// drop that after releasing all locks, since dropping a waker may do anything.
    pub(crate) fn keep(&mut self, waker: Waker, place: &mut Option<Place>) -> Option<Waker> {
        let Place(at) = *place.get_or_insert_with(|| {
            let new = Place(self.next);
            self.next += 1;
            new
        });
        self.kept.insert(at, waker)
    }

    /// Removes the future at this place, which no longer waits. Its waker, if it's still here, must
    /// also be dropped after all locks are released.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        self.kept.remove(&place.0)
    }

    /// Takes out all futures that wait now.
    pub(crate) fn take(&mut self) -> Taken {
        Taken(mem::take(&mut self.kept))
    }
}

/// Futures to wake.
pub(crate) struct Taken(BTreeMap<u64, Waker>);

impl Taken {
    /// Must be called without any lock. If a waker panics, that isn't the store's concern, and no
    /// reason to leave the others asleep.
    pub(crate) fn wake(self) {
        for waker in self.0.into_values() {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
