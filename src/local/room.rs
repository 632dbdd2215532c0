//! Room: how many keys the store has and how many bytes they count for, so that a bound stops an
//! operation before it starts, and never after.
//!
//! A key takes its room at `begin`. A reserved key or a started operation counts with the longest
//! possible result, since it must be possible to complete it. A completed operation counts with its
//! actual result.

use std::collections::HashMap;

use crate::error::Bound;
use crate::rules::record::{Kept, Record, State};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What a record counts for besides its key and its result: fingerprint, times and numbers, and its
/// place in the vault.
const RECORD_BYTES: u64 = 128;

/// A table of scopes with room for this many or fewer never shrinks.
const SCOPES_MIN: usize = 1_000;

/// The bounds of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) keys: usize,
    /// `None` if there is no bound.
    pub(crate) bytes: Option<u64>,
    pub(crate) scope_bytes: Option<u64>,
    /// Length of the longest result in bytes.
    pub(crate) result_len: usize,
}

/// How far the operation of a key has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing is stored yet.
    Reserved,
    /// It may still be completed, with a result of any length.
    Started,
    /// This many bytes of its result are kept.
    Completed(u64),
}

impl Stage {
    /// How far the operation of this record has got.
    pub(crate) fn of(record: &Record) -> Self {
        match &record.state {
            State::Started { .. } => Self::Started,
            State::Completed { kept: Kept::Whole(result), .. } => {
                Self::Completed(result.len() as u64)
            }
            State::Completed { kept: Kept::Digest(_), .. } => Self::Completed(0),
        }
    }
}

pub(crate) struct Room {
    bounds: Bounds,
    keys: AtomicU64,
    bytes: AtomicU64,
    /// Keys whose operation is started and not completed.
    started: AtomicU64,
    /// The bytes of each scope that has any, if scopes are bounded.
    scopes: Mutex<HashMap<Box<[u8]>, u64>>,
}

