//! The live table: the current state of every key, in memory.
//!
//! It has an *entry* for each durable record, 16 bytes that say where the record is, and a *slot*
//! for each key that is held or whose record the vault doesn't have yet. A slot knows more than the
//! entry of the same key, and takes precedence.
//!
//! All of a key's state is under one lock, the lock of its shard. No file is accessed under that
//! lock.

mod counts;
mod entry;
mod loading;
mod slot;
mod table;
mod waiters;

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;
use siphasher::sip::SipHasher13;

use crate::canary;
use crate::clock::Timestamp;
use crate::error::Bound;
use crate::error::Error;
use crate::key::Key;
use crate::limits::PACKED_BITS;
use crate::local::change::{Change, ChangeKind, RecordId};
use crate::local::helper::Helper;
use crate::local::room::{Bounds, Room, Stage};
use crate::rules::record::Record;
use crate::rules::retention::{is_live, is_sweepable};
use crate::rules::{Claim, Decision, Event, Holder, Known};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
pub(crate) use counts::Counts;
use entry::{Entry, table_hash};
pub(crate) use loading::Loading;
use slot::{Slot, remove, remove_at_rest};
use table::take_out;
pub(crate) use waiters::{Outcome, Waiters};

const SHARD_BITS: u32 = 8;

/// The hash of the live table: SipHash-1-3 with the store's own key, so that no client can choose
/// idempotency keys that collide. It's the same for each version and each machine, so that it can
/// be stored.
pub(crate) struct Hash {
    hasher: SipHasher13,
    /// The bits of the hash that are used: all of them, unless a test wants keys to collide.
    mask: u64,
}

impl Hash {
    pub(crate) fn new(key: &[u8; 16], mask: u64) -> Self {
        Self { hasher: SipHasher13::new_with_key(key), mask }
    }

    fn of(&self, framed_key: &[u8]) -> u64 {
        self.hasher.hash(framed_key) & self.mask
    }
}

pub(crate) struct Index {
    hash: Hash,
    shards: Vec<Mutex<Shard>>,
    /// The room that the entries of all shards take up, and the slots that have no record yet.
    room: Room,
    next_serial: AtomicU64,
    helper: Arc<Helper>,
}

#[derive(Default)]
struct Shard {
    entries: HashTable<Entry>,
    slots: HashTable<Slot>,
    /// The latest time at which a key was asked for. A caller may have read the clock long before
    /// it acquires the lock: what has expired for one caller has expired for every later one.
    latest: Timestamp,
    /// Counts the durable changes, so that a reader that has released the lock can tell whether
    /// what it has read since may be out of date.
    version: u64,
}

/// A key, and the hash by which the table finds it.
#[derive(Clone, Copy)]
pub(crate) struct Located<K = Key> {
    pub(crate) key: K,
    pub(crate) hash: u64,
}

impl Located {
    pub(crate) fn by_ref(&self) -> Located<&Key> {
        Located { key: &self.key, hash: self.hash }
    }

    fn is(&self, other: Located<&Key>) -> bool {
        self.hash == other.hash && self.key == *other.key
    }
}

impl Located<&Key> {
    pub(crate) fn to_owned(self) -> Located {
        Located { key: self.key.clone(), hash: self.hash }
    }
}

/// The result of applying a rule to a key, from what is known of the key in memory.
pub(crate) enum Asked<T> {
    /// The rule's answer. The key is now held if the rule said so.
    Answered(T),
    /// The key would be held, but there is no room for it.
    Full(Bound),
    /// One of these records may belong to this key: read them, then call [`Index::claim`].
    Read(Candidates),
    /// The state of the key has changed: ask again.
    Changed,
}

/// Live records at rest that may belong to the key that was asked for.
pub(crate) struct Candidates {
    pub(crate) ids: Vec<RecordId>,
    version: u64,
}

impl Index {
    /// A table with room for this many records.
    pub(crate) fn with_capacity(
        records: usize,
        hash: Hash,
        bounds: Bounds,
        helper: Arc<Helper>,
    ) -> Self {
        let shard = || {
            let entries = HashTable::with_capacity(records >> SHARD_BITS);
            Mutex::new(Shard { entries, ..Shard::default() })
        };
        let shards = std::iter::repeat_with(shard).take(1 << SHARD_BITS).collect();
        Self { hash, shards, room: Room::new(bounds), next_serial: AtomicU64::new(0), helper }
    }

