//! The only access for the store's own tests: to use disks other than the file system, and to make
//! keys collide. It isn't part of the public API, and may change in any version.

pub use crate::local::disk::{Directory, Disk, DiskFile};

use crate::error::{CopyError, OpenError};
use crate::store::{Builder, Store};

/// How a test opens a store.
pub trait OpenOn {
    /// Makes keys collide in the live table: `mask` says which bits of their hash are used.
    #[must_use = "nothing is opened before `open`"]
    fn hash_mask(self, mask: u64) -> Self;

    /// Sets how many starts may wait for an fsync at one time: the default queue is too long for a
    /// test to fill again and again.
    #[must_use = "nothing is opened before `open`"]
    fn starts_max(self, max: usize) -> Self;

    /// Opens the store on a disk other than the file system.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    fn open_on(self, disk: impl Disk) -> Result<Store, OpenError>;
}

impl OpenOn for Builder {
    fn hash_mask(self, mask: u64) -> Self {
        self.colliding(mask)
    }

    fn starts_max(self, max: usize) -> Self {
        self.queueing(max)
    }

    fn open_on(self, disk: impl Disk) -> Result<Store, OpenError> {
        self.open_disk(disk)
    }
}

/// How a test backs up a store.
pub trait BackupOn {
    /// Backs up the store to a disk other than the file system.
    ///
    /// # Errors
    ///
    /// As [`Store::backup`].
    fn backup_on(&self, disk: impl Disk) -> Result<(), CopyError>;
}

impl BackupOn for Store {
    fn backup_on(&self, disk: impl Disk) -> Result<(), CopyError> {
        self.backup_disk(disk)
    }
}
