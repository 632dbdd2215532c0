//! The memory that the bodies of requests may take, all together.

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::Arc;

/// What is counted: bytes alone would be more than a permit can count.
const UNIT: usize = 1024;

/// Room for the bodies of all requests that are under way.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(units)))
    }

    /// A share of it, which has nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { room: self.clone(), bytes: 0, taken: None }
    }
}

/// What one request has of it, until this is dropped.
pub(super) struct Share {
    room: Room,
    bytes: usize,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes room for so many bytes more. `false` if there is none.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let wanted = self.bytes.saturating_add(bytes);
        let units = wanted.div_ceil(UNIT) - self.bytes.div_ceil(UNIT);
        let Ok(units) = u32::try_from(units) else { return false };
        let Ok(more) = Arc::clone(&self.room.0).try_acquire_many_owned(units) else { return false };
        self.bytes = wanted;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_again_once_its_share_is_gone() {
        let room = Room::new(3 * UNIT);
        let (mut first, mut second) = (room.share(), room.share());
        assert!(first.take(UNIT) && first.take(1), "each takes whole units");
        assert!(second.take(UNIT));
        assert!(!second.take(1));
        drop(first);
        assert!(second.take(2 * UNIT) && !second.take(1));
        assert!(second.take(0));
    }

    #[test]
    fn many_small_pieces_take_no_more_than_one_large_one() {
        let mut share = Room::new(UNIT).share();
        assert!((0..UNIT).all(|_| share.take(1)));
        assert!(!share.take(1));
    }
}
