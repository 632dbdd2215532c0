//! The journal: what must survive. A change is durable once the log has it; the vault gets it
//! later, in bulk, and then its place in the log is free again.
//!
//! Data flows one way: a call hands in a change; the leader of its batch writes the log, then
//! updates the live table, then wakes the call. A segment that is full is *sealed* and settled
//! into the vault while the other one fills; if that one is full too before the settle is done,
//! the leader waits for it, and with the leader all who write.
//!
//! Lock order: that of copies, then `settling`, then `tail`, then `sealed`, then `active` or a shard
//! of the live table.

#[cfg(feature = "transaction")]
mod transact;
mod upkeep;

use std::mem;
use std::time::{Duration, Instant};

use crate::clock::Time;
use crate::codec;
use crate::disk::Disk;
use crate::error::{Error, OpenError, StorageError};
use crate::index::{Index, Loading};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, SEGMENT_CHANGES_MAX};
use crate::log::Log;
#[cfg(feature = "async")]
use crate::log::commit::Pending;
use crate::log::commit::{GroupCommit, WriterPanicked};
use crate::log::frame::{self, FrameNumber};
use crate::log::segment::StoreKey;
use crate::observe::{self, Work};
use crate::record::{Change, ChangeKind, Record, RecordId};
use crate::steward::Steward;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::vault::{Listed, Meta, Vault};
use crate::wake::Wake;

pub(crate) struct Journal {
    commit: GroupCommit<Item>,
    /// `None` once closed.
    tail: Mutex<Option<Tail>>,
    /// What the tail holds, for those who look at it while its lock is held over a write.
    active: Mutex<Unsettled>,
    /// Bytes of both segments.
    log_bytes: u64,
    sealed: Mutex<Option<Arc<Sealed>>>,
    /// Held by whoever writes the vault.
    settling: Mutex<Settled>,
    /// Why no call that writes is taken any more. `ended` says without a lock whether there is a
    /// reason at all.
    end: Mutex<Option<Error>>,
    ended: AtomicBool,
    key: StoreKey,
    vault: Vault,
    index: Arc<Index>,
    time: Arc<Time>,
    /// Tells the background thread that there is something to settle.
    wake: Arc<Wake>,
    steward: Arc<Steward>,
    counters: Counters,
}

/// The part of the log that is being written.
struct Tail {
    log: Log,
    /// What the active segment holds, oldest first.
    changes: Vec<Change>,
}

/// A segment that waits to be settled.
struct Sealed {
    changes: Vec<Change>,
    last: FrameNumber,
    /// When the first of them was written.
    since: Option<Instant>,
}

struct Settled {
    last: FrameNumber,
    /// Keeps the store's directory locked. `None` once closed.
    disk: Option<Box<dyn Disk>>,
}

/// A change on its way into the log.
pub(crate) struct Item {
    change: Change,
    encoded: Vec<u8>,
}

impl Item {
    /// The item, and the bytes that it takes in a frame.
    fn new(change: Change) -> Result<(Self, usize), Error> {
        let Ok(encoded) = codec::encode_change(&change.kind) else {
            // Every length was checked against `limits` before.
            return Err(Error::Corrupt { detail: "a change cannot be encoded".to_owned() });
        };
        let bytes = frame::change_len(encoded.len());
        Ok((Self { change, encoded }, bytes))
    }
}

/// What has been done since the store was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) batch_changes_max: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) settles: AtomicU64,
    pub(crate) swept: AtomicU64,
}

/// What the log holds that the vault does not have.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unsettled {
    pub(crate) changes: usize,
    /// Bytes of the segment that is being written.
    pub(crate) bytes: u64,
    /// When the oldest of the changes was written.
    pub(crate) since: Option<Instant>,
}

impl Counters {
    /// One more batch, of so many changes.
    fn count(&self, changes: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
        self.batch_changes_max.fetch_max(changes, Ordering::Relaxed);
    }
}

/// All that a journal is made of, as it was found on the disk.
pub(crate) struct Opened {
    vault: Vault,
    pub(crate) log: Log,
    pub(crate) meta: Meta,
    pub(crate) index: Arc<Index>,
    steward: Arc<Steward>,
    disk: Box<dyn Disk>,
}

