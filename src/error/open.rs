//! Why a store could not be opened.

use std::io;

use super::{StorageError, is_full};

/// Why a store could not be opened. Nothing that was stored is lost by a failed open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another handle, in this process or in another one, has the store open, and kept it open for as
    /// long as [`Builder::wait_for_lock`](crate::Builder::wait_for_lock) says. A store that was closed
    /// in this process stays locked while an [`Execution`](crate::Execution) of it lives.
    #[error(
        "the store is open elsewhere: close it there and drop its executions, share one `Store` (it \
         is cheap to clone), or wait longer with `wait_for_lock`"
    )]
    Locked,
    /// There is no store, and none was to be made.
    #[error(
        "there is no store in this directory: check the path, and that its volume is mounted; \
         `create(true)` makes one"
    )]
    NotFound,
    /// There is a store, and a new one was to be made.
    #[error("there is a store in this directory already: open it without `create_new`")]
    Exists,
    /// There is no store, and the directory has files of somebody else's, among which none is made.
    #[error(
        "there is no store in this directory, but other files: check the path, or choose an empty \
         directory"
    )]
    NotEmpty,
    /// The path is there, but is not a directory.
    #[error("a store is a directory, and the path is something else: choose another path")]
    NotADirectory,
    /// The clock, or the latest time that the store has seen, is after the year 2200. Keys would
    /// expire at once.
    #[error(
        "the clock or the store's time is after the year 2200: set the machine's clock, or give a \
         clock that shows milliseconds; if it is right now, open once with `accept_clock(true)`"
    )]
    Clock,
    /// The wall clock has moved farther since the store was written last than
    /// [`Builder::clock_jump_max`](crate::Builder::clock_jump_max) allows.
    #[error(
        "the wall clock has moved by {moved_ms} ms since the store was written last, more than the \
         {max_ms} ms of `clock_jump_max`: check the clock, then open with a larger bound"
    )]
    ClockJump {
        /// Milliseconds by which it has moved; negative if it was set back.
        moved_ms: i64,
        /// Most milliseconds that were allowed.
        max_ms: u64,
    },
    /// A file of the directory has the name of a store's file, but is not one.
    #[error("`{file}` is not a file of an idemstore store: choose another directory")]
    NotAStore {
        /// Name of the file within the store's directory.
        file: &'static str,
    },
    /// The store was written by a version with another format.
    #[error(
        "`{file}` has format version {found}, and this version of idemstore reads up to {supported}: \
         use a newer one"
    )]
    UnsupportedVersion {
        /// Name of the file within the store's directory.
        file: &'static str,
        /// Format version of the file.
        found: u32,
        /// The latest format version that can be read.
        supported: u32,
    },
    /// The store is damaged, and to go on could run an operation a second time. Restore a backup.
    #[error("`{file}` is damaged: {detail}")]
    Corrupt {
        /// Name of the file within the store's directory.
        file: &'static str,
        /// What was found.
        detail: String,
    },
    /// An option of the builder is out of its range.
    #[error("{option} is {value}, it must be from {min} to {max}")]
    Option {
        /// Name of the builder's method.
        option: &'static str,
        /// What it was given.
        value: u64,
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
    },
    /// The place is read-only, or may not be written by this user; or the store is to be made in a
    /// directory that this user may not read, so that its name could not be made durable. A store
    /// cannot be opened for reading only.
    #[error("the store's directory cannot be written, give this user the right to: {source}")]
    NotWritable {
        /// What the operating system said.
        source: io::Error,
    },
    /// The disk is full, also of what the store has kept of it for itself.
    #[error("the disk is full: free {needed} bytes on it, then open again")]
    DiskFull {
        /// Bytes that an open needs at most, beside those that are kept for it.
        needed: u64,
    },
    /// The operating system refused.
    #[error("could not {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// redb refused.
    #[error("could not open `{file}`: {source}")]
    Storage {
        /// Name of the file within the store's directory.
        file: &'static str,
        /// What redb said.
        source: StorageError,
    },
}

impl OpenError {
    /// Sorts what the operating system said into what the caller can do about it.
    pub(crate) fn io(action: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock => Self::Locked,
            io::ErrorKind::NotADirectory => Self::NotADirectory,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { source }
            }
            _ => Self::Io { action, source },
        }
    }

    /// The same; if the disk was full, the bytes that were needed.
    pub(crate) fn needing(self, bytes: u64) -> Self {
        match self {
            Self::Io { source, .. } if is_full(&source) => Self::DiskFull { needed: bytes },
            Self::Storage { source, .. } if source.is_full() => Self::DiskFull { needed: bytes },
            other => other,
        }
    }
}
