//! Places for the bytes that a started operation stores: its result, or a checkpoint on the way.
//!
//! A started operation is never refused because of what others have queued. But its bytes are
//! copied only once there is a place for them, so that the copies are bounded all the same: until
//! then, only the caller has the bytes. Places are given in the order in which they were requested.

use std::collections::VecDeque;
use std::mem;

use super::pending::Pending;
use super::turn::Turn;
use crate::error::Error;
use crate::limits::{PLACED_BYTES_MAX, UNPLACED_LEN_MAX};
use crate::local::helper::Helper;
use crate::sync::{Arc, Mutex};

pub(crate) struct Places {
    state: Mutex<State>,
    helper: Arc<Helper>,
}

#[derive(Default)]
struct State {
    /// Bytes of all places in use.
    used: usize,
    /// The callers that wait for a place, and the bytes that each needs.
    waiting: VecDeque<(Arc<Turn>, usize)>,
    /// Why no place is given any longer.
    refusal: Option<Error>,
}

/// A place for some bytes, until it is dropped; or the wait for one.
pub(crate) struct Place {
    places: Arc<Places>,
    bytes: usize,
    /// Finished when the wait is over.
    turn: Arc<Turn>,
}

impl Places {
    pub(crate) fn new(helper: Arc<Helper>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), helper })
    }

    /// A place for `bytes`, which the caller must wait for. Few bytes need no place: there can be
    /// no more of them than there are operations.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        if bytes <= UNPLACED_LEN_MAX {
            return None;
        }
        let turn = Arc::<Turn>::default();
        let mut state = self.state.lock();
        if let Some(refusal) = &state.refusal {
            turn.finish(Err(refusal.clone()));
            return Some(Place { places: Arc::clone(self), bytes: 0, turn });
        }
        state.waiting.push_back((Arc::clone(&turn), bytes));
        // The caller doesn't have the turn yet, so there's nobody to notify.
        drop(state.give());
        Some(Place { places: Arc::clone(self), bytes, turn })
    }

    /// Gives no more places, and ends all waits with this error.
    ///
    /// The caller may hold locks.
    pub(crate) fn refuse(&self, reason: &Error) {
        let mut state = self.state.lock();
        state.refusal.get_or_insert_with(|| reason.clone());
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        let ended = waiting.into_iter().map(|(turn, _)| {
            turn.finish(Err(reason.clone()));
            turn
        });
        self.tell(ended.collect());
    }

    /// Notifies those whose wait is over. The caller may hold locks, so the helper notifies
    /// futures.
    fn tell(&self, turns: Vec<Arc<Turn>>) {
        for turn in turns {
            if turn.has_listeners() {
                self.helper.send(Box::new(move || turn.announce()));
            }
        }
    }
}

impl State {
    /// Gives places to waiting callers, while there is room. If no place is in use, one of any
    /// length is given.
    fn give(&mut self) -> Vec<Arc<Turn>> {
        let mut given = Vec::new();
        while let Some((_, bytes)) = self.waiting.front()
            && (self.used == 0 || self.used + bytes <= PLACED_BYTES_MAX)
            && let Some((turn, bytes)) = self.waiting.pop_front()
        {
            self.used += bytes;
            turn.finish(Ok(()));
            given.push(turn);
        }
        given
    }
}

impl Place {
    /// Returns once there is a place.
    pub(crate) fn wait(self) -> Result<Self, Error> {
        // This turn is never asked to lead.
        let outcome = std::iter::repeat_with(|| self.turn.wait()).find_map(|outcome| outcome);
        outcome.expect("it is asked until there is one").map(|()| self)
    }