/// Opens log and vault, makes the vault have all that the log has, and loads the live table.
pub(crate) fn open(disk: Box<dyn Disk>, cache: usize, hash_mask: u64) -> Result<Opened, OpenError> {
    let work = Work::open();
    let (vault, mut meta) = Vault::open(&*disk, cache)?;
    let (log, recovered) = Log::open(&*disk, &meta.key, meta.settled)?;
    // redb names its last commit with one bit that no checksum covers, and the commit before it is
    // whole as well. What a settle has moved out of the log would leave a gap there. A transaction
    // was never in it, so that it left a mark.
    if meta.next_serial < recovered.given_out {
        let detail = "a transaction is missing".to_owned();
        return Err(OpenError::Corrupt { file: crate::vault::NAME, detail });
    }
    let serials = recovered.changes.iter().map(|(id, _)| id.serial + 1);
    meta.next_serial = serials.max().unwrap_or(0).max(meta.next_serial);
    meta.high_water = meta.high_water.max(recovered.high_water);
    // One past the last: see `Log::open`. So every open writes the vault, and finds out at once
    // if it cannot.
    meta.settled = recovered.last + 1;
    let changes = latest(recovered.changes.iter().map(|(id, record)| (*id, record.as_ref())));
    vault
        .settle(changes, &meta)
        .map_err(|source| OpenError::Storage { file: crate::vault::NAME, source })?;
    let steward = Arc::<Steward>::default();
    let empty = Index::with_capacity(vault.records()?, hash_mask, Arc::clone(&steward));
    let mut loading = Loading::new(empty);
    vault.scan(|id, row| loading.add(row.framed_key, id, row.started))?;
    let index = loading.finish();
    index.skip_serials_to(meta.next_serial);
    work.opened(index.records(), recovered.changes.len());
    Ok(Opened { vault, log, meta, index: Arc::new(index), steward, disk })
}

/// What each place holds in the end, in the order of the vault.
fn latest<'r>(
    changes: impl Iterator<Item = (RecordId, Option<&'r Record>)>,
) -> impl Iterator<Item = (RecordId, Option<&'r Record>)> {
    let mut changes: Vec<_> = changes.collect();
    // The sort is stable: of one place, the last stays last.
    changes.sort_by_key(|(id, _)| *id);
    let mut changes = changes.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut last = changes.next()?;
        while let Some(later) = changes.next_if(|(id, _)| *id == last.0) {
            last = later;
        }
        Some(last)
    })
}

impl Change {
    /// What it makes of its record's place.
    fn place(&self) -> (RecordId, Option<&Record>) {
        match &self.kind {
            ChangeKind::Put(record) => (record.id, Some(record)),
            ChangeKind::Remove(record) => (record.id, None),
        }
    }
}

impl Journal {
    pub(crate) fn new(opened: Opened, time: Arc<Time>, wake: Arc<Wake>) -> Self {
        let Opened { vault, log, meta, index, steward, disk } = opened;
        let batch_bytes_max = log.payload_max().min(BATCH_BYTES_MAX);
        let log_bytes = log.file_bytes();
        let tail = Tail { log, changes: Vec::new() };
        Self {
            commit: GroupCommit::new(batch_bytes_max, Arc::clone(&steward)),
            tail: Mutex::new(Some(tail)),
            active: Mutex::default(),
            log_bytes,
            sealed: Mutex::default(),
            settling: Mutex::new(Settled { last: meta.settled, disk: Some(disk) }),
            end: Mutex::default(),
            ended: AtomicBool::new(false),
            key: meta.key,
            vault,
            index,
            time,
            wake,
            steward,
            counters: Counters::default(),
        }
    }

    /// Returns once the change is durable and true in the live table.
    pub(crate) fn append(&self, change: Change) -> Result<(), Error> {
        self.check_outside()?;
        let (item, bytes) = Item::new(change)?;
        self.commit.submit(item, bytes, |batch| self.write(batch))
    }

