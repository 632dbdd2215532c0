//! The one door for the store's own tests: other disks than the file system's, and keys that
//! collide. It is no part of the public API, and may change in any version.

pub use crate::local::disk::{Directory, Disk, DiskFile};

use crate::error::{CopyError, OpenError};
use crate::store::{Builder, Store};

/// How a test opens a store.
pub trait OpenOn {
    /// Makes keys collide in the live table, by the bits of their hash that are left.
    #[must_use = "nothing is opened before `open`"]
    fn hash_mask(self, mask: u64) -> Self;

    /// Lets at most so many starts wait for an fsync at one time: the queue of a store is too long to
    /// be filled again and again.
    #[must_use = "nothing is opened before `open`"]
    fn starts_max(self, max: usize) -> Self;

    /// Opens the store on another disk than the file system's.
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

/// How a test backs a store up.
pub trait BackupOn {
    /// Backs the store up on another disk than the file system's.
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
