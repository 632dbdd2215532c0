//! The journal: what must survive. A change is durable once the log has it. The vault gets it
//! later, in bulk, and its place in the log is then free again.
//!
//! Data flows one way: a call submits a change, and the leader of its batch writes the log, then
//! updates the live table, then wakes the call. A full segment is *sealed* and settled into the
//! vault while the other one fills. If the other one is full too before the settle is done, the
//! leader waits for the settle, and all writers wait with it.
//!
//! Lock order: the lock of copies, then `settling`, then `tail`, then `sealed`, then `active`,
//! `disk` or a shard of the live table.

mod counters;
mod item;
mod recovery;
mod reserve;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(feature = "transaction")]
mod transact;
mod upkeep;

use std::mem;
use std::time::{Duration, Instant};

use crate::clock::{Time, Timestamp};
use crate::error::{Error, OpenError, StorageError};
use crate::limits::{BATCH_BYTES_MAX, SEGMENT_CHANGES_MAX};
use crate::local::change::{Change, RecordId};
use crate::local::disk::Disk;
use crate::local::helper::Helper;
use crate::local::index::Index;
use crate::local::log::Log;
use crate::local::log::commit::Pending;
use crate::local::log::commit::{GroupCommit, Place, Places, WriterPanicked};
use crate::local::log::frame::FrameNumber;
use crate::local::origin::Origin;
use crate::local::vault::{Listed, Secrets, Vault};
use crate::local::wake::Wake;
use crate::observe::{self, Work};
use crate::rules::record::Record;
use crate::sync::{Arc, AtomicBool, AtomicU64, FairMutex, Mutex, Ordering};
pub(crate) use counters::Counters;
use item::Item;
pub(crate) use item::{Claim, Submission};
pub(crate) use recovery::{Found, find};
use reserve::Reserve;
use upkeep::Settled;

pub(crate) struct Journal {
    commit: GroupCommit<Item>,
    places: Arc<Places>,
    reserve: Arc<Reserve>,
    /// `None` once closed.
    tail: Mutex<Option<Tail>>,
    /// What the tail holds, for readers that cannot wait for the tail's lock, which is held during
    /// a write.
    active: Mutex<Unsettled>,
    /// Length of both segments in bytes.
    log_bytes: AtomicU64,
    /// The least length of a segment, so that the longest result fits.
    segment_len: u64,
    sealed: Mutex<Option<Arc<Sealed>>>,
    /// Held while the vault is written. It is fair, so that a leader waits for one slice of a sweep
    /// and not for all of them.
    settling: FairMutex<Settled>,
    /// Keeps the store's directory locked. `None` once closed.
    disk: Mutex<Option<Arc<dyn Disk>>>,
    /// Why calls that write are no longer accepted. `ended` tells without a lock whether there is a
    /// reason at all.
    end: Mutex<Option<Error>>,
    ended: AtomicBool,
    secrets: Secrets,
    origin: Origin,
    vault: Vault,
    index: Arc<Index>,
    time: Arc<Time>,
    /// Wakes the background thread when there is something to settle.
    wake: Arc<Wake>,
    helper: Arc<Helper>,
    counters: Counters,
}

/// The part of the log that is being written.
struct Tail {
    log: Log,
    /// The changes in the active segment, oldest first.
    changes: Vec<Change>,
    /// The bytes of these changes.
    bytes: u64,
}

/// A segment that is waiting to be settled.
struct Sealed {
    changes: Vec<Change>,
    bytes: u64,
    last: FrameNumber,
    /// Whether there was no room for another frame.
    is_full: bool,
    /// When the first of its changes was written.
    since: Option<Instant>,
    /// When the first of its records expires.
    expires_first: Option<Timestamp>,
}

/// What the log holds and the vault doesn't have.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unsettled {
    pub(crate) changes: usize,
    /// Bytes used in the active segment.
    pub(crate) bytes: u64,
    /// When the oldest of the changes was written.
    pub(crate) since: Option<Instant>,
    /// When the first of the changed records expires.
    pub(crate) expires_first: Option<Timestamp>,
}

impl Unsettled {
    /// The earlier of two optional times.
    fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
        one.into_iter().chain(other).min()
    }
}

