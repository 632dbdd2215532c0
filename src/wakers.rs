//! The futures that wait for one thing.

use std::task::Waker;

/// Each future has its own place, so that it is woken once however often it was polled.
#[derive(Default)]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the waker of the future whose place this is, and gives back the one that was there.
    /// That is to be dropped after all locks: nobody knows what its end does.
    #[cfg(feature = "async")]
    pub(crate) fn keep(&mut self, waker: Waker, place: &mut Option<usize>) -> Option<Waker> {
        if let Some(known) = place.and_then(|place| self.0.get_mut(place)) {
            return Some(std::mem::replace(known, waker));
        }
        *place = Some(self.0.len());
        self.0.push(waker);
        None
    }

    /// No lock may be held.
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}