    /// Like [`Place::wait`], as a future.
    pub(crate) async fn arrival(self) -> Result<Self, Error> {
        Pending::new(Arc::clone(&self.turn)).await.map(|()| self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        // Under this lock it either has a place or is in the queue. After a refusal it is neither.
        if self.turn.is_granted() {
            state.used -= self.bytes;
        } else {
            state.waiting.retain(|(turn, _)| !Arc::ptr_eq(turn, &self.turn));
        }
        let given = state.give();
        drop(state);
        self.places.tell(given);
    }
}

/// Waits for a place, if one is needed.
pub(crate) fn wait(place: Result<Option<Place>, Error>) -> Result<Option<Place>, Error> {
    place?.map(Place::wait).transpose()
}

/// Like [`wait`], as a future.
pub(crate) async fn arrival(place: Result<Option<Place>, Error>) -> Result<Option<Place>, Error> {
    match place? {
        Some(place) => place.arrival().await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF: usize = PLACED_BYTES_MAX / 2;

    fn places() -> Arc<Places> {
        Places::new(Arc::default())
    }

    fn take(places: &Arc<Places>, bytes: usize) -> Place {
        places.take(bytes).expect("so many bytes need a place")
    }

    #[test]
    fn few_bytes_need_no_place() {
        assert!(places().take(UNPLACED_LEN_MAX).is_none());
    }

    #[test]
    fn places_are_given_in_order_and_as_far_as_there_is_room() {
        let places = places();
        let (first, second) = (take(&places, HALF), take(&places, HALF));
        let (long, short) = (take(&places, HALF), take(&places, UNPLACED_LEN_MAX + 1));
        assert!(first.turn.is_granted() && second.turn.is_granted());
        // The short one would fit sooner, but then the long one might wait for ever.
        assert!(!long.turn.is_granted() && !short.turn.is_granted());
        drop(first);
        assert!(long.turn.is_granted() && !short.turn.is_granted());
        drop((second, long));
        assert!(short.turn.is_granted());
        drop(short);
        assert_eq!(places.state.lock().used, 0);
    }

    #[test]
    fn one_that_leaves_while_it_waits_leaves_no_trace() {
        let places = places();
        let (first, second) = (take(&places, HALF), take(&places, PLACED_BYTES_MAX));
        let third = take(&places, HALF);
        drop(second);
        assert!(third.turn.is_granted());
        drop((first, third));
        assert!(places.state.lock().waiting.is_empty());
        assert_eq!(places.state.lock().used, 0);
    }

    #[test]
    fn a_place_of_any_length_is_given_if_it_is_alone() {
        let places = places();
        let alone = take(&places, 3 * PLACED_BYTES_MAX).wait().map_err(drop);
        assert!(alone.is_ok());
        assert!(!take(&places, HALF).turn.is_granted());
    }

    #[test]
    fn a_refusal_ends_all_waits_and_takes_nothing_from_those_that_have_a_place() {
        let places = places();
        let (given, waiting) = (take(&places, PLACED_BYTES_MAX), take(&places, HALF));
        places.refuse(&Error::Closed);
        assert!(matches!(waiting.wait(), Err(Error::Closed)));
        assert!(matches!(take(&places, HALF).wait(), Err(Error::Closed)));
        assert_eq!(places.state.lock().used, PLACED_BYTES_MAX);
        drop(given);
        assert_eq!(places.state.lock().used, 0);
    }

    /// Marks the requests, in their order, that must have a place now.
    fn note_given(asked: &mut [(Place, usize, bool)]) {
        let mut used: usize =
            asked.iter().filter(|(.., has)| *has).map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, has) in asked.iter_mut().filter(|(.., has)| !has) {
            if 0 < used && PLACED_BYTES_MAX < used + *bytes {
                return;
            }
            (used, *has) = (used + *bytes, true);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn places_are_given_in_order_also_if_some_leave(
            ops in prop::collection::vec((0..5_usize, any::<prop::sample::Index>()), 1..120),
            rest in any::<prop::sample::Index>(),
        ) {
            const LENS: [usize; 3] = [UNPLACED_LEN_MAX + 1, HALF - 1, 3 * HALF];
            let (places, mut asked) = (places(), Vec::new());
            for (op, at) in ops {
                match LENS.get(op) {
                    Some(bytes) => asked.push((take(&places, *bytes), *bytes, false)),
                    None if asked.is_empty() => {}
                    // Either with its place, or while it waits for one.
                    None => drop(asked.remove(at.index(asked.len()))),
                }
                note_given(&mut asked);
                for (place, _, has) in &asked {
                    prop_assert_eq!(place.turn.is_granted(), *has);
                }
                prop_assert!(asked.is_empty() || asked.iter().any(|(.., has)| *has), "all wait");
            }
            while !asked.is_empty() {
                drop(asked.swap_remove(rest.index(asked.len())));
            }
            let state = places.state.lock();
            prop_assert_eq!((state.used, state.waiting.len()), (0, 0));
        }
    }
}
