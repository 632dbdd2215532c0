//! One error type for each decision that a caller can take.
//!
//! None of them ever shows a key, a fingerprint or a result.

mod bound;
mod open;

use std::fmt;
use std::io;

use crate::sync::Arc;
pub use bound::Bound;
pub use open::OpenError;

/// Why some bytes are no valid key or scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key has at least one byte.
    #[error("the idempotency key is empty")]
    Empty,
    /// The key has too many bytes.
    #[error("the idempotency key has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes of the key.
        len: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// The scope has too many bytes.
    #[error("the scope of the idempotency key has {len} bytes, at most {max} are allowed")]
    ScopeTooLong {
        /// Bytes of the scope.
        len: usize,
        /// Most that are allowed.
        max: usize,
    },
}

/// Why the store could not answer. No answer was given that is not durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Too much is under way, or stored, to start one more operation. Nothing was changed; [`Bound`]
    /// says what ends it.
    #[error("the store starts nothing more for now: {bound}")]
    Overloaded {
        /// What the store has as much of as it may.
        bound: Bound,
    },
    /// Writing failed in the middle: whether this call is durable is not known, and only a new
    /// open of the store can tell. The operation must not be taken as done, nor as not done.
    #[error("the outcome is unknown until the store is opened again: {0}")]
    OutcomeUnknown(StorageError),
    /// An earlier write failed, or a file of the store was removed, moved or replaced. Results that were
    /// durable before are still replayed, as far as they
    /// can be read: after a failure of the vault's own file, redb reads only what it has in its
    /// cache. Everything else waits until the store is opened again.
    #[error("an earlier write failed, open the store again: {0}")]
    Poisoned(StorageError),
    /// The call would wait for the transaction that it is made from: a closure of `complete_with`
    /// or `Store::transaction` must not write to the store in another way. Nothing was changed.
    #[error("the store cannot be written from within a transaction of its own")]
    InTransaction,
    /// The handle is of another store than the one that was called. Nothing was changed.
    #[error("the handle is of another store")]
    OtherStore,
    /// This process was forked from the one that opened the store. Nothing was changed. Open a store
    /// after the fork, in the process that uses it.
    #[error("another process has opened this store, and this one was forked from it")]
    OtherProcess,
    /// The clock is after the year 2200, so that the operation's retention cannot be told. Nothing
    /// was changed.
    #[error("the store's clock is after the year 2200: it must show milliseconds since 1970")]
    Clock,
    /// Reading failed. Nothing was changed.
    #[error("could not read the store: {0}")]
    Storage(StorageError),
    /// The operating system gave no thread, which the first future needs. Nothing was changed.
    #[error("could not start a thread: {0}")]
    Thread(StorageError),
    /// A stored record is damaged or missing. Nothing was changed, and the key is not free.
    #[error("a stored record is damaged: {detail}")]
    Corrupt {
        /// What was found.
        detail: String,
    },
}

/// Why a result was not stored. A refusal gives the handle back, since nothing was
/// written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError<H> {
    /// The result is longer than the store takes. Complete with a shorter one, or keep its digest alone: `complete_digest`.
    #[error("the result has {len} bytes, the store takes at most {max}")]
    TooLarge {
        /// Bytes of the result.
        len: usize,
        /// Most that the store takes.
        max: usize,
        /// The handle, as it was before.
        handle: H,
    },
    /// Too much is under way, or stored, to complete an operation that was not started. Complete
    /// again, later. What was started is never refused for this.
    #[error("the store starts nothing more for now: {bound}")]
    Overloaded {
        /// What the store has as much of as it may.
        bound: Bound,
        /// The handle, as it was before.
        handle: H,
    },
    /// The call was made from within a transaction of the store's. Complete again, after it.
    #[error("the store cannot be written from within a transaction of its own")]
    InTransaction {
        /// The handle, as it was before.
        handle: H,
    },
    /// The handle is of another store than the one that was called.
    #[error("the handle is of another store")]
    OtherStore {
        /// The handle, as it was before.
        handle: H,
    },
    /// The value has no encoding.
    #[cfg(feature = "typed")]
    #[error("{EncodeError}")]
    NoEncoding {
        /// The handle, as it was before.
        handle: H,
    },
    /// The store failed; the handle is gone.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A value that has no encoding: it refuses to be serialised, or does not know its own length.
#[cfg(feature = "typed")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value has no encoding")]
#[non_exhaustive]
pub struct EncodeError;

/// Why a result is not a value of the type that was asked for.
#[cfg(feature = "typed")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The result was stored as bytes, not as a value.
    #[error("the result was stored as bytes, not as a value of a type")]
    NotTyped,
    /// The result is a value of another type, or the type has changed since it was stored.
    #[error("the result was stored as another type than `{wanted}` is now")]
    TypeChanged {
        /// The type that was asked for.
        wanted: &'static str,
    },
}