impl Room {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let [keys, bytes, started] = [0; 3].map(AtomicU64::new);
        Self { bounds, keys, bytes, started, scopes: Mutex::default() }
    }

    /// Bytes that this key counts for.
    fn of(&self, framed_key: &[u8], stage: Stage) -> u64 {
        let result_len = match stage {
            Stage::Reserved | Stage::Started => self.bounds.result_len as u64,
            Stage::Completed(len) => len,
        };
        RECORD_BYTES + framed_key.len() as u64 + result_len
    }

    /// Takes room for one more key, which has no result yet.
    pub(crate) fn take(&self, framed_key: &[u8]) -> Result<(), Bound> {
        let bytes = self.of(framed_key, Stage::Reserved);
        let max = self.bounds.keys;
        add_within(&self.keys, 1, Some(max as u64)).map_err(|_| Bound::Keys { max })?;
        if let Err(max) = add_within(&self.bytes, bytes, self.bounds.bytes) {
            self.keys.fetch_sub(1, Ordering::Relaxed);
            return Err(Bound::Bytes { max });
        }
        if let Some(max) = self.bounds.scope_bytes
            && !self.add_to_scope(framed_key, bytes, max)
        {
            self.keys.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Bound::ScopeBytes { max });
        }
        Ok(())
    }

    fn add_to_scope(&self, framed_key: &[u8], bytes: u64, max: u64) -> bool {
        let mut scopes = self.scopes.lock();
        let used = scopes.get(scope_of(framed_key)).copied().unwrap_or_default();
        let fits = used.checked_add(bytes).is_some_and(|sum| sum <= max);
        if fits {
            scopes.insert(scope_of(framed_key).into(), used + bytes);
        }
        fits
    }

    /// Counts an existing key, whatever the bounds are.
    pub(crate) fn add(&self, framed_key: &[u8], stage: Stage) {
        self.keys.fetch_add(1, Ordering::Relaxed);
        self.count_started(u64::from(stage == Stage::Started));
        self.exchange(framed_key, 0, self.of(framed_key, stage));
    }

    /// Removes a key that had got to this stage.
    pub(crate) fn give_back(&self, framed_key: &[u8], stage: Stage) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.count_started(0_u64.wrapping_sub(u64::from(stage == Stage::Started)));
        self.exchange(framed_key, self.of(framed_key, stage), 0);
    }

    /// Moves a key from one stage to another.
    pub(crate) fn change(&self, framed_key: &[u8], from: Stage, to: Stage) {
        let is_started = |stage| u64::from(stage == Stage::Started);
        self.count_started(is_started(to).wrapping_sub(is_started(from)));
        let (from, to) = (self.of(framed_key, from), self.of(framed_key, to));
        if from != to {
            self.exchange(framed_key, from, to);
        }
    }

    fn count_started(&self, more: u64) {
        if more != 0 {
            self.started.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn exchange(&self, framed_key: &[u8], from: u64, to: u64) {
        self.bytes.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
        if self.bounds.scope_bytes.is_none() {
            return;
        }
        let mut scopes = self.scopes.lock();
        let used = scopes.get(scope_of(framed_key)).copied().unwrap_or_default();
        match used.wrapping_sub(from).wrapping_add(to) {
            0 => {
                scopes.remove(scope_of(framed_key));
                // Shrink as the tables of keys do.
                if SCOPES_MIN < scopes.capacity() && scopes.len() < scopes.capacity() / 4 {
                    let room = 2 * scopes.len();
                    scopes.shrink_to(room);
                }
            }
            used => drop(scopes.insert(scope_of(framed_key).into(), used)),
        }
    }

    /// Length of the longest result that the store accepts, in bytes.
    pub(crate) fn result_len_max(&self) -> usize {
        self.bounds.result_len
    }

    /// Keys that are stored or reserved.
    pub(crate) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Keys whose operation is started and not completed.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Bytes that all keys count for.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Adds `more` if the sum stays within the bound. Otherwise returns the bound as the error.
fn add_within(counter: &AtomicU64, more: u64, max: Option<u64>) -> Result<(), u64> {
    let Some(max) = max else {
        counter.fetch_add(more, Ordering::Relaxed);
        return Ok(());
    };
    let fits = |sum: u64| sum.checked_add(more).filter(|sum| *sum <= max);
    let added = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
    added.map(drop).map_err(|_| max)
}

/// The scope of a key, with its length in front.
fn scope_of(framed_key: &[u8]) -> &[u8] {
    let len = framed_key.first().expect("a key has its scope's length in front");
    framed_key.get(..=usize::from(*len)).expect("the scope is behind its length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    const RESULT_LEN_MAX: u64 = 1_000;

    fn room(keys: usize, bytes: Option<u64>, scope_bytes: Option<u64>) -> Room {
        let result_len = usize::try_from(RESULT_LEN_MAX).expect("it is small");
        Room::new(Bounds { keys, bytes, scope_bytes, result_len })
    }

    fn key(scope: &str, key: &str) -> Key {
        Key::scoped(scope, key).expect("it is a key")
    }

    /// What a key of one byte counts for while it has no result.
    const RESERVED: u64 = RECORD_BYTES + 2 + RESULT_LEN_MAX;

    #[test]
    fn what_is_refused_takes_nothing() {
        let one = key("", "1");
        let full = [
            (room(2, None, None), Bound::Keys { max: 2 }),
            (room(9, Some(3 * RESERVED - 1), None), Bound::Bytes { max: 3 * RESERVED - 1 }),
            (room(9, None, Some(2 * RESERVED)), Bound::ScopeBytes { max: 2 * RESERVED }),
        ];
        for (room, bound) in full {
            for _ in 0..2 {
                assert_eq!(room.take(one.framed()), Ok(()));
            }
            assert_eq!(room.take(one.framed()), Err(bound));
            assert_eq!((room.keys(), room.bytes()), (2, 2 * RESERVED));
            // A result shorter than the longest one gives the rest back.
            room.change(one.framed(), Stage::Reserved, Stage::Started);
            room.change(one.framed(), Stage::Started, Stage::Completed(0));
            assert_eq!(room.started(), 0);
            room.give_back(one.framed(), Stage::Reserved);
            assert_eq!((room.keys(), room.bytes()), (1, RECORD_BYTES + 2));
            assert_eq!(room.take(one.framed()), Ok(()), "{bound:?}");
        }
    }

    #[test]
    fn each_scope_has_room_of_its_own() {
        let room = room(9, None, Some(RESERVED + 5));
        let (ours, theirs) = (key("us", "1"), key("them", "1"));
        assert_eq!(room.take(ours.framed()), Ok(()));
        assert!(room.take(key("us", "2").framed()).is_err());
        assert_eq!(room.take(theirs.framed()), Ok(()));
        room.give_back(ours.framed(), Stage::Reserved);
        assert_eq!(room.take(key("us", "2").framed()), Ok(()));
        room.give_back(key("us", "2").framed(), Stage::Reserved);
        room.give_back(theirs.framed(), Stage::Reserved);
        assert_eq!((room.keys(), room.bytes(), room.scopes.lock().len()), (0, 0, 0));
    }

    #[test]
    fn scopes_that_have_nothing_any_more_take_no_memory() {
        let room = room(usize::MAX, None, Some(RESERVED + 5));
        let keys: Vec<_> = (0..20_000).map(|number| key(&number.to_string(), "1")).collect();
        for key in &keys {
            assert_eq!(room.take(key.framed()), Ok(()));
        }
        for key in &keys {
            room.give_back(key.framed(), Stage::Reserved);
        }
        assert!(room.scopes.lock().capacity() < 2 * SCOPES_MIN);
    }
}
