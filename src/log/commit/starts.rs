//! The starts that wait, and the share of each scope.
//!
//! A scope may have as many starts in the queue as there is room left for all others. So one that
//! sends more than the disk takes has half of the queue, a second one half of what is left, and
//! there is room for the start of yet another at any time.

use std::collections::HashMap;

use super::Queued;
use crate::bound::Bound;
use crate::limits::{STARTS_BYTES_MAX, STARTS_MAX};

#[derive(Default)]
pub(super) struct Starts {
    all: Waiting,
    /// Scopes of which any waits.
    scopes: HashMap<Box<[u8]>, Waiting>,
}

#[derive(Clone, Copy, Default)]
struct Waiting {
    items: usize,
    bytes: usize,
}

impl Waiting {
    /// One more of so many bytes.
    fn and(self, bytes: usize) -> Self {
        Self { items: self.items + 1, bytes: self.bytes + bytes }
    }

    /// One less.
    fn without(self, bytes: usize) -> Self {
        Self { items: self.items - 1, bytes: self.bytes - bytes }
    }
}

impl Starts {
    /// Takes room for a start of this scope. However many bytes it has, it fits if none waits.
    pub(super) fn take(&mut self, scope: &[u8], bytes: usize) -> Result<(), Bound> {
        let (all, ours) = (self.all, self.scopes.get(scope).copied().unwrap_or_default());
        let left = STARTS_BYTES_MAX.saturating_sub(all.bytes);
        if STARTS_MAX <= all.items {
            return Err(Bound::Starts { max: STARTS_MAX });
        }
        if left < bytes && 0 < all.items {
            return Err(Bound::StartBytes { max: STARTS_BYTES_MAX });
        }
        let has_share = ours.items < STARTS_MAX - all.items && ours.bytes <= left;
        if !has_share {
            return Err(Bound::ScopeShare);
        }
        self.all = all.and(bytes);
        self.put(scope, ours.and(bytes));
        Ok(())
    }

    /// These wait no longer.
    pub(super) fn leave<T: Queued>(&mut self, items: &[T]) {
        for item in items {
            if let Some(scope) = item.starts_in() {
                self.give_back(scope, item.len());
            }
        }
    }

    fn give_back(&mut self, scope: &[u8], bytes: usize) {
        let ours = self.scopes.get(scope).copied().unwrap_or_default();
        self.all = self.all.without(bytes);
        self.put(scope, ours.without(bytes));
    }

    fn put(&mut self, scope: &[u8], waiting: Waiting) {
        if waiting.items == 0 {
            self.scopes.remove(scope);
        } else if let Some(known) = self.scopes.get_mut(scope) {
            *known = waiting;
        } else {
            self.scopes.insert(scope.into(), waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes room for starts of a scope until one is refused, and says how many there were.
    fn fill(starts: &mut Starts, scope: &str, bytes: usize) -> (usize, Bound) {
        let mut taken = 0;
        loop {
            match starts.take(scope.as_bytes(), bytes) {
                Ok(()) => taken += 1,
                Err(bound) => return (taken, bound),
            }
        }
    }

    #[test]
    fn a_scope_has_at_most_as_many_as_there_is_room_left() {
        let mut starts = Starts::default();
        assert_eq!(fill(&mut starts, "loud", 10), (STARTS_MAX / 2, Bound::ScopeShare));
        assert_eq!(fill(&mut starts, "second", 10), (STARTS_MAX / 4, Bound::ScopeShare));
        // However many there are, there is room for another.
        for scope in 0..1_000 {
            assert_eq!(starts.take(format!("{scope}").as_bytes(), 10), Ok(()));
        }
        assert!(starts.take(b"loud", 10).is_err());
    }

    #[test]
    fn a_scope_has_at_most_as_many_bytes_as_there_is_room_left() {
        const BYTES: usize = STARTS_BYTES_MAX / 64;
        let mut starts = Starts::default();
        let (loud, bound) = fill(&mut starts, "loud", BYTES);
        assert!((32..=33).contains(&loud), "{loud}");
        assert_eq!(bound, Bound::ScopeShare);
        assert!(15 <= fill(&mut starts, "second", BYTES).0);
        assert_eq!(starts.take(b"third", BYTES), Ok(()));
    }

    #[test]
    fn room_that_is_given_back_is_there_for_all_and_one_alone_always_fits() {
        let mut starts = Starts::default();
        assert_eq!(starts.take(b"one", 2 * STARTS_BYTES_MAX), Ok(()));
        let full = Bound::StartBytes { max: STARTS_BYTES_MAX };
        assert_eq!(starts.take(b"other", 1), Err(full));
        starts.give_back(b"one", 2 * STARTS_BYTES_MAX);
        assert_eq!(fill(&mut starts, "other", 0).0, STARTS_MAX / 2);
        for _ in 0..STARTS_MAX / 2 {
            starts.give_back(b"other", 0);
        }
        assert!(starts.scopes.is_empty());
        assert_eq!((starts.all.items, starts.all.bytes), (0, 0));
    }
}
