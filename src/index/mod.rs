//! The live table: what is true now of every key, in memory.
//!
//! It has an *entry* for each durable record, 16 bytes that say where the record stands, and a
//! *slot* for each key that somebody holds or whose record the vault does not have yet. A slot
//! knows more than the entry of the same key and is asked first.
//!
//! All of a key is under one lock, that of its shard. No file is touched under it.

mod counts;
mod entry;
mod loading;
mod slot;
mod table;
mod waiters;

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;
use siphasher::sip::SipHasher13;

use crate::bound::Bound;
use crate::canary;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::{Fingerprint, Key};
use crate::limits::PACKED_BITS;
use crate::record::{Change, ChangeKind, Record, RecordId};
use crate::room::{Bounds, Room, Stage};
use crate::steward::Steward;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::transition::{self, Holder, TakeRule};
pub(crate) use counts::Counts;
use entry::{Entry, table_hash};
pub(crate) use loading::Loading;
use slot::{Slot, remove, remove_at_rest};
use table::take_out;
pub(crate) use waiters::{Outcome, Waiters};

const SHARD_BITS: u32 = 8;

/// The hash of the live table: SipHash-1-3, with a key of the store's, so that no client can choose
/// keys that collide. It is the same for each version and each machine, so that it can be stored.
pub(crate) struct Hash {
    hasher: SipHasher13,
    /// The bits that are used: all of them, unless a test wants keys to collide.
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
    /// What the entries of all shards take, and the slots that have no record yet.
    room: Room,
    next_serial: AtomicU64,
    steward: Arc<Steward>,
}

#[derive(Default)]
struct Shard {
    entries: HashTable<Entry>,
    slots: HashTable<Slot>,
    /// The latest time at which a key was asked for. A caller may have read the clock long before
    /// it has the lock: what has expired for one of them has expired for all that come after it.
    latest: Timestamp,
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
    /// The key is free, and there is no room for it.
    Full(Bound),
    /// The started record, reserved now for whoever asked.
    Interrupted(Arc<Record>),
    /// One of these records may be of this key: read them, then call [`Index::reserve`].
    Read(Candidates),
}

/// What a call that has only the key finds in memory.
pub(crate) enum Taken {
    /// Detached until now; held by whoever asked from now on.
    Execution(Arc<Record>),
    /// At rest until now; reserved for whoever asked from now on.
    AtRest(Arc<Record>),
    Held,
    Nothing,
    /// One of these records may be of this key: read them, then call [`Index::reserve`].
    Read(Candidates),
}

/// What a look at a key finds in memory.
pub(crate) enum Look {
    Known {
        holder: Holder,
        since: Timestamp,
        record: Option<Arc<Record>>,
    },
    Nothing,
    /// One of these records may be of this key.
    Read(Candidates),
}

