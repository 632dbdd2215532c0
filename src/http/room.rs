//! The memory that the bodies of all requests may take together.

use crate::sync::{Arc, AtomicU64, Ordering};

/// Room for the bodies of all requests under way.
#[derive(Clone)]
pub(super) struct Room {
    /// How many bytes are left.
    left: Arc<AtomicU64>,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicU64::new(bytes as u64)) }
    }

    /// A share of the room, empty at first.
    pub(super) fn share(&self) -> Share {
        Share { room: self.clone(), taken: 0 }
    }
}

/// The room that one request has taken. Dropping it returns the room.
pub(super) struct Share {
    room: Room,
    taken: u64,
}

impl Share {
    /// Takes room for this many more bytes. Returns `false` if there isn't enough.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let less = |left: u64| left.checked_sub(bytes);
        let is_taken =
            self.room.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        self.taken += if is_taken { bytes } else { 0 };
        is_taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_again_once_its_share_is_gone() {
        let room = Room::new(3);
        let (mut first, mut second) = (room.share(), room.share());
        assert!(first.take(1) && first.take(1) && second.take(1));
        assert!(!first.take(1) && !second.take(1));
        drop(first);
        assert!(second.take(2) && !second.take(1));
        assert!(second.take(0));
        drop(second);
        assert!(room.share().take(3));
    }

    #[test]
    fn more_than_there_is_takes_nothing() {
        let mut share = Room::new(usize::MAX).share();
        assert!(share.take(usize::MAX) && !share.take(1));
    }
}