    fn hash(&self, framed_key: &[u8]) -> u64 {
        self.hash.of(framed_key)
    }

    pub(crate) fn locate<'k>(&self, key: &'k Key) -> Located<&'k Key> {
        Located { key, hash: self.hash(key.framed()) }
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many shards as the bits can say")]
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[Self::shard_at(hash)]
    }

    fn shard_at(hash: u64) -> usize {
        usize::try_from(hash >> (u64::BITS - SHARD_BITS)).expect("a shard's bits fit into a number")
    }

    /// A number that no record and no transaction has ever had.
    pub(crate) fn take_serial(&self) -> Result<u64, Error> {
        const END: u64 = 1 << PACKED_BITS;
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let overloaded = Error::Overloaded { bound: Bound::Serials { max: END } };
        if serial < END { Ok(serial) } else { Err(overloaded) }
    }

    /// The lowest number that the next record can get.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_serial.load(Ordering::Relaxed)
    }

    pub(crate) fn skip_serials_to(&self, next: u64) {
        self.next_serial.fetch_max(next, Ordering::Relaxed);
    }

    /// The room that the keys take up.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Inserts entries of one shard whose room is already counted.
    #[expect(clippy::indexing_slicing, reason = "it is the number of a shard")]
    fn insert_all(&self, at: usize, entries: impl IntoIterator<Item = Entry>) {
        let mut shard = self.shards[at].lock();
        for entry in entries {
            shard.insert_entry(entry);
        }
    }

    /// Adds a record that only the log has, before anyone can ask for its key.
    pub(crate) fn put_at_rest(&self, record: &Record) {
        let hash = self.hash(record.key.framed());
        let entry = Entry::new(hash, RecordId::of(record), record.state.is_started());
        self.room.add(record.key.framed(), Stage::of(record));
        self.insert_all(Self::shard_at(hash), [entry]);
        self.skip_serials_to(record.serial + 1);
    }

    /// Removes a record of the vault for which the log has a newer change.
    pub(crate) fn remove_at_rest(&self, framed_key: &[u8], id: RecordId, stage: Stage) {
        let hash = self.hash(framed_key);
        if self.shard(hash).lock().remove_entry(hash, id) {
            self.room.give_back(framed_key, stage);
        }
    }

    /// Applies a rule to a key, and lets the caller hold the key if the rule says so.
    pub(crate) fn ask<T>(
        &self,
        at: Located<&Key>,
        now: Timestamp,
        rule: impl Fn(Known<'_>) -> Decision<T>,
    ) -> Asked<T> {
        let mut shard = self.shard(at.hash).lock();
        let now = shard.not_before(now);
        if let Some(slot) = shard.slot(at) {
            let Decision { answer, claim } = rule(slot.known(now));
            return match claim.map_or(Ok(()), |claim| slot.claim(claim, now, &self.room)) {
                Ok(()) => Asked::Answered(answer),
                Err(bound) => Asked::Full(bound),
            };
        }
        match shard.candidates(at.hash, now) {
            Some(candidates) => Asked::Read(candidates),
            None => self.decide(&mut shard, at, Known::at_rest(None, now), rule),
        }
    }

    /// Applies a rule to a key at rest after its candidates have been read. `record` is the
    /// candidate that belongs to the key.
    pub(crate) fn claim<T>(
        &self,
        at: Located<&Key>,
        read: &Candidates,
        record: Option<&Arc<Record>>,
        now: Timestamp,
        rule: impl Fn(Known<'_>) -> Decision<T>,
    ) -> Asked<T> {
        let mut shard = self.shard(at.hash).lock();
        let now = shard.not_before(now);
        let is_unchanged = shard.version == read.version || canary::sings("reserves unchecked");
        if !is_unchanged || shard.slot(at).is_some() {
            return Asked::Changed;
        }
        self.decide(&mut shard, at, Known::at_rest(record, now), rule)
    }

    fn decide<T>(
        &self,
        shard: &mut Shard,
        at: Located<&Key>,
        known: Known<'_>,
        rule: impl Fn(Known<'_>) -> Decision<T>,
    ) -> Asked<T> {
        let Decision { answer, claim } = rule(known);
        let record = match claim {
            None => return Asked::Answered(answer),
            Some(Claim::Stored) => known.record.cloned(),
            Some(Claim::Free) => {
                if let Err(bound) = self.room.take(at.key.framed()) {
                    return Asked::Full(bound);
                }
                None
            }
        };
        shard.hold(at, known.now, record);
        Asked::Answered(answer)
    }

    /// Since when the key has been held, or was last held, if the table knows.
    pub(crate) fn since(&self, at: Located<&Key>) -> Option<Timestamp> {
        self.shard(at.hash).lock().slot(at).map(|slot| slot.since)
    }

    /// Whether the table has this record.
    pub(crate) fn has(&self, hash: u64, id: RecordId) -> bool {
        self.shard(hash).lock().entry(hash, id).is_some()
    }

    /// Updates the table for a change that has just become durable.
    pub(crate) fn apply(&self, change: &Change) {
        let Change { hash, kind } = change;
        let mut shard = self.shard(*hash).lock();
        shard.version += 1;
        if let ChangeKind::Move { from, to } = kind {
            assert!(*from < RecordId::of(to), "a record that moves expires later than before");
            shard.remove_entry(*hash, *from);
        }
        let record = kind.record();
        let at = Located { key: &record.key, hash: *hash };
        match kind {
            ChangeKind::Put(_) | ChangeKind::Move { .. } => {
                let is_started = record.state.is_started();
                shard.insert_entry(Entry::new(*hash, RecordId::of(record), is_started));
                let slot = shard.slot(at).expect("a key that changes is held");
                // The key's holder already has room for the record, since `begin` if there was
                // none.
                let known = slot.record.as_ref();
                let before = known.map_or(Stage::Reserved, |known| Stage::of(known));
                self.room.change(record.key.framed(), before, Stage::of(record));
                slot.put(record);
            }
            ChangeKind::Remove(_) => {
                if shard.remove_entry(*hash, RecordId::of(record)) {
                    self.room.give_back(record.key.framed(), Stage::of(record));
                }
                let slot = shard.slot_entry(at).expect("a key that changes is held");
                remove(slot).wake(Outcome::Gone);
            }
        }
    }

    /// The vault has this record now. A slot that was kept only until then is removed.
    pub(crate) fn settled(&self, hash: u64, record: &Arc<Record>) {
        let mut shard = self.shard(hash).lock();
        if let Some(mut slot) = shard.slot_entry(Located { key: &record.key, hash })
            && slot.get().record.as_ref().is_some_and(|known| Arc::ptr_eq(known, record))
        {
            slot.get_mut().settled = true;
            remove_at_rest(slot);
        }
    }

    /// The holder has released the key: from now on the durable state decides.
    pub(crate) fn let_go(&self, at: Located<&Key>) {
        let mut shard = self.shard(at.hash).lock();
        if let Some(mut slot) = shard.slot_entry(at) {
            if slot.get().record.is_none() {
                self.room.give_back(at.key.framed(), Stage::Reserved);
            }
            slot.get_mut().passes_on(Event::LetGo);
            slot.get_mut().wake(Outcome::Gone);
            remove_at_rest(slot);
        }
    }

    /// The execution continues without a handle.
    pub(crate) fn detach(&self, at: Located<&Key>) {
        let mut shard = self.shard(at.hash).lock();
        shard.slot(at).expect("an execution holds its key").passes_on(Event::Detached);
    }

    /// Joins the waiters of the key, if it is held.
    pub(crate) fn join_waiters(&self, at: Located<&Key>) -> Option<Arc<Waiters>> {
        let mut shard = self.shard(at.hash).lock();
        let slot = shard.slot(at).filter(|slot| slot.holder != Holder::Nobody)?;
        let waiters =
            slot.waiters.get_or_insert_with(|| Arc::new(Waiters::new(Arc::clone(&self.helper))));
        Some(Arc::clone(waiters))
    }

    /// Stops waiting. When the last waiter leaves, the key's waiters are freed.
    pub(crate) fn leave_waiters(&self, at: Located<&Key>, left: Arc<Waiters>) {
        let mut shard = self.shard(at.hash).lock();
        drop(left);
        if let Some(slot) = shard.slot(at)
            // Nobody can join under this lock.
            && slot.waiters.as_ref().is_some_and(|waiters| Arc::strong_count(waiters) == 1)
        {
            slot.waiters = None;
        }
    }

    /// Wakes everyone who waits for any key, to ask again.
    pub(crate) fn wake_all(&self) {
        for shard in &self.shards {
            shard.lock().slots.iter_mut().for_each(|slot| slot.wake(Outcome::Gone));
        }
    }

    /// Removes an expired record, unless its key is held. Returns whether the record can be
    /// deleted.
    pub(crate) fn expire(
        &self,
        framed_key: &[u8],
        id: RecordId,
        stage: Stage,
        now: Timestamp,
    ) -> bool {
        let hash = self.hash(framed_key);
        let mut shard = self.shard(hash).lock();
        let holder = shard
            .slots
            .find(table_hash(hash), |slot| slot.at.key.framed() == framed_key && slot.is_of(id))
            .filter(|_| !canary::sings("sweeps what is held"))
            .map_or(Holder::Nobody, |slot| slot.holder);
        // If the vault's row is out of date, the next settle would bring it back.
        let is_started = shard.entry(hash, id).map(|entry| entry.is_started());
        let is_behind = is_started.is_some_and(|started| started != (stage == Stage::Started));
        if is_behind || !is_sweepable(id.expires_at, holder, now) {
            return false;
        }
        if shard.remove_entry(hash, id) {
            self.room.give_back(framed_key, stage);
        }
        true
    }

    /// Counts the keys of the table, shard by shard.
    pub(crate) fn count(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for shard in &self.shards {
            shard.lock().count(now, &mut counts);
        }
        counts
    }
}

impl Shard {
    /// This time, or the latest time at which a key was asked for if that is later.
    fn not_before(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        match self.latest {
            _ if canary::sings("goes by an old time") => now,
            latest if canary::sings("expires a moment late") => {
                Timestamp::from_unix_ms(latest.as_unix_ms().saturating_sub(1))
            }
            latest => latest,
        }
    }

    fn slot(&mut self, at: Located<&Key>) -> Option<&mut Slot> {
        self.slots.find_mut(table_hash(at.hash), |slot| slot.at.is(at))
    }

    fn slot_entry(&mut self, at: Located<&Key>) -> Option<OccupiedEntry<'_, Slot>> {
        self.slots.find_entry(table_hash(at.hash), |slot| slot.at.is(at)).ok()
    }

    /// Lets the caller hold a key that nobody holds and that has no slot.
    fn hold(&mut self, at: Located<&Key>, now: Timestamp, record: Option<Arc<Record>>) {
        let slot = Slot::claimed(at.to_owned(), now, record);
        self.slots.insert_unique(table_hash(at.hash), slot, |slot| table_hash(slot.at.hash));
    }

    /// The records that may belong to a key that has this hash and no slot. A record that a slot
    /// knows belongs to another key, and the vault may not have it yet, so it is left out.
    fn candidates(&self, hash: u64, now: Timestamp) -> Option<Candidates> {
        let ids: Vec<_> = self
            .entries
            .iter_hash(table_hash(hash))
            .filter(|entry| entry.agrees_with(hash))
            .map(|entry| entry.id())
            .filter(|id| is_live(id.expires_at, now) && !self.has_slot_of(hash, *id))
            .collect();
        if ids.is_empty() { None } else { Some(Candidates { ids, version: self.version }) }
    }

    fn has_slot_of(&self, hash: u64, id: RecordId) -> bool {
        self.slots.iter_hash(table_hash(hash)).any(|slot| slot.is_of(id))
    }

    /// Whether the entry is new.
    fn insert_entry(&mut self, entry: Entry) -> bool {
        let hash = entry.table_hash();
        if let Some(known) = self.entries.find_mut(hash, |known| known.is_same_record(entry)) {
            *known = entry;
            return false;
        }
        self.entries.insert_unique(hash, entry, |entry| entry.table_hash());
        true
    }

    fn entry(&self, hash: u64, id: RecordId) -> Option<&Entry> {
        self.entries.find(table_hash(hash), |entry| entry.is_of(hash, id))
    }

    /// Whether the entry was there.
    fn remove_entry(&mut self, hash: u64, id: RecordId) -> bool {
        let found = self.entries.find_entry(table_hash(hash), |entry| entry.is_of(hash, id));
        found.map(|entry| take_out(entry, |entry| entry.table_hash())).is_ok()
    }
}

#[cfg(test)]
mod tests;
