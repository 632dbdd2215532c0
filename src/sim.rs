//! The only access for the store's own tests: disks other than the file system's, and keys that
//! collide. It isn't part of the public API, and may change in any version.

pub use crate::local::disk::{Directory, Disk, DiskFile};

use crate::error::{CopyError, OpenError};
use crate::store::{Builder, Store};

/// How a test opens a store.
pub trait OpenOn {
    /// Makes keys collide in the live table, by keeping only these bits of their hash.
    #[must_use = "nothing is opened before `open`"]
    fn hash_mask(self, mask: u64) -> Self;

    /// Lets at most `max` starts wait for an fsync at one time: the regular queue is too long to be
    /// filled again and again.
    #[must_use = "nothing is opened before `open`"]
    fn starts_max(self, max: usize) -> Self;

    /// Opens the store on a disk other than the file system's.
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

/// Backs up a store in a test.
pub trait BackupOn {
    /// Backs up the store to a disk other than the file system's.
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