/// The final content of each place, in the order of the vault.
fn latest<'r>(
    changes: impl Iterator<Item = (RecordId, Option<&'r Record>)>,
) -> impl Iterator<Item = (RecordId, Option<&'r Record>)> {
    let mut changes: Vec<_> = changes.collect();
    // The sort is stable: the last change of a place stays last.
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

impl Journal {
    /// Continues from what was found on the disk, with segments of at least `segment_len` bytes and
    /// at most `starts_max` starts in the queue. This is the first write of an open.
    pub(crate) fn open(
        mut found: Found,
        time: Arc<Time>,
        wake: Arc<Wake>,
        segment_len: u64,
        starts_max: usize,
    ) -> Result<Self, OpenError> {
        found.settle(&time)?;
        let Found { disk, vault, mut log, meta, index, helper, recovered, work } = found;
        let lengthened = log.lengthen(segment_len);
        lengthened.map_err(|error| OpenError::io("make the log longer", error))?;
        work.opened(index.room().keys(), recovered.changes.len());
        let batch_bytes_max = log.payload_max().min(BATCH_BYTES_MAX);
        let log_bytes = AtomicU64::new(log.file_bytes());
        let tail = Tail { log, changes: Vec::new(), bytes: 0 };
        Ok(Self {
            commit: GroupCommit::new(batch_bytes_max, starts_max, Arc::clone(&helper)),
            places: Places::new(Arc::clone(&helper)),
            reserve: Arc::default(),
            tail: Mutex::new(Some(tail)),
            active: Mutex::default(),
            log_bytes,
            segment_len,
            sealed: Mutex::default(),
            settling: FairMutex::new(Settled::until(meta.settled)),
            disk: Mutex::new(Some(disk)),
            end: Mutex::default(),
            ended: AtomicBool::new(false),
            secrets: meta.secrets,
            origin: Origin::here(),
            vault,
            index: Arc::new(index),
            time,
            wake,
            helper,
            counters: Counters::default(),
        })
    }

    pub(crate) fn callee_secret(&self) -> &[u8; 32] {
        &self.secrets.callee_key
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The lock of the directory. A handle keeps it, so that no other open gets the lock before the
    /// handle is gone.
    pub(crate) fn lock(&self) -> Option<Arc<dyn Disk>> {
        self.disk.lock().clone()
    }

    /// A place for bytes that are to be copied for the log, which the caller must wait for; `None`
    /// if the bytes are too few to need one.
    pub(crate) fn place(&self, bytes: usize) -> Result<Option<Place>, Error> {
        self.check_caller()?;
        Ok(self.places.take(bytes))
    }

    /// Returns once the change is durable and visible in the live table.
    pub(crate) fn append(&self, change: Submission) -> Result<(), Error> {
        self.check_caller()?;
        self.commit.submit(self.item(change)?, |batch| self.write(batch))
    }

    fn item(&self, change: Submission) -> Result<Item, Error> {
        Item::new(change, |scope| self.promise(scope))
    }

    /// Returns once each change is durable and visible, or refused. The changes wait together.
    pub(crate) fn append_many(&self, changes: Vec<Submission>) -> Vec<Result<(), Error>> {
        if let Err(error) = self.check_caller() {
            return vec![Err(error); changes.len()];
        }
        let items = changes.into_iter().map(|change| self.item(change)).collect();
        self.commit.submit_many(items, |batch| self.write(batch))
    }

    /// Submits a change for a future, which waits for the outcome.
    pub(crate) fn submit(self: &Arc<Self>, change: Submission) -> Pending {
        let item = self.check_caller().and_then(|()| self.item(change));
        match item.and_then(|item| self.spawn_helper().map(|()| item)) {
            Ok(item) => self.commit.hand_in(item),
            Err(error) => Pending::refused(error),
        }
    }

    /// Submits changes that wait together, for futures.
    pub(crate) fn submit_many(self: &Arc<Self>, changes: Vec<Submission>) -> Vec<Pending> {
        if let Err(error) = self.check_caller().and_then(|()| self.spawn_helper()) {
            return changes.iter().map(|_| Pending::refused(error.clone())).collect();
        }
        let items = changes.into_iter().map(|change| self.item(change)).collect();
        self.commit.hand_in_many(items)
    }

    /// Must be called first by every future that waits.
    pub(crate) fn spawn_helper(self: &Arc<Self>) -> Result<(), Error> {
        self.check_process()?;
        let lead = || {
            let journal = Arc::clone(self);
            move || journal.commit.lead(|batch| journal.write(batch))
        };
        self.helper.spawn(lead).map_err(|error| Error::Thread(error.into()))
    }

    /// Makes a batch durable, then visible. Only if writing the log fails is it unknown whether the
    /// batch was written.
    fn write(&self, mut batch: Vec<Item>) -> Result<(), Error> {
        let payload = batch.iter().map(Item::len).sum();
        let (work, changes) = (Work::commit(batch.len(), payload), batch.len());
        let unwinding = PoisonIfPanicking(self);
        let written = self.with_room(payload, batch.len(), |tail| {
            let appended = self.time.write(|stamp| tail.log.append(stamp, &batch));
            appended.map_err(|error| self.unknown(error.into()))?;
            self.counters.count(batch.len() as u64);
            for item in &mut batch {
                self.reserve.logged(item.len() as u64);
                self.index.apply(&item.change);
                item.promise = None;
            }
            let expires_first = batch.iter().map(|item| item.change.expires_at()).min();
            tail.bytes += payload as u64;
            tail.changes.extend(batch.into_iter().map(|item| item.change));
            let mut active = self.active.lock();
            (active.changes, active.bytes) = (tail.changes.len(), tail.log.used());
            active.expires_first = Unsettled::earlier(active.expires_first, expires_first);
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

    /// Records the wall clock in the log if it has moved: a retention must not be cut short by a
    /// jump after which nothing was written.
    pub(crate) fn note_clock(&self) -> Result<(), Error> {
        if !self.time.has_drifted() {
            return Ok(());
        }
        let unwinding = PoisonIfPanicking(self);
        let noted = self.with_room(0, 0, |tail| {
            let appended = self.time.write(|stamp| tail.log.append(stamp, [&[][..]; 0]));
            appended.map_err(|error| self.unknown(error.into()))
        });
        mem::forget(unwinding);
        noted
    }

    /// Poisons the store after a write to the log that may or may not be durable.
    fn unknown(&self, error: StorageError) -> Error {
        self.poison(&error);
        Error::OutcomeUnknown(error)
    }

    /// Calls `write` once the active segment has room for a frame with this payload.
    fn with_room(
        &self,
        payload: usize,
        changes: usize,
        write: impl FnOnce(&mut Tail) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let mut tail = self.tail.lock();
            let Some(open) = &mut *tail else { return Err(Error::Closed) };
            let is_full = !open.log.has_room(payload);
            if open.has_room(payload, changes)
                || self.seal(open, is_full).map_err(|error| self.poisoned(error))?
            {
                return write(open);
            }
            // Both segments are full. The thread that is settling needs the lock.
            drop(tail);
            self.settle_full()?;
        }
    }

    /// Continues in the other segment, if that one is free.
    fn seal(&self, tail: &mut Tail, is_full: bool) -> Result<bool, StorageError> {
        // It stays `None`, since only this thread has the tail. The lock is released so that
        // readers don't wait for the disk.
        if self.sealed.lock().is_some() {
            return Ok(false);
        }
        self.check_place()?;
        tail.log.switch()?;
        let (changes, bytes) = (mem::take(&mut tail.changes), mem::take(&mut tail.bytes));
        let last = tail.log.last();
        let mut sealed = self.sealed.lock();
        let Unsettled { since, expires_first, .. } = mem::take(&mut *self.active.lock());
        let segment = Sealed { changes, bytes, last, is_full, since, expires_first };
        let before = sealed.replace(Arc::new(segment));
        assert!(before.is_none(), "a segment is sealed after the other one was settled");
        drop(sealed);
        self.wake.up();
        Ok(true)
    }

    /// How long the oldest unsealed change has been in the log, and whether a sealed segment is
    /// waiting.
    pub(crate) fn unsettled_for(&self) -> (Option<Duration>, bool) {
        let sealed = self.sealed.lock();
        let since = self.active.lock().since;
        (since.map(|since| since.elapsed()), sealed.is_some())
    }

    /// What the vault doesn't have yet.
    pub(crate) fn unsettled(&self) -> Unsettled {
        // Lock both at once, so that a segment that is being sealed is counted exactly once.
        let sealed = self.sealed.lock();
        let mut unsettled = *self.active.lock();
        if let Some(sealed) = &*sealed {
            unsettled.changes += sealed.changes.len();
            unsettled.since = sealed.since;
            unsettled.expires_first =
                Unsettled::earlier(unsettled.expires_first, sealed.expires_first);
        }
        unsettled
    }

    /// Length of all files in bytes; 0 if they are closed.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.vault.file_bytes().map_or(0, |vault| vault + self.log_bytes.load(Ordering::Relaxed))
    }

    /// The first records in the vault after this place.
    pub(crate) fn list(&self, after: Option<RecordId>, max: usize) -> Result<Vec<Listed>, Error> {
        self.vault.list(after, max)
    }

    /// The record at this place in the vault.
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>, Error> {
        self.vault.read(id)
    }

    /// Checks that the store's files are still where they were. A missing file could be replaced by
    /// another store, which would know nothing of what is written here.
    fn check_place(&self) -> Result<(), StorageError> {
        match &*self.disk.lock() {
            Some(disk) => Ok(disk.check()?),
            None => Ok(()),
        }
    }

    /// Checks that this process opened the store.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.origin.is_elsewhere() { Err(Error::OtherProcess) } else { Ok(()) }
    }

    /// Checks that the store accepts calls that write.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_process()?;
        if self.ended.load(Ordering::Acquire) {
            self.end.lock().clone().map_or(Ok(()), Err)
        } else {
            Ok(())
        }
    }

    /// Checks that the caller may call: in the process that opened the store, and not from within
    /// one of the store's transactions.
    #[cfg(not(feature = "transaction"))]
    pub(crate) fn check_caller(&self) -> Result<(), Error> {
        self.check_process()
    }

    /// A transaction for reading the caller's own tables.
    #[cfg(feature = "transaction")]
    pub(crate) fn read_transaction(&self) -> Result<redb::ReadTransaction, Error> {
        self.check_process()?;
        self.vault.read_transaction()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stops the store after a failed write: it's unknown what the file system kept of the write,
    /// and a second fsync wouldn't tell.
    fn poison(&self, error: &StorageError) {
        observe::poisoned(error);
        self.end(Error::Poisoned(error.clone()));
    }

    /// Accepts no more changes. The first reason stays, except that a failure replaces a close.
    fn end(&self, reason: Error) {
        let reason = self.hand_out_nothing(reason);
        self.commit.refuse(&reason);
        self.places.refuse(&reason);
        self.index.wake_all();
    }

    /// Lets no new call begin, and returns the reason.
    fn hand_out_nothing(&self, reason: Error) -> Error {
        let mut end = self.end.lock();
        let tells_more = match &*end {
            None => true,
            // A failure while closing.
            Some(Error::Closed) => matches!(reason, Error::Poisoned(_)),
            Some(_) => false,
        };
        if tells_more {
            *end = Some(reason.clone());
        }
        self.ended.store(true, Ordering::Release);
        end.clone().unwrap_or(reason)
    }

    /// Settles what was accepted, accepts nothing more, and closes all files. Returns how many
    /// handles of started operations keep the directory locked.
    pub(crate) fn close(&self) -> Result<usize, Error> {
        // Comes before a change is refused, because that releases the change's key, which no caller
        // may get.
        let reason = self.hand_out_nothing(Error::Closed);
        self.places.refuse(&reason);
        self.commit.close(|batch| self.write(batch));
        let settled = self.tend(|settled| self.settle_all(settled));
        self.end(Error::Closed);
        let settling = self.settling.lock();
        let closed = self.vault.close().map_err(Error::OutcomeUnknown);
        *self.tail.lock() = None;
        // The lock of the directory is released last.
        let disk = self.disk.lock().take();
        let left = disk.map_or(0, |disk| Arc::strong_count(&disk) - 1);
        drop(settling);
        self.helper.stop();
        settled.and(closed).map(|()| left)
    }
}

/// If the writer panics, it's unknown what was written.
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
