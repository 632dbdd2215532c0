//! The one seam between the store and the file system, used by both the log and the vault.
//!
//! It is public only so that the store's own tests can replace the disk with a simulated one. It
//! isn't part of the API, and changes without notice.

mod directory;
mod kept;
mod memory;
mod names;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::sync::Arc;
pub use directory::Directory;
pub(crate) use directory::LOCK;
pub(crate) use memory::Memory;

/// A directory that holds one store.
///
/// It is entered first, then inspected, then locked. Files in it are accessed only after that.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens the directory. If it is missing and `make` is `true`, creates it first.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is missing, `NotADirectory` if the path is something else.
    fn enter(&mut self, make: bool) -> io::Result<()> {
        let _ = make;
        Ok(())
    }

    /// The names of everything in the directory.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Acquires the exclusive lock of the directory, which is held until this value is dropped.
    /// Returns whether the directory was [signed](Disk::sign) before. Waits up to `wait` while
    /// another holds the lock.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if another still holds the lock then.
    fn lock(&mut self, wait: Duration) -> io::Result<bool>;

    /// Records durably, in the directory, that it holds a whole store.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn sign(&self) -> io::Result<()> {
        Ok(())
    }

    /// Checks that the directory and each of its open files are still where they were.
    ///
    /// # Errors
    ///
    /// Names what was removed, moved or replaced.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether users other than the owner and the group can read or write what is in the directory.
    fn is_exposed(&self) -> bool {
        false
    }

    /// Reserves `bytes` of the disk, in all, for writes that find it full. Any reserve beyond that
    /// is released.
    ///
    /// # Errors
    ///
    /// `StorageFull` if there is no room for more. The existing reserve stays.
    fn keep(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Bytes that are reserved now.
    fn kept(&self) -> u64 {
        u64::MAX
    }

    /// Opens a file for reading and writing, with an exclusive lock.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file, `WouldBlock` if another holds its lock.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a new, empty file and opens it as [`Disk::open`] does. It replaces any file of that
    /// name.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file from the directory, if it is there.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn sync_names(&self) -> io::Result<()>;
}

/// One file of the store.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills all of `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends too early, or any error of the file system.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Like [`DiskFile::write_at`], but uses none of the [reserve](Disk::keep).
    ///
    /// # Errors
    ///
    /// `StorageFull` if there is no room except for the reserve.
    fn write_if_room_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    ///
    /// Any error of the file system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes everything written so far durable. Fails for a file that no longer has a name, since
    /// its contents won't survive.
    ///
    /// # Errors
    ///
    /// Any error of the file system. From then on it's unknown, for good, what became of everything
    /// written since the last sync.
    fn sync(&self) -> io::Result<()>;
}