    /// Returns once each change is durable and true, or refused. As many as one batch takes wait
    /// together.
    pub(crate) fn append_many(&self, changes: Vec<Change>) -> Vec<Result<(), Error>> {
        let len = changes.len();
        match self.group(changes) {
            Ok(groups) => groups
                .into_iter()
                .flat_map(|group| self.commit.submit_many(group, |batch| self.write(batch)))
                .collect(),
            Err(error) => vec![Err(error); len],
        }
    }

    /// The changes in groups that a batch has room for, so that however many there are, the queue
    /// takes them one group after the other.
    pub(crate) fn group(&self, changes: Vec<Change>) -> Result<Vec<Vec<(Item, usize)>>, Error> {
        self.check_outside()?;
        let mut groups: Vec<Vec<_>> = Vec::new();
        let mut group_bytes = 0;
        for change in changes {
            let (item, bytes) = Item::new(change)?;
            group_bytes += bytes;
            match groups.last_mut() {
                Some(group) if group.len() < BATCH_ITEMS_MAX && group_bytes <= BATCH_BYTES_MAX => {
                    group.push((item, bytes));
                }
                _ => {
                    groups.push(vec![(item, bytes)]);
                    group_bytes = bytes;
                }
            }
        }
        Ok(groups)
    }

    /// Hands a change in for a future, which waits for it.
    #[cfg(feature = "async")]
    pub(crate) fn submit(self: &Arc<Self>, change: Change) -> Pending {
        let item = self.check_outside().and_then(|()| Item::new(change));
        match item.and_then(|item| self.employ_steward().map(|()| item)) {
            Ok((item, bytes)) => self.commit.hand_in(item, bytes),
            Err(error) => Pending::refused(error),
        }
    }

    /// Hands a group of changes in.
    #[cfg(feature = "async")]
    pub(crate) fn submit_group(self: &Arc<Self>, group: Vec<(Item, usize)>) -> Vec<Pending> {
        match self.employ_steward() {
            Ok(()) => self.commit.hand_in_many(group),
            Err(error) => group.iter().map(|_| Pending::refused(error.clone())).collect(),
        }
    }

    /// Whoever waits as a future calls this first.
    #[cfg(feature = "async")]
    pub(crate) fn employ_steward(self: &Arc<Self>) -> Result<(), Error> {
        let lead = || {
            let journal = Arc::clone(self);
            move || journal.commit.lead(|batch| journal.write(batch))
        };
        self.steward.employ(lead).map_err(|error| Error::Storage(error.into()))
    }

    /// Makes a batch durable, then true. Whether it was written is unknown only if the log failed.
    fn write(&self, batch: Vec<Item>) -> Result<(), Error> {
        let payload = batch.iter().map(|item| frame::change_len(item.encoded.len())).sum();
        let (work, changes) = (Work::commit(batch.len(), payload), batch.len());
        let unwinding = PoisonIfPanicking(self);
        let written = self.with_room(payload, batch.len(), |tail| {
            let encoded = batch.iter().map(|item| item.encoded.as_slice());
            tail.log.append(self.time.now(), encoded).map_err(|error| {
                let error = StorageError::from(error);
                self.poison(&error);
                Error::OutcomeUnknown(error)
            })?;
            self.counters.count(batch.len() as u64);
            for item in &batch {
                self.index.apply(&item.change);
            }
            tail.changes.extend(batch.into_iter().map(|item| item.change));
            let mut active = self.active.lock();
            (active.changes, active.bytes) = (tail.changes.len(), tail.log.used());
            let is_first = active.since.is_none();
            active.since.get_or_insert_with(Instant::now);
            drop(active);
            if is_first {
                self.wake.up();
            }
            Ok(())
        });
        mem::forget(unwinding);
        if written.is_ok() {
            work.committed(changes);
        }
        written
    }