impl<H> CompleteError<H> {
    /// The handle, if the call was refused before anything was written.
    #[must_use]
    pub fn into_handle(self) -> Option<H> {
        match self {
            Self::TooLarge { handle, .. }
            | Self::Overloaded { handle, .. }
            | Self::InTransaction { handle }
            | Self::OtherStore { handle } => Some(handle),
            #[cfg(feature = "typed")]
            Self::NoEncoding { handle } => Some(handle),
            Self::Store(_) => None,
        }
    }

    /// Gives the handle back, unless the store has failed.
    pub(crate) fn refused((error, handle): (Error, H)) -> Self {
        match error {
            Error::Overloaded { bound } => Self::Overloaded { bound, handle },
            Error::InTransaction => Self::InTransaction { handle },
            Error::OtherStore => Self::OtherStore { handle },
            error => Self::Store(error),
        }
    }
}

/// Why a checkpoint was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The checkpoint is longer than the store takes. Store a shorter one.
    #[error("the checkpoint has {len} bytes, the store takes at most {max}")]
    TooLarge {
        /// Bytes of the checkpoint.
        len: usize,
        /// Most that the store takes.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why an execution could not be finished by its key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// Nothing was started under this key, or it is finished already, or its retention is over.
    #[error("no execution is open under this key")]
    NotExecuting,
    /// A live handle holds the key: it alone can finish it. `Execution::detach` gives it up.
    #[error("a live handle holds the key")]
    Held,
    /// The result is longer than the store takes. Complete with a shorter one.
    #[error("the result has {len} bytes, the store takes at most {max}")]
    TooLarge {
        /// Bytes of the result.
        len: usize,
        /// Most that the store takes.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl FinishError {
    /// Why a completion failed; `put_down` gets the handle if that is as it was.
    pub(crate) fn of<H>(error: CompleteError<H>, put_down: impl FnOnce(H)) -> Self {
        let (error, handle) = match error {
            CompleteError::TooLarge { len, max, handle } => (Self::TooLarge { len, max }, handle),
            CompleteError::Overloaded { bound, handle } => {
                (Error::Overloaded { bound }.into(), handle)
            }
            CompleteError::InTransaction { handle } => (Error::InTransaction.into(), handle),
            CompleteError::OtherStore { handle } => (Error::OtherStore.into(), handle),
            #[cfg(feature = "typed")]
            CompleteError::NoEncoding { .. } => unreachable!("bytes need no encoding"),
            CompleteError::Store(error) => return error.into(),
        };
        put_down(handle);
        error
    }
}

/// Why a transaction was not committed. Unless the outcome is unknown, nothing of it is stored, and
/// the key is free.
#[cfg(feature = "transaction")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// The closure returned this error.
    #[error("the operation was refused")]
    Operation(#[source] E),
    /// The closure leaked a table that it had opened, or went on after redb had failed or panicked
    /// within it. Nothing of it is stored, and the store takes no further writes until it is opened
    /// again, since redb may hold on to what was leaked.
    #[error("the closure left the transaction unfit to be committed")]
    Unfinished,
    /// The closure asked for one of the store's own tables.
    #[error("the tables `records`, `results`, `meta` and `idemstore-doubts` are the store's own")]
    ReservedTable,
    /// The result is longer than the store takes.
    #[error("the result has {len} bytes, the store takes at most {max}")]
    TooLarge {
        /// Bytes of the result.
        len: usize,
        /// Most that the store takes.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

#[cfg(feature = "transaction")]
impl<E> TransactionError<E> {
    /// The failure of the store, if it is one.
    pub(crate) fn of_store(&self) -> Option<&dyn fmt::Display> {
        match self {
            Self::Store(error) => Some(error),
            Self::Unfinished => Some(&"the transaction was left unfinished"),
            Self::Operation(_) | Self::ReservedTable | Self::TooLarge { .. } => None,
        }
    }
}

/// Why a store could not be backed up or compacted. Nothing of the store has changed, unless the error
/// is that of a store that has failed: then the next open finds one vault or the other, whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is a store in the directory already, or part of one, or another file.
    #[error("there is a store in the directory already, or another file: choose an empty one")]
    Exists,
    /// The operating system refused to write the copy, or to read what is copied.
    #[error("could not write the copy: {0}")]
    Io(#[from] io::Error),
    /// The copy was written, and is not a whole store.
    #[error("could not use the copy: {0}")]
    Storage(StorageError),
    /// The store that was to be copied has failed, or is closed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl CopyError {
    /// Why the files of a copy could not be made.
    pub(crate) fn of(error: OpenError) -> Self {
        match error {
            OpenError::Io { source, .. } | OpenError::NotWritable { source } => Self::Io(source),
            OpenError::Locked | OpenError::Corrupt { .. } | OpenError::NotEmpty => Self::Exists,
            other => Self::Io(io::Error::other(other)),
        }
    }
}

/// An error of the underlying storage. It is opaque, so that an upgrade of redb is no breaking change.
#[derive(Clone)]
pub struct StorageError(Arc<dyn std::error::Error + Send + Sync>);

impl StorageError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        let error: &(dyn std::error::Error + 'static) = &*self.0;
        error.downcast_ref().is_some_and(is_full)
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        Self::new(error)
    }
}

/// Whether the operating system has refused a write for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
