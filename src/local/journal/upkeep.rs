//! Upkeep of the vault: settling the log, sweeping, copying, compacting. The thread that does any
//! of these holds the lock `settling` while it does.

use std::mem;
use std::time::Duration;

use super::{Journal, PoisonIfPanicking, Sealed, latest};
use crate::canary;
use crate::error::{CopyError, Error, StorageError};
use crate::local::change::RecordId;
use crate::local::codec::Scanned;
use crate::local::disk::Disk;
use crate::local::files::{Temporary, VAULT};
use crate::local::log::Log;
use crate::local::log::frame::FrameNumber;
use crate::local::log::segment::is_want_of_room;
use crate::local::vault::{Compacted, Copying, Meta};
use crate::observe::Work;
use crate::rules::record::Record;
use crate::sync::{MutexGuard, Ordering};

/// What the thread that writes the vault knows about it.
pub(super) struct Settled {
    pub(super) last: FrameNumber,
    /// Where the last slice of a sweep was cut off, if it was.
    swept_to: Option<RecordId>,
}

impl Settled {
    pub(super) fn until(last: FrameNumber) -> Self {
        Self { last, swept_to: None }
    }
}

/// The result of one slice of a sweep.
pub(crate) struct Swept {
    /// Records that were deleted.
    pub(crate) records: usize,
    /// Whether the slice began with the first expired record, and not after another slice.
    pub(crate) is_first: bool,
    /// Whether the slice was cut off, so that more expired records may follow.
    pub(crate) is_cut: bool,
}

