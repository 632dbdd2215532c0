//! The starts that wait in the queue, and the share of each scope.
//!
//! A scope may have as many starts in the queue as there is room left for all others. So a scope
//! that sends more than the disk can take gets half of the queue, a second such scope gets half of
//! what is left, and there is still room for a start of another. It takes seventeen such scopes to
//! fill the queue.

use std::collections::HashMap;

use super::Queued;
use crate::error::Bound;
use crate::limits::STARTS_BYTES_MAX;

pub(super) struct Starts {
    /// Most starts that wait at one time.
    max: usize,
    all: Waiting,
    /// Scopes that have any starts waiting.
    scopes: HashMap<Box<[u8]>, Waiting>,
}

#[derive(Clone, Copy, Default)]
struct Waiting {
    items: usize,
    bytes: usize,
}

impl Waiting {
    /// One more start, of `bytes`.
    fn and(self, bytes: usize) -> Self {
        Self { items: self.items + 1, bytes: self.bytes + bytes }
    }

    /// One start less.
    fn without(self, bytes: usize) -> Self {
        Self { items: self.items - 1, bytes: self.bytes - bytes }
    }
}

impl Starts {
    pub(super) fn new(max: usize) -> Self {
        Self { max, all: Waiting::default(), scopes: HashMap::new() }
    }

    /// Takes room for a start of this scope. A start of any length fits if no other is waiting.
    pub(super) fn take(&mut self, scope: &[u8], bytes: usize) -> Result<(), Bound> {
        let (all, ours) = (self.all, self.scopes.get(scope).copied().unwrap_or_default());
        let left = STARTS_BYTES_MAX.saturating_sub(all.bytes);
        if self.max <= all.items {
            return Err(Bound::Starts { max: self.max });
        }
        if left < bytes && 0 < all.items {
            return Err(Bound::StartBytes { max: STARTS_BYTES_MAX });
        }
        let has_share = ours.items < self.max - all.items && ours.bytes <= left;
        if !has_share {
            return Err(Bound::ScopeShare);
        }
        self.all = all.and(bytes);
        self.put(scope, ours.and(bytes));
        Ok(())
    }

    /// Gives back the room of these items, which no longer wait.
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
    use proptest::prelude::*;

    use super::*;
    use crate::limits::STARTS_MAX;

    /// Takes room for starts of a scope until one is refused, and returns how many it took.
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
        let mut starts = Starts::new(STARTS_MAX);
        assert_eq!(fill(&mut starts, "loud", 10), (STARTS_MAX / 2, Bound::ScopeShare));
        assert_eq!(fill(&mut starts, "second", 10), (STARTS_MAX / 4, Bound::ScopeShare));
        // However many starts there are, there's room for another.
        for scope in 0..1_000 {
            assert_eq!(starts.take(format!("{scope}").as_bytes(), 10), Ok(()));
        }
        assert!(starts.take(b"loud", 10).is_err());
    }

    #[test]
    fn a_scope_has_at_most_as_many_bytes_as_there_is_room_left() {
        const BYTES: usize = STARTS_BYTES_MAX / 64;
        let mut starts = Starts::new(STARTS_MAX);
        let (loud, bound) = fill(&mut starts, "loud", BYTES);
        assert!((32..=33).contains(&loud), "{loud}");
        assert_eq!(bound, Bound::ScopeShare);
        assert!(15 <= fill(&mut starts, "second", BYTES).0);
        assert_eq!(starts.take(b"third", BYTES), Ok(()));
    }

    #[test]
    fn room_that_is_given_back_is_there_for_all_and_one_alone_always_fits() {
        let mut starts = Starts::new(STARTS_MAX);
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

    /// A model of the queue: each start separately, in the order of arrival.
    #[derive(Default)]
    struct Queue(Vec<(u8, usize)>);

    impl Queue {
        /// How many starts wait, and their bytes.
        fn sum(&self, scope: Option<u8>) -> (usize, usize) {
            let of_scope = self.0.iter().filter(|(of, _)| scope.is_none_or(|scope| scope == *of));
            of_scope.fold((0, 0), |(items, sum), (_, bytes)| (items + 1, sum + bytes))
        }

        /// What `take` must return for a start.
        fn expected(&self, max: usize, scope: u8, bytes: usize) -> Result<(), Bound> {
            let ((all, all_bytes), (ours, our_bytes)) = (self.sum(None), self.sum(Some(scope)));
            if all == max {
                Err(Bound::Starts { max })
            } else if 0 < all && STARTS_BYTES_MAX < all_bytes + bytes {
                Err(Bound::StartBytes { max: STARTS_BYTES_MAX })
            } else if max <= all + ours || 0 < all && STARTS_BYTES_MAX < all_bytes + our_bytes {
                Err(Bound::ScopeShare)
            } else {
                Ok(())
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take { scope: u8, bytes: usize },
        GiveBack(prop::sample::Index),
    }

    fn op() -> impl Strategy<Value = Op> {
        const PARTS: [usize; 6] = [0, 10, 100, 1_000, 2_000, 7_000];
        let bytes = prop::sample::select(&PARTS[..]);
        let bytes = bytes.prop_map(|part| 1 + part * (STARTS_BYTES_MAX / 3_000));
        // Every second start is in the same scope.
        let scope = prop_oneof![Just(0), 1..6_u8];
        prop_oneof![
            2 => (scope, bytes).prop_map(|(scope, bytes)| Op::Take { scope, bytes }),
            1 => any::<prop::sample::Index>().prop_map(Op::GiveBack),
        ]
    }

    /// The guarantees that hold whatever the numbers are.
    fn check_shares(starts: &mut Starts, queue: &Queue, refused: Option<(Bound, usize)>) {
        for scope in 0..6 {
            let (ours, _) = queue.sum(Some(scope));
            assert!(2 * ours <= starts.max + 1, "{ours} of {} are of one scope", starts.max);
        }
        // However much one scope has, another finds room for the same.
        if let Some((Bound::ScopeShare, bytes)) = refused {
            assert_eq!(starts.take(b"another", bytes), Ok(()));
            starts.give_back(b"another", bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_scope_has_its_share_whatever_comes_and_goes(
            max in prop_oneof![1..24_usize, Just(STARTS_MAX)],
            ops in prop::collection::vec(op(), 1..120),
            rest in any::<prop::sample::Index>(),
        ) {
            let (mut starts, mut queue) = (Starts::new(max), Queue::default());
            for op in ops {
                let mut refused = None;
                match op {
                    Op::Take { scope, bytes } => {
                        let taken = starts.take(&[scope], bytes);
                        prop_assert_eq!(taken, queue.expected(max, scope, bytes));
                        match taken {
                            Ok(()) => queue.0.push((scope, bytes)),
                            Err(bound) => refused = Some((bound, bytes)),
                        }
                    }
                    Op::GiveBack(at) if !queue.0.is_empty() => {
                        let (scope, bytes) = queue.0.remove(at.index(queue.0.len()));
                        starts.give_back(&[scope], bytes);
                    }
                    Op::GiveBack(_) => {}
                }
                check_shares(&mut starts, &queue, refused);
            }
            // The rest leave in any order.
            while !queue.0.is_empty() {
                let (scope, bytes) = queue.0.swap_remove(rest.index(queue.0.len()));
                starts.give_back(&[scope], bytes);
            }
            prop_assert!(starts.scopes.is_empty());
            prop_assert_eq!((starts.all.items, starts.all.bytes), (0, 0));
        }
    }
}
