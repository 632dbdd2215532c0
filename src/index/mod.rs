//! The live table: what is true now of every key, in memory.
//!
//! It has an *entry* for each durable record, 16 bytes that say where the record stands, and a
//! *slot* for each key that somebody holds or whose record the vault does not have yet. A slot
//! knows more than the entry of the same key and is asked first.
//!
//! All of a key is under one lock, that of its shard. No file is touched under it.

mod entry;
mod slot;
mod waiters;

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::limits::PACKED_BITS;
use crate::record::{Change, ChangeKind, Record, RecordId};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::transition::{self, Holder};
use entry::{Entry, table_hash};
use slot::{Slot, remove_at_rest};
pub(crate) use waiters::{Outcome, Waiters};

const SHARD_BITS: u32 = 8;

pub(crate) struct Index {
    hasher: RandomState,
    /// The bits of a hash that are used: all of them, unless a test wants keys to collide.
    hash_mask: u64,
    shards: Vec<Mutex<Shard>>,
    /// Entries of all shards.
    records: AtomicUsize,
    next_serial: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashTable<Entry>,
    slots: HashTable<Slot>,
    /// Counts the changes made durable, so that a reader who let go of the lock can tell whether
    /// what it has read since may be out of date.
    version: u64,
}

/// What `begin` finds in memory.
pub(crate) enum Probe {
    /// The key was free, and is reserved now for whoever asked.
    Reserved,
    Replay(Arc<Record>),
    InFlight {
        since: Timestamp,
    },
    Mismatch,
    /// The started record, reserved now for whoever asked.
    Interrupted(Arc<Record>),
    /// One of these records may be of this key: read them, then call [`Index::settle_probe`].
    Read(Candidates),
}

/// What `complete` and `abandon` by key find in memory.
pub(crate) enum Attach {
    /// Detached until now; held by whoever asked from now on.
    Execution(Arc<Record>),
    /// Interrupted until now; reserved for whoever asked from now on.
    Interrupted(Arc<Record>),
    Held,
    NotExecuting,
    /// One of these records may be of this key: read them, then call [`Index::settle_probe`].
    Read(Candidates),
}

/// Records at rest whose keys may be the one that was asked for, all of them live.
pub(crate) struct Candidates {
    pub(crate) ids: Vec<RecordId>,
    version: u64,
}

/// What reading the candidates has shown.
pub(crate) enum Verdict {
    /// None of them is of this key.
    Free,
    /// This one is, started and not completed.
    Interrupted(Arc<Record>),
}

impl Index {
    /// A table with room for this many records.
    pub(crate) fn with_capacity(records: usize, hash_mask: u64) -> Self {
        let shard = || {
            let entries = HashTable::with_capacity(records >> SHARD_BITS);
            Mutex::new(Shard { entries, ..Shard::default() })
        };
        let shards = std::iter::repeat_with(shard).take(1 << SHARD_BITS).collect();
        Self {
            hasher: RandomState::new(),
            hash_mask,
            shards,
            records: AtomicUsize::new(0),
            next_serial: AtomicU64::new(0),
        }
    }

    pub(crate) fn hash(&self, framed_key: &[u8]) -> u64 {
        self.hasher.hash_one(framed_key) & self.hash_mask
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        let at = usize::try_from(hash >> (u64::BITS - SHARD_BITS)).unwrap_or_default();
        #[expect(clippy::indexing_slicing, reason = "there are as many shards as the bits can say")]
        &self.shards[at]
    }

    /// A number that no record has had, or `None` once all are used up.
    pub(crate) fn take_serial(&self) -> Option<u64> {
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        (serial < 1 << PACKED_BITS).then_some(serial)
    }

