//! The vault's file as a whole: copying and compacting it.

use std::io;

use super::{Backend, Meta, Open, Vault, contained, safest};
use crate::error::StorageError;
use crate::local::disk::{Disk, DiskFile};
use crate::local::files::Temporary;
use crate::local::files::VAULT;
use crate::sync::{Arc, MutexGuard};

/// Most memory for redb's page cache while it checks or compacts a copy, in addition to the
/// vault's. A larger cache makes neither faster.
const COPY_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A copy of the vault's file, in progress.
pub(crate) struct Copying<'v> {
    vault: &'v Vault,
    file: Arc<dyn DiskFile>,
    _alone: MutexGuard<'v, ()>,
}

impl Vault {
    /// Length of the vault's file in bytes, if it is open.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        self.open.read().as_ref().map(|open| open.backend.file_len().unwrap_or_default())
    }

    /// Acquires the right to copy, which only one caller has at a time. It is acquired before the
    /// lock under which the vault is written.
    pub(crate) fn lock_copies(&self) -> MutexGuard<'_, ()> {
        self.copying.lock()
    }

    /// Begins a copy, and copies the whole file while the store stays in use.
    pub(crate) fn copy<'v>(
        &'v self,
        alone: MutexGuard<'v, ()>,
        to: &dyn Disk,
        names: Temporary,
    ) -> io::Result<Copying<'v>> {
        let file = to.create(&names.of(VAULT))?;
        let copying = Copying { vault: self, file, _alone: alone };
        copying.with_open(|open| {
            open.backend.watch();
            open.backend.copy_all(&*copying.file)
        })?;
        Ok(copying)
    }
}

impl Copying<'_> {
    fn with_open(&self, call: impl FnOnce(&Open) -> io::Result<()>) -> io::Result<()> {
        let open = self.vault.open.read();
        call(open.as_ref().ok_or_else(|| io::Error::other("the store is closed"))?)
    }

    /// Copies what has changed since then. The vault must not be written in the meantime.
    pub(crate) fn catch_up(&self) -> io::Result<()> {
        self.with_open(|open| {
            let changed = open.backend.unwatch().expect("a copy is watched until it catches up");
            open.backend.copy_blocks(&changed, &*self.file)
        })
    }

    /// Lets redb check the whole copy, and turns it into the vault of a separate store.
    pub(crate) fn finish(&self, meta: &Meta) -> Result<(), StorageError> {
        let finished = contained(|| {
            let open = self.open()?;
            open.commit(safest(&open.database)?, meta)?;
            open.close()?;
            Ok(self.file.sync()?)
        });
        Ok(finished?)
    }

    /// Opens the copy, which redb reads as a whole to check it.
    fn open(&self) -> Result<Open, redb::Error> {
        Open::checked(self.backend(), self.vault.cache.min(COPY_CACHE_BYTES))
    }

    fn backend(&self) -> Backend {
        Backend::new(Arc::clone(&self.file))
    }

    /// Opens the copy and makes it as small as possible. The vault itself is left alone, since not
    /// all of the commits that redb makes for this are two-phase.
    ///
    /// Then closes it, which is when redb cuts off all free space at the end of a large file, and
    /// opens it again with the cache of a vault.
    pub(crate) fn compact(&self, meta: &Meta) -> Result<Compacted, StorageError> {
        let compacted = contained(|| {
            let mut open = self.open()?;
            open.database.compact()?;
            // With quick-repair again, which the commits of the compaction lacked.
            open.commit(safest(&open.database)?, meta)?;
            open.close()?;
            let open = Open::trusted(self.backend(), self.vault.cache)?;
            self.file.sync()?;
            Ok(Compacted(open))
        });
        Ok(compacted?)
    }

    /// Replaces the vault with the copy, which has its final name already.
    pub(crate) fn replace(self, compacted: Compacted) {
        let before = self.vault.open.write().replace(compacted.0);
        if let Some(before) = &before {
            // Nobody will read what redb writes when it closes a file that no longer has a name.
            before.backend.hold();
        }
        // Nothing is lost with the old file, even if closing it fails.
        let _ = contained(|| before.map_or(Ok(()), Open::close));
    }
}

/// A compacted vault.
pub(crate) struct Compacted(Open);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        // An abandoned copy need not be kept up to date.
        if let Some(open) = &*self.vault.open.read() {
            open.backend.unwatch();
        }
    }
}
