//! Why a store could not be opened.

use std::io;

use super::{StorageError, is_full};

/// Why a store could not be opened. A failed open never loses anything that was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another handle, in this process or in another one, has the store open, and kept it open for
    /// longer than [`Builder::wait_for_lock`](crate::Builder::wait_for_lock) allows. A store that
    /// was closed in this process stays locked while an [`Execution`](crate::Execution) of it is
    /// alive.
    #[error(
        "the store is open elsewhere: close it there and drop its executions, share one `Store` (it \
         is cheap to clone), or raise `wait_for_lock`"
    )]
    Locked,
    /// There is no store, and the options say not to create one.
    #[error(
        "there is no store in this directory: check the path and that its volume is mounted, or \
         create a store with `create(true)`"
    )]
    NotFound,
    /// There is a store, and the options say to create a new one.
    #[error("the directory already contains a store: open it without `create_new`")]
    Exists,
    /// There is no store, and the directory contains other files. A store is never created among
    /// other files.
    #[error(
        "the directory contains no store, but other files: check the path, or choose an empty \
         directory"
    )]
    NotEmpty,
    /// The path exists, but isn't a directory.
    #[error("the path is not a directory: choose another path")]
    NotADirectory,
    /// The clock, or the latest time that the store has seen, is past the year 2200. Keys would
    /// expire at once.
    #[error(
        "the clock or the store's time is past the year 2200: set the machine's clock, or use a \
         clock that shows milliseconds; if the clock is right now, open once with \
         `accept_clock(true)`"
    )]
    Clock,
    /// Since the last write to the store, the wall clock has moved farther than
    /// [`Builder::clock_jump_max`](crate::Builder::clock_jump_max) allows.
    #[error(
        "the wall clock has moved by {moved_ms} ms since the last write to the store, more than the \
         {max_ms} ms of `clock_jump_max`: check the clock, then open with a larger limit"
    )]
    ClockJump {
        /// How far it has moved, in milliseconds; negative if it was set back.
        moved_ms: i64,
        /// The most milliseconds allowed.
        max_ms: u64,
    },
    /// A file in the directory has the name of a store's file, but isn't one.
    #[error("`{file}` is not a file of an idemstore store: choose another directory")]
    NotAStore {
        /// The name of the file within the store's directory.
        file: &'static str,
    },
    /// The store was written by a version of idemstore with another format.
    #[error(
        "`{file}` has format version {found}, but this version of idemstore reads only up to \
         {supported}: use a newer version"
    )]
    UnsupportedVersion {
        /// The name of the file within the store's directory.
        file: &'static str,
        /// The format version of the file.
        found: u32,
        /// The latest format version that can be read.
        supported: u32,
    },
    /// The store is damaged, and continuing could run an operation a second time. Restore a backup.
    #[error("`{file}` is damaged: {detail}")]
    Corrupt {
        /// The name of the file within the store's directory.
        file: &'static str,
        /// What was found.
        detail: String,
    },
    /// A [`Builder`](crate::Builder) option is out of its range.
    #[error("{option} is {value}, but it must be from {min} to {max}")]
    Option {
        /// The name of the builder's method.
        option: &'static str,
        /// The value that was given.
        value: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// The file system is read-only, or this user may not write the store; or the store would be
    /// created in a directory that this user may not read, so its name could not be made durable. A
    /// store can't be opened for reading only.
    #[error("the store's directory is not writable, give this user write access: {source}")]
    NotWritable {
        /// What the operating system said.
        source: io::Error,
    },
    /// The disk is full: not even the space that the store has reserved for itself is enough.
    #[error("the disk is full: free {needed} bytes on it, then open again")]
    DiskFull {
        /// The most bytes that an open needs, besides those reserved for it.
        needed: u64,
    },
    /// The operating system refused an operation.
    #[error("could not {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// redb could not open the file.
    #[error("could not open `{file}`: {source}")]
    Storage {
        /// The name of the file within the store's directory.
        file: &'static str,
        /// What redb said.
        source: StorageError,
    },
}

impl OpenError {
    /// Sorts an error of the operating system by what the caller can do about it.
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

    /// Returns the same error, or `DiskFull` with the bytes needed if the disk was full.
    pub(crate) fn needing(self, bytes: u64) -> Self {
        match self {
            Self::Io { source, .. } if is_full(&source) => Self::DiskFull { needed: bytes },
            Self::Storage { source, .. } if source.is_full() => Self::DiskFull { needed: bytes },
            other => other,
        }
    }
}