    /// The number that the next record gets at the earliest.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_serial.load(Ordering::Relaxed)
    }

    pub(crate) fn skip_serials_to(&self, next: u64) {
        self.next_serial.fetch_max(next, Ordering::Relaxed);
    }

    pub(crate) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Takes in a record that the scan at open has found in the vault.
    pub(crate) fn load(&self, framed_key: &[u8], id: RecordId) {
        let hash = self.hash(framed_key);
        self.skip_serials_to(id.serial + 1);
        if self.shard(hash).lock().insert_entry(hash, id) {
            self.records.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers `begin` from memory, and reserves the key if the answer is one to go on with.
    pub(crate) fn probe(
        &self,
        key: &Key,
        hash: u64,
        fingerprint: &Fingerprint,
        now: Timestamp,
    ) -> Probe {
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.slot(key, hash) {
            return slot.begin(fingerprint, now);
        }
        if let Some(candidates) = shard.candidates(hash, now) {
            return Probe::Read(candidates);
        }
        shard.reserve(key, hash, now, None);
        Probe::Reserved
    }

    /// Acts on what reading the candidates has shown, if it still holds: `None` if the key has
    /// moved on meanwhile, and must be probed again.
    pub(crate) fn settle_probe(
        &self,
        key: &Key,
        hash: u64,
        read: &Candidates,
        verdict: Verdict,
        now: Timestamp,
    ) -> Option<Probe> {
        let mut shard = self.shard(hash).lock();
        if shard.version != read.version || shard.slot(key, hash).is_some() {
            return None;
        }
        Some(match verdict {
            Verdict::Free => {
                shard.reserve(key, hash, now, None);
                Probe::Reserved
            }
            Verdict::Interrupted(record) => {
                shard.reserve(key, hash, now, Some(Arc::clone(&record)));
                Probe::Interrupted(record)
            }
        })
    }

    /// Whether this record counts.
    pub(crate) fn has(&self, hash: u64, id: RecordId) -> bool {
        self.shard(hash).lock().has_entry(Entry::new(hash, id))
    }

    /// What is true once this change is durable.
    pub(crate) fn apply(&self, change: &Change) {
        let Change { hash, kind } = change;
        let mut shard = self.shard(*hash).lock();
        shard.version += 1;
        match kind {
            ChangeKind::Put(record) => {
                if shard.insert_entry(*hash, record.id) {
                    self.records.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(slot) = shard.slot(&record.key, *hash) {
                    slot.put(record);
                }
            }
            ChangeKind::Remove(record) => {
                if shard.remove_entry(*hash, record.id) {
                    self.records.fetch_sub(1, Ordering::Relaxed);
                }
                if let Some(slot) = shard.slot_entry(&record.key, *hash) {
                    slot.remove().0.wake(Outcome::Gone);
                }
            }
        }
    }

    /// The vault has this record now: a slot that was only there for its sake can go.
    pub(crate) fn settled(&self, hash: u64, record: &Arc<Record>) {
        let mut shard = self.shard(hash).lock();
        if let Some(mut slot) = shard.slot_entry(&record.key, hash)
            && slot.get().record.as_ref().is_some_and(|known| Arc::ptr_eq(known, record))
        {
            slot.get_mut().settled = true;
            remove_at_rest(slot);
        }
    }

    /// The holder of the key has let go of it: what is durable decides from now on.
    pub(crate) fn let_go(&self, key: &Key, hash: u64) {
        let mut shard = self.shard(hash).lock();
        if let Some(mut slot) = shard.slot_entry(key, hash) {
            slot.get_mut().holder = Holder::Nobody;
            slot.get_mut().wake(Outcome::Gone);
            remove_at_rest(slot);
        }
    }

    /// The execution goes on without a handle.
    pub(crate) fn detach(&self, key: &Key, hash: u64) {
        if let Some(slot) = self.shard(hash).lock().slot(key, hash) {
            slot.holder = Holder::Detached;
        }
    }

    /// Takes in hand an execution that nobody holds, to finish it by its key.
    pub(crate) fn attach(&self, key: &Key, hash: u64, now: Timestamp) -> Attach {
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.slot(key, hash) {
            return slot.attach(now);
        }
        shard.candidates(hash, now).map_or(Attach::NotExecuting, Attach::Read)
    }

    /// Joins those who wait for the key, if somebody holds it.
    pub(crate) fn join_waiters(&self, key: &Key, hash: u64) -> Option<Arc<Waiters>> {
        let mut shard = self.shard(hash).lock();
        let slot = shard.slot(key, hash).filter(|slot| slot.holder != Holder::Nobody)?;
        Some(Arc::clone(slot.waiters.get_or_insert_default()))
    }

    /// Wakes all who wait for any key, to ask again.
    pub(crate) fn wake_all(&self) {
        for shard in &self.shards {
            shard.lock().slots.iter_mut().for_each(|slot| slot.wake(Outcome::Gone));
        }
    }

    /// Forgets an expired record, unless somebody holds its key.
    pub(crate) fn expire(&self, framed_key: &[u8], id: RecordId, now: Timestamp) -> bool {
        let hash = self.hash(framed_key);
        let mut shard = self.shard(hash).lock();
        let holder = shard
            .slots
            .find(table_hash(hash), |slot| {
                slot.key.framed() == framed_key
                    && slot.record.as_ref().is_some_and(|record| record.id == id)
            })
            .map_or(Holder::Nobody, |slot| slot.holder);
        if !transition::is_sweepable(id, holder, now) {
            return false;
        }
        if shard.remove_entry(hash, id) {
            self.records.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }

    /// Keys that somebody holds.
    pub(crate) fn held(&self) -> usize {
        let held = |slot: &&Slot| slot.holder != Holder::Nobody;
        self.shards.iter().map(|shard| shard.lock().slots.iter().filter(held).count()).sum()
    }
}

impl Shard {
    fn slot(&mut self, key: &Key, hash: u64) -> Option<&mut Slot> {
        self.slots.find_mut(table_hash(hash), |slot| slot.hash == hash && slot.key == *key)
    }

    fn reserve(&mut self, key: &Key, hash: u64, now: Timestamp, record: Option<Arc<Record>>) {
        let slot = Slot {
            hash,
            key: key.clone(),
            holder: Holder::Reservation,
            since: now,
            // Only the vault can have told of a record that had no slot.
            settled: record.is_some(),
            record,
            waiters: None,
        };
        self.slots.insert_unique(table_hash(hash), slot, |slot| table_hash(slot.hash));
    }

    fn slot_entry(&mut self, key: &Key, hash: u64) -> Option<OccupiedEntry<'_, Slot>> {
        let is_it = |slot: &Slot| slot.hash == hash && slot.key == *key;
        self.slots.find_entry(table_hash(hash), is_it).ok()
    }

    /// The records that may be of a key with this hash that has no slot. A record that a slot
    /// knows is of another key, and the vault may not have it yet.
    fn candidates(&self, hash: u64, now: Timestamp) -> Option<Candidates> {
        let ids: Vec<_> = self
            .entries
            .iter_hash(table_hash(hash))
            .filter(|entry| entry.agrees_with(hash))
            .map(|entry| entry.id())
            .filter(|id| transition::is_live(*id, now) && !self.has_slot_of(hash, *id))
            .collect();
        if ids.is_empty() { None } else { Some(Candidates { ids, version: self.version }) }
    }

    fn has_slot_of(&self, hash: u64, id: RecordId) -> bool {
        self.slots
            .iter_hash(table_hash(hash))
            .any(|slot| slot.record.as_ref().is_some_and(|record| record.id == id))
    }

    /// Whether the entry is new.
    fn insert_entry(&mut self, hash: u64, id: RecordId) -> bool {
        let entry = Entry::new(hash, id);
        let is_new = !self.has_entry(entry);
        if is_new {
            self.entries.insert_unique(entry.table_hash(), entry, |entry| entry.table_hash());
        }
        is_new
    }

    fn has_entry(&self, entry: Entry) -> bool {
        self.entries.find(entry.table_hash(), |other| *other == entry).is_some()
    }

    /// Whether the entry was there.
    fn remove_entry(&mut self, hash: u64, id: RecordId) -> bool {
        let entry = Entry::new(hash, id);
        let found = self.entries.find_entry(entry.table_hash(), |other| *other == entry);
        found.map(OccupiedEntry::remove).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: u64 = 0x1234_5678_9ABC_DEF0;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn index() -> Index {
        Index::with_capacity(0, u64::MAX)
    }

    fn started(key: &Key, serial: u64) -> Arc<Record> {
        let id = RecordId { expires_at: at(100), serial };
        Arc::new(transition::start(id, key.clone(), Fingerprint::NONE, at(0)))
    }

    /// Starts a key whose hash is that of all others here.
    fn start(index: &Index, key: &Key, serial: u64) -> Arc<Record> {
        assert!(matches!(index.probe(key, HASH, &Fingerprint::NONE, at(0)), Probe::Reserved));
        let record = started(key, serial);
        index.apply(&Change { hash: HASH, kind: ChangeKind::Put(Arc::clone(&record)) });
        record
    }

    #[test]
    fn a_key_with_the_hash_of_one_that_is_not_settled_is_free() {
        let index = index();
        let (one, other) = (Key::new("one").expect("a key"), Key::new("other").expect("a key"));
        start(&index, &one, 1);
        // The vault does not have that record, so there is nothing to read.
        let probe = index.probe(&other, HASH, &Fingerprint::NONE, at(0));
        assert!(matches!(probe, Probe::Reserved));
        assert!(matches!(
            index.probe(&one, HASH, &Fingerprint::NONE, at(0)),
            Probe::InFlight { .. }
        ));
    }

    #[test]
    fn a_key_with_the_hash_of_one_that_is_settled_costs_a_read() {
        let index = index();
        let (one, other) = (Key::new("one").expect("a key"), Key::new("other").expect("a key"));
        let record = start(&index, &one, 1);
        index.settled(HASH, &record);
        index.let_go(&one, HASH);
        let Probe::Read(read) = index.probe(&other, HASH, &Fingerprint::NONE, at(0)) else {
            panic!("the record may be of this key")
        };
        assert_eq!(read.ids, [record.id]);
        let probe = index.settle_probe(&other, HASH, &read, Verdict::Free, at(0));
        assert!(matches!(probe, Some(Probe::Reserved)));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_acted_on() {
        let index = index();
        let one = Key::new("one").expect("a key");
        let record = start(&index, &one, 1);
        index.settled(HASH, &record);
        index.let_go(&one, HASH);
        let Probe::Read(read) = index.probe(&one, HASH, &Fingerprint::NONE, at(0)) else {
            panic!("the record is of this key")
        };
        // Meanwhile somebody else has taken it over, finished it, and it has been settled.
        index.apply(&Change { hash: HASH, kind: ChangeKind::Remove(Arc::clone(&record)) });
        let verdict = Verdict::Interrupted(record);
        assert!(index.settle_probe(&one, HASH, &read, verdict, at(0)).is_none());
    }
}
