//! What is done to the vault: settling the log, sweeping, copying, compacting. Whoever does it holds
//! the lock `settling` meanwhile.

use std::mem;
use std::time::Duration;

use super::{Journal, PoisonIfPanicking, Sealed, Settled, latest};
use crate::canary;
use crate::disk::Disk;
use crate::error::{CopyError, Error, StorageError};
use crate::limits::SWEEP_RECORDS_MAX;
use crate::log::Log;
use crate::log::frame::FrameNumber;
use crate::observe::Work;
use crate::record::{Change, Record, RecordId};
use crate::sync::{MutexGuard, Ordering};
use crate::vault::{Compacted, Copying, Meta};

impl Journal {
    /// Settles all that the log holds now.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.tend_vault(|settled| self.settle_all(settled))
    }

    /// Settles the segment that is full, if one is.
    pub(crate) fn settle_full(&self) -> Result<(), Error> {
        self.tend_vault(|settled| self.settle_sealed(settled))
    }

    /// Deletes one slice of expired records, and says how many.
    pub(crate) fn sweep(&self) -> Result<usize, Error> {
        self.tend_vault(|settled| {
            let (work, now) = (Work::sweep(), self.time.now());
            let expired = self.vault.expired(now, SWEEP_RECORDS_MAX, |id, row| {
                self.index.expire(row.framed_key, id, now)
            })?;
            self.vault.delete(&expired, &self.meta(settled.last))?;
            self.counters.swept.fetch_add(expired.len() as u64, Ordering::Relaxed);
            work.swept(expired.len());
            Ok(expired.len())
        })
    }

    /// Whoever looks after the vault does so alone, and poisons the store if that fails.
    fn tend_vault<T>(
        &self,
        write: impl FnOnce(&mut Settled) -> Result<T, StorageError>,
    ) -> Result<T, Error> {
        self.check_outside()?;
        let mut settled = self.settling.lock();
        self.check()?;
        let unwinding = PoisonIfPanicking(self);
        let written = write(&mut settled);
        mem::forget(unwinding);
        written.map_err(|error| self.poisoned(error))
    }

    /// Poisons the store, and says so to whoever met the failure.
    pub(super) fn poisoned(&self, error: StorageError) -> Error {
        self.poison(&error);
        Error::Poisoned(error)
    }

    fn settle_all(&self, settled: &mut Settled) -> Result<(), StorageError> {
        self.seal_all(settled)?;
        self.settle_sealed(settled)
    }

    /// Leaves one segment at most to settle, the sealed one.
    pub(super) fn seal_all(&self, settled: &mut Settled) -> Result<(), StorageError> {
        self.settle_sealed(settled)?;
        if let Some(tail) = &mut *self.tail.lock()
            && !tail.changes.is_empty()
        {
            self.seal(tail)?;
        }
        Ok(())
    }

    /// Settles the sealed segment, if there is one, and frees it.
    fn settle_sealed(&self, settled: &mut Settled) -> Result<(), StorageError> {
        let Some(sealed) = self.sealed.lock().clone() else { return Ok(()) };
        if canary::sings("frees a segment before its settle") {
            self.free_sealed(settled, &sealed);
        }
        let work = Work::settle(sealed.changes.len());
        self.vault.settle(sealed.places(), &self.meta(sealed.last))?;
        work.settled();
        self.free_sealed(settled, &sealed);
        Ok(())
    }

    /// The vault has all that the sealed segment holds.
    pub(super) fn free_sealed(&self, settled: &mut Settled, sealed: &Sealed) {
        settled.last = sealed.last;
        for change in &sealed.changes {
            self.index.settled(change.hash, change.kind.record());
        }
        self.counters.settles.fetch_add(1, Ordering::Relaxed);
        *self.sealed.lock() = None;
    }

    pub(super) fn meta(&self, settled: FrameNumber) -> Meta {
        Meta {
            key: self.key,
            settled,
            high_water: self.time.now(),
            next_serial: self.index.next_serial(),
        }
    }

    /// When the next record expires.
    pub(crate) fn next_expiry(&self) -> Result<Option<Duration>, Error> {
        self.tend_vault(|_| {
            let now = self.time.now();
            Ok(self.vault.next_expiry(now)?.map(|expiry| expiry.saturating_since(now)))
        })
    }

    /// Writes a store into an empty directory that is what this one is now.
    pub(crate) fn backup(&self, to: &dyn Disk) -> Result<(), CopyError> {
        self.check_outside()?;
        let alone = self.vault.lock_copies();
        let log_bytes = self.tail.lock().as_ref().map(|tail| tail.log.file_bytes());
        Log::create(to, &self.key, log_bytes.ok_or(Error::Closed)?)?;
        let mut copying = self.vault.copy(alone, to)?;
        // A copy that fails is no failure of this store.
        self.tend_vault(|settled| {
            self.settle_all(settled)?;
            Ok(copying.catch_up())
        })??;
        copying.check().map_err(CopyError::Storage)?;
        Ok(copying.name(to)?)
    }

    /// Makes the vault's file as small as it can be, and says by how many bytes it shrank.
    pub(crate) fn compact(&self) -> Result<u64, CopyError> {
        self.check_outside()?;
        let alone = self.vault.lock_copies();
        self.tend_vault(|settled| {
            self.settle_all(settled)?;
            let file_bytes = || self.vault.file_bytes().unwrap_or_default();
            let before = file_bytes();
            let Some(disk) = settled.disk.as_deref() else { return Ok(Err(Error::Closed.into())) };
            let (mut copying, compacted) = match self.compacted(alone, disk, settled.last) {
                Ok(compacted) => compacted,
                Err(error) => return Ok(Err(error)),
            };
            // From here on the store has one vault or the other, and a failure leaves open which.
            copying.name(disk)?;
            copying.replace(compacted);
            Ok(Ok(before.saturating_sub(file_bytes())))
        })?
    }

    /// A copy of the vault that is as small as it can be.
    fn compacted<'j>(
        &'j self,
        alone: MutexGuard<'j, ()>,
        disk: &dyn Disk,
        settled: FrameNumber,
    ) -> Result<(Copying<'j>, Compacted), CopyError> {
        let copying = self.vault.copy(alone, disk)?;
        copying.catch_up()?;
        let compacted = copying.compact(&self.meta(settled)).map_err(CopyError::Storage)?;
        Ok((copying, compacted))
    }
}

impl Sealed {
    /// What each place holds in the end.
    pub(super) fn places(&self) -> impl Iterator<Item = (RecordId, Option<&Record>)> {
        latest(self.changes.iter().map(Change::place))
    }
}
