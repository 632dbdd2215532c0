//! The one seam between the store and the file system, under the log and the vault alike.
//!
//! It is public only so that the store's own tests can put a simulated disk below it. It is no
//! part of the API, and changes without notice.

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

/// One directory that holds one store.
///
/// It is entered first, then looked at, then locked; what is in it is touched after that only.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens the directory. If it is missing it is made, if `make` says so.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is missing, `NotADirectory` if the path is something else.
    fn enter(&mut self, make: bool) -> io::Result<()> {
        let _ = make;
        Ok(())
    }

    /// The names of all that is in the directory.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Takes the exclusive lock of the directory until this is dropped, and says whether it was
    /// [signed](Disk::sign) before. It waits for so long while another holds the lock.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if another holds the lock.
    fn lock(&mut self, wait: Duration) -> io::Result<bool>;

    /// Leaves word in the directory, durably, that it holds a whole store.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn sign(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the directory and each file of it that is open are still where they were.
    ///
    /// # Errors
    ///
    /// Says what is not.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether others than the owner and the group may read or write what is in the directory.
    fn is_exposed(&self) -> bool {
        false
    }

    /// Keeps so many bytes of the disk for writes that find it full. What is kept beyond is let go of.
    ///
    /// # Errors
    ///
    /// `StorageFull` if there is no room for more: what was kept still is.
    fn keep(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Bytes that are kept now.
    fn kept(&self) -> u64 {
        u64::MAX
    }

    /// Opens a file for reading and writing, with an exclusive lock.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none, `WouldBlock` if another holds its lock.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a new, empty file and opens it as [`Disk::open`] does. What had the name is gone.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file's name away, if there is one.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn sync_names(&self) -> io::Result<()>;
}

/// One file of the store.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads all of `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before, or as the file system says.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// The same, and takes nothing of what is [kept](Disk::keep).
    ///
    /// # Errors
    ///
    /// `StorageFull` if there is no room but that.
    fn write_if_room_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written durable. What is in a file that has no name any more is not.
    ///
    /// # Errors
    ///
    /// As the file system says. What was written since the last sync is then unknown for ever.
    fn sync(&self) -> io::Result<()>;
}