/// Records at rest whose keys may be the one that was asked for, all of them live.
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
        steward: Arc<Steward>,
    ) -> Self {
        let shard = || {
            let entries = HashTable::with_capacity(records >> SHARD_BITS);
            Mutex::new(Shard { entries, ..Shard::default() })
        };
        let shards = std::iter::repeat_with(shard).take(1 << SHARD_BITS).collect();
        Self { hash, shards, room: Room::new(bounds), next_serial: AtomicU64::new(0), steward }
    }

    pub(crate) fn hash(&self, framed_key: &[u8]) -> u64 {
        self.hash.of(framed_key)
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many shards as the bits can say")]
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[Self::shard_at(hash)]
    }

    fn shard_at(hash: u64) -> usize {
        usize::try_from(hash >> (u64::BITS - SHARD_BITS)).unwrap_or_default()
    }

    /// A number that no record and no transaction has had.
    pub(crate) fn take_serial(&self) -> Result<u64, Error> {
        const END: u64 = 1 << PACKED_BITS;
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let overloaded = Error::Overloaded { bound: Bound::Serials { max: END } };
        if serial < END { Ok(serial) } else { Err(overloaded) }
    }

    /// The number that the next record gets at the earliest.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_serial.load(Ordering::Relaxed)
    }

    pub(crate) fn skip_serials_to(&self, next: u64) {
        self.next_serial.fetch_max(next, Ordering::Relaxed);
    }

    /// What the keys take.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Puts in entries of one shard, whose room is counted already.
    #[expect(clippy::indexing_slicing, reason = "it is the number of a shard")]
    fn insert_all(&self, at: usize, entries: impl IntoIterator<Item = Entry>) {
        let mut shard = self.shards[at].lock();
        for entry in entries {
            shard.insert_entry(entry);
        }
    }

    /// Takes in a record that only the log has, before anybody can ask for its key.
    pub(crate) fn put_at_rest(&self, record: &Record) {
        let hash = self.hash(record.key.framed());
        let entry = Entry::new(hash, record.id, record.state.is_started());
        self.room.add(record.key.framed(), record.state.stage());
        self.insert_all(Self::shard_at(hash), [entry]);
        self.skip_serials_to(record.id.serial + 1);
    }

    /// Forgets a record of the vault that the log knows better.
    pub(crate) fn remove_at_rest(&self, framed_key: &[u8], id: RecordId, stage: Stage) {
        let hash = self.hash(framed_key);
        if self.shard(hash).lock().remove_entry(hash, id) {
            self.room.give_back(framed_key, stage);
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
        let now = shard.not_before(now);
        if let Some(slot) = shard.slot(key, hash) {
            return slot.begin(fingerprint, now, &self.room);
        }
        if let Some(candidates) = shard.candidates(hash, now) {
            return Probe::Read(candidates);
        }
        if let Err(bound) = self.room.take(key.framed()) {
            return Probe::Full(bound);
        }
        shard.reserve(key, hash, now, None);
        Probe::Reserved
    }

    /// Reserves a key once its candidates are read: `record` is the one of them that is its own.
    /// `false` if the key has moved on meanwhile, and must be asked for again. A key that has no
    /// record may find no room.
    pub(crate) fn reserve(
        &self,
        key: &Key,
        hash: u64,
        read: &Candidates,
        record: Option<Arc<Record>>,
        now: Timestamp,
    ) -> Result<bool, Bound> {
        let mut shard = self.shard(hash).lock();
        let now = shard.not_before(now);
        let unchanged = (shard.version == read.version || canary::sings("reserves unchecked"))
            && shard.slot(key, hash).is_none()
            && record.as_ref().is_none_or(|record| transition::is_live(record.id, now));
        if unchanged {
            if record.is_none() {
                self.room.take(key.framed())?;
            }
            shard.reserve(key, hash, now, record);
        }
        Ok(unchanged)
    }

    /// Whether no record has changed since these candidates were found.
    pub(crate) fn is_unchanged(&self, hash: u64, read: &Candidates) -> bool {
        self.shard(hash).lock().version == read.version
    }

    /// Whether this record counts.
    pub(crate) fn has(&self, hash: u64, id: RecordId) -> bool {
        self.shard(hash).lock().entry(hash, id).is_some()
    }

    /// What is true once this change is durable.
    pub(crate) fn apply(&self, change: &Change) {
        let Change { hash, kind } = change;
        let mut shard = self.shard(*hash).lock();
        shard.version += 1;
        if let ChangeKind::Move { from, .. } = kind {
            shard.remove_entry(*hash, *from);
        }
        match kind {
            ChangeKind::Put(record) | ChangeKind::Move { to: record, .. } => {
                shard.insert_entry(Entry::new(*hash, record.id, record.state.is_started()));
                if let Some(slot) = shard.slot(&record.key, *hash) {
                    // Who holds a key has the room of its record: from `begin` on, if it had none.
                    let known = slot.record.as_ref();
                    let before = known.map_or(Stage::Reserved, |known| known.state.stage());
                    self.room.change(record.key.framed(), before, record.state.stage());
                    slot.put(record);
                }
            }
            ChangeKind::Remove(record) => {
                if shard.remove_entry(*hash, record.id) {
                    self.room.give_back(record.key.framed(), record.state.stage());
                }
                if let Some(slot) = shard.slot_entry(&record.key, *hash) {
                    remove(slot).wake(Outcome::Gone);
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
            if slot.get().record.is_none() {
                self.room.give_back(key.framed(), Stage::Reserved);
            }
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

    /// Takes a key in hand for what is stored of it, if the rule allows that.
    pub(crate) fn take(&self, key: &Key, hash: u64, rule: TakeRule, now: Timestamp) -> Taken {
        let mut shard = self.shard(hash).lock();
        let now = shard.not_before(now);
        if let Some(slot) = shard.slot(key, hash) {
            return slot.take(rule, now);
        }
        shard.candidates(hash, now).map_or(Taken::Nothing, Taken::Read)
    }

    /// What is known of a key, which is left as it is.
    pub(crate) fn look(&self, key: &Key, hash: u64, now: Timestamp) -> Look {
        let mut shard = self.shard(hash).lock();
        let now = shard.not_before(now);
        if let Some(Slot { holder, since, record, .. }) = shard.slot(key, hash) {
            return Look::Known { holder: *holder, since: *since, record: record.clone() };
        }
        shard.candidates(hash, now).map_or(Look::Nothing, Look::Read)
    }

    /// Joins those who wait for the key, if somebody holds it.
    pub(crate) fn join_waiters(&self, key: &Key, hash: u64) -> Option<Arc<Waiters>> {
        let mut shard = self.shard(hash).lock();
        let slot = shard.slot(key, hash).filter(|slot| slot.holder != Holder::Nobody)?;
        let waiters =
            slot.waiters.get_or_insert_with(|| Arc::new(Waiters::new(Arc::clone(&self.steward))));
        Some(Arc::clone(waiters))
    }

    /// Stops waiting. With the last who does, the waiters of the key are freed.
    pub(crate) fn leave_waiters(&self, key: &Key, hash: u64, left: Arc<Waiters>) {
        let mut shard = self.shard(hash).lock();
        drop(left);
        if let Some(slot) = shard.slot(key, hash)
            // Under this lock nobody joins.
            && slot.waiters.as_ref().is_some_and(|waiters| Arc::strong_count(waiters) == 1)
        {
            slot.waiters = None;
        }
    }

    /// Wakes all who wait for any key, to ask again.
    pub(crate) fn wake_all(&self) {
        for shard in &self.shards {
            shard.lock().slots.iter_mut().for_each(|slot| slot.wake(Outcome::Gone));
        }
    }

    /// Forgets an expired record, unless somebody holds its key.
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
            .find(table_hash(hash), |slot| {
                slot.key.framed() == framed_key
                    && slot.record.as_ref().is_some_and(|record| record.id == id)
            })
            .map_or(Holder::Nobody, |slot| slot.holder);
        // A row that the vault is behind with would be there again after the next settle.
        let is_started = shard.entry(hash, id).map(|entry| entry.is_started());
        let is_behind = is_started.is_some_and(|started| started != (stage == Stage::Started));
        if is_behind || !transition::is_sweepable(id, holder, now) {
            return false;
        }
        if shard.remove_entry(hash, id) {
            self.room.give_back(framed_key, stage);
        }
        true
    }

    /// What the table has, counted shard by shard.
    pub(crate) fn count(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for shard in &self.shards {
            shard.lock().count(now, &mut counts);
        }
        counts
    }
}

impl Shard {
    /// This time, or the latest one that was asked for if that is later.
    fn not_before(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        if canary::sings("goes by an old time") { now } else { self.latest }
    }

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