impl Journal {
    /// Settles everything that is in the log now.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.tend_vault(|settled| self.settle_all(settled))
    }

    /// Settles the sealed segment, if there is one.
    pub(crate) fn settle_full(&self) -> Result<(), Error> {
        self.tend_vault(|settled| self.settle_sealed(settled))
    }

    /// Deletes the next slice of expired records, after the last one.
    pub(crate) fn sweep(&self) -> Result<Swept, Error> {
        self.tend_vault(|settled| {
            let (work, now) = (Work::sweep(), self.time.now());
            let after = settled.swept_to;
            let choose =
                |id, row: &Scanned<'_>| self.index.expire(row.framed_key, id, row.stage, now);
            let slice = self.vault.expired(after, now, choose)?;
            self.vault.delete(&slice, &self.meta(settled.last))?;
            if 0 < slice.len() {
                self.reserve.swept();
            }
            settled.swept_to = slice.cut();
            self.counters.swept.fetch_add(slice.len() as u64, Ordering::Relaxed);
            work.swept(slice.len());
            let is_cut = settled.swept_to.is_some();
            Ok(Swept { records: slice.len(), is_first: after.is_none(), is_cut })
        })
    }

    /// Deletes a slice of expired records, and returns how many it deleted; 0 if there are none to
    /// delete.
    pub(crate) fn sweep_some(&self) -> Result<usize, Error> {
        let mut from_the_first = false;
        loop {
            let swept = self.sweep()?;
            // A slice may contain only records whose keys are held, and skip them all.
            from_the_first |= swept.is_first;
            if 0 < swept.records || from_the_first && !swept.is_cut {
                return Ok(swept.records);
            }
        }
    }

    /// Deletes a slice of the records that have expired by now, and returns whether it deleted any.
    /// A key thus finds room that only expired keys took up.
    pub(crate) fn make_room(&self) -> Result<bool, Error> {
        let now = self.time.now();
        if self.unsettled().expires_first.is_some_and(|first| first <= now) {
            self.settle()?;
        }
        Ok(self.vault.has_expired(now)? && 0 < self.sweep_some()?)
    }

    /// Runs `write` on one thread at a time, and poisons the store if it fails.
    fn tend_vault<T>(
        &self,
        write: impl FnOnce(&mut Settled) -> Result<T, StorageError>,
    ) -> Result<T, Error> {
        self.check_caller()?;
        self.check()?;
        self.tend(write)
    }

    /// The same, also for a store that is being closed and accepts no other calls.
    pub(super) fn tend<T>(
        &self,
        write: impl FnOnce(&mut Settled) -> Result<T, StorageError>,
    ) -> Result<T, Error> {
        let mut settled = self.settling.lock();
        self.check_files()?;
        let unwinding = PoisonIfPanicking(self);
        let written = self.check_place().and_then(|()| write(&mut settled));
        mem::forget(unwinding);
        written.map_err(|error| self.poisoned(error))
    }

    /// Checks that the files can be written: they are open, and no write to them has failed.
    pub(super) fn check_files(&self) -> Result<(), Error> {
        match self.check() {
            Err(Error::Closed) if self.disk.lock().is_some() => Ok(()),
            checked => checked,
        }
    }

    /// Poisons the store, and returns the error for the caller that met the failure.
    pub(super) fn poisoned(&self, error: StorageError) -> Error {
        self.poison(&error);
        Error::Poisoned(error)
    }

    pub(super) fn settle_all(&self, settled: &mut Settled) -> Result<(), StorageError> {
        self.seal_all(settled)?;
        self.settle_sealed(settled)
    }

    /// Leaves at most one segment to settle, the sealed one.
    pub(super) fn seal_all(&self, settled: &mut Settled) -> Result<(), StorageError> {
        self.settle_sealed(settled)?;
        if let Some(tail) = &mut *self.tail.lock()
            && !tail.changes.is_empty()
        {
            self.seal(tail, false)?;
        }
        Ok(())
    }

    /// Settles and frees the sealed segment, if there is one.
    fn settle_sealed(&self, settled: &mut Settled) -> Result<(), StorageError> {
        let Some(sealed) = self.sealed.lock().clone() else { return Ok(()) };
        if canary::sings("frees a segment before its settle") {
            self.free_sealed(settled, &sealed);
        }
        let work = Work::settle(sealed.changes.len());
        self.vault.settle(sealed.places(), &self.meta(sealed.last))?;
        self.look_at_reserve();
        work.settled();
        if sealed.is_full {
            self.grow_sealed()?;
        }
        self.free_sealed(settled, &sealed);
        Ok(())
    }

    /// Extends the sealed segment, whose changes are all in the vault. Nothing is written to it
    /// until it is freed, and writers use the other segment in the meantime. If the disk has no
    /// room, the segment keeps its length: a short log costs more settles, and nothing else.
    fn grow_sealed(&self) -> Result<(), StorageError> {
        let sealed = self.tail.lock().as_mut().map(|tail| tail.log.idle().clone());
        let Some(mut sealed) = sealed else { return Ok(()) };
        let grown = sealed.double(&self.secrets.key);
        if let Some(tail) = &mut *self.tail.lock() {
            *tail.log.idle() = sealed;
            self.log_bytes.store(tail.log.file_bytes(), Ordering::Relaxed);
        }
        match grown {
            Err(error) if !is_want_of_room(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The vault has everything that the sealed segment holds.
    pub(super) fn free_sealed(&self, settled: &mut Settled, sealed: &Sealed) {
        assert!(settled.last <= sealed.last, "segments are settled in the order of the log");
        settled.last = sealed.last;
        for change in &sealed.changes {
            self.index.settled(change.hash, change.kind.record());
        }
        self.reserve.settled(sealed.bytes);
        self.counters.settles.fetch_add(1, Ordering::Relaxed);
        *self.sealed.lock() = None;
    }

    pub(super) fn meta(&self, settled: FrameNumber) -> Meta {
        Meta {
            secrets: self.secrets.clone(),
            settled,
            stamp: self.time.stamp(),
            next_serial: self.index.next_serial(),
            is_current: true,
        }
    }

    /// How long until the next record expires.
    pub(crate) fn next_expiry(&self) -> Result<Option<Duration>, Error> {
        self.tend_vault(|_| {
            let now = self.time.now();
            Ok(self.vault.next_expiry(now)?.map(|expiry| expiry.saturating_since(now)))
        })
    }

    /// Writes a copy of this store as it is now, into an empty directory.
    pub(crate) fn backup(&self, to: &dyn Disk) -> Result<(), CopyError> {
        self.check_caller()?;
        self.check()?;
        let alone = self.vault.lock_copies();
        let bytes_max = self.tail.lock().as_ref().map(|tail| tail.log.bytes_max());
        let (bytes_max, secrets) = (bytes_max.ok_or(Error::Closed)?, self.secrets.of_copy()?);
        let part = Temporary::Part;
        Log::create(to, part, &secrets.key, bytes_max, self.segment_len).map_err(CopyError::of)?;
        let copying = self.vault.copy(alone, to, Temporary::Part)?;
        // A copy that fails isn't a failure of this store.
        let (settled, caught_up) = self.tend_vault(|settled| {
            self.settle_all(settled)?;
            Ok((settled.last, copying.catch_up()))
        })?;
        caught_up?;
        let meta = Meta { secrets, ..self.meta(settled) };
        copying.finish(&meta).map_err(CopyError::Storage)?;
        Ok(Temporary::Part.name_all(to)?)
    }

    /// Makes the vault's file as small as possible, and returns by how many bytes it shrank.
    pub(crate) fn compact(&self) -> Result<u64, CopyError> {
        self.check_caller()?;
        let alone = self.vault.lock_copies();
        self.tend_vault(|settled| {
            self.settle_all(settled)?;
            let file_bytes = || self.vault.file_bytes().unwrap_or_default();
            let before = file_bytes();
            let Some(disk) = self.lock() else { return Ok(Err(Error::Closed.into())) };
            let (copying, compacted) = match self.compacted(alone, &*disk, settled.last) {
                Ok(compacted) => compacted,
                Err(error) => {
                    // The unfinished copy shouldn't take up room. If it cannot be removed now, the
                    // next open removes it.
                    let _ = disk.remove(&Temporary::Compact.of(VAULT));
                    return Ok(Err(error));
                }
            };
            // From here on a failure leaves it unknown which of the two vaults the store has.
            Temporary::Compact.name_all(&*disk)?;
            copying.replace(compacted);
            Ok(Ok(before.saturating_sub(file_bytes())))
        })?
    }

    /// A copy of the vault that is as small as possible.
    fn compacted<'j>(
        &'j self,
        alone: MutexGuard<'j, ()>,
        disk: &dyn Disk,
        settled: FrameNumber,
    ) -> Result<(Copying<'j>, Compacted), CopyError> {
        let copying = self.vault.copy(alone, disk, Temporary::Compact)?;
        copying.catch_up()?;
        let compacted = copying.compact(&self.meta(settled)).map_err(CopyError::Storage)?;
        Ok((copying, compacted))
    }
}

impl Sealed {
    /// The final content of each place.
    pub(super) fn places(&self) -> impl Iterator<Item = (RecordId, Option<&Record>)> {
        latest(self.changes.iter().flat_map(|change| change.kind.places()))
    }
}