    /// Calls `write` once the active segment has room for a frame of this payload.
    fn with_room(
        &self,
        payload: usize,
        changes: usize,
        write: impl FnOnce(&mut Tail) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let mut tail = self.tail.lock();
            let Some(open) = &mut *tail else { return Err(Error::Closed) };
            if open.has_room(payload, changes)
                || self.seal(open).map_err(|error| self.poisoned(error))?
            {
                return write(open);
            }
            // Both segments are full. The lock must be free for whoever settles now.
            drop(tail);
            self.settle_full()?;
        }
    }

    /// Goes on in the other segment, if that one is free.
    fn seal(&self, tail: &mut Tail) -> Result<bool, StorageError> {
        // It stays `None`: nobody else has the tail. And nobody who looks waits for the disk.
        if self.sealed.lock().is_some() {
            return Ok(false);
        }
        tail.log.switch()?;
        let (changes, last) = (mem::take(&mut tail.changes), tail.log.last());
        let mut sealed = self.sealed.lock();
        let since = mem::take(&mut *self.active.lock()).since;
        *sealed = Some(Arc::new(Sealed { changes, last, since }));
        drop(sealed);
        self.wake.up();
        Ok(true)
    }

    /// How long the oldest change that is not sealed has been in the log, and whether a sealed
    /// segment waits.
    pub(crate) fn unsettled_for(&self) -> (Option<Duration>, bool) {
        let sealed = self.sealed.lock();
        let since = self.active.lock().since;
        (since.map(|since| since.elapsed()), sealed.is_some())
    }

    /// What the vault does not have yet.
    pub(crate) fn unsettled(&self) -> Unsettled {
        // Both at once: what is sealed is counted in one of them.
        let sealed = self.sealed.lock();
        let mut unsettled = *self.active.lock();
        if let Some(sealed) = &*sealed {
            unsettled.changes += sealed.changes.len();
            unsettled.since = sealed.since;
        }
        unsettled
    }

    /// Bytes of all files; 0 if they are closed.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.vault.file_bytes().map_or(0, |vault| vault + self.log_bytes)
    }

    /// The first records of the vault behind this place.
    pub(crate) fn list(&self, after: Option<RecordId>, max: usize) -> Result<Vec<Listed>, Error> {
        self.vault.list(after, max)
    }

    /// The record at this place of the vault.
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>, Error> {
        self.vault.read(id)
    }

    /// Whether the store takes calls that write.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.ended.load(Ordering::Acquire) {
            self.end.lock().clone().map_or(Ok(()), Err)
        } else {
            Ok(())
        }
    }

    #[cfg(not(feature = "transaction"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "nobody can be inside")]
    pub(crate) fn check_outside(&self) -> Result<(), Error> {
        Ok(())
    }

    /// A transaction to read the caller's own tables with.
    #[cfg(feature = "transaction")]
    pub(crate) fn read_transaction(&self) -> Result<redb::ReadTransaction, Error> {
        self.vault.read_transaction()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// After a failed write nothing is taken any more: what the file system kept of it is not
    /// known, and a second fsync would not tell.
    fn poison(&self, error: &StorageError) {
        observe::poisoned(error);
        self.end(Error::Poisoned(error.clone()));
    }

    /// Takes nothing any more. The first reason stays.
    fn end(&self, reason: Error) {
        let reason = self.end.lock().get_or_insert(reason).clone();
        self.ended.store(true, Ordering::Release);
        self.commit.refuse(&reason);
        self.index.wake_all();
    }

    /// Settles what was taken, takes nothing any more, and lets go of all files.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.commit.close(|batch| self.write(batch));
        let settled = self.settle();
        self.end(Error::Closed);
        let mut settling = self.settling.lock();
        let closed = self.vault.close().map_err(Error::OutcomeUnknown);
        *self.tail.lock() = None;
        // The lock of the directory goes last.
        settling.disk = None;
        drop(settling);
        self.steward.dismiss();
        settled.and(closed)
    }
}

/// After a panic of whoever writes, nobody knows what was written.
struct PoisonIfPanicking<'j>(&'j Journal);

impl Drop for PoisonIfPanicking<'_> {
    fn drop(&mut self) {
        self.0.poison(&StorageError::new(WriterPanicked));
    }
}

impl Tail {
    fn has_room(&self, payload: usize, changes: usize) -> bool {
        self.log.has_room(payload) && self.changes.len() + changes <= SEGMENT_CHANGES_MAX
    }
}
