//! The error types: one for each decision that a caller can make.
//!
//! No error ever shows a key, a fingerprint or a result.

mod bound;
mod open;

use std::fmt;
use std::io;

use crate::sync::Arc;
pub use bound::Bound;
pub use open::OpenError;

/// Why bytes aren't a valid key or scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has no bytes.
    #[error("the idempotency key is empty: it must have at least one byte")]
    Empty,
    /// The key has too many bytes.
    #[error(
        "the idempotency key has {len} bytes, but at most {max} are allowed: use a shorter one"
    )]
    TooLong {
        /// Bytes of the key.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
    /// The scope has too many bytes.
    #[error(
        "the scope of the idempotency key has {len} bytes, but at most {max} are allowed: use a \
         shorter one"
    )]
    ScopeTooLong {
        /// Bytes of the scope.
        len: usize,
        /// The most bytes allowed.
        max: usize,
    },
}

/// Why a call to the store failed. A call never returns an answer that isn't durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store was closed.
    #[error("the store is closed: open it again")]
    Closed,
    /// A limit is reached, so the store can't start another operation for now. Nothing was changed.
    /// [`Bound`] says which limit, and when there is room again.
    #[error("the store cannot start another operation: {bound}")]
    Overloaded {
        /// The limit that is reached.
        bound: Bound,
    },
    /// A write failed partway: it's unknown whether this call is durable, and only opening the
    /// store again can tell. The operation must be treated neither as done nor as not done.
    #[error("the outcome is unknown until the store is opened again: {0}")]
    OutcomeUnknown(StorageError),
    /// An earlier write failed, or a file of the store was removed, moved or replaced. Results that
    /// were durable before are still replayed, as far as they can be read: after a failure of the
    /// vault's own file, redb reads only what is in its cache. Everything else fails until the
    /// store is opened again.
    #[error("an earlier failure stopped the store, open it again: {0}")]
    Poisoned(StorageError),
    /// The call would wait for the transaction that it's made from: a closure passed to
    /// `complete_with` or `Store::transaction` must not write to the store in any other way.
    /// Nothing was changed.
    #[error("the store cannot be written from within its own transaction: call it afterwards")]
    InTransaction,
    /// The handle belongs to another store than the one that was called. Nothing was changed.
    #[error("the handle belongs to another store: pass it to the store that returned it")]
    OtherStore,
    /// This process was forked from the one that opened the store. Nothing was changed. Open a
    /// store after the fork, in the process that uses it.
    #[error(
        "the store was opened before this process was forked: open it after the fork, in the \
         process that uses it"
    )]
    OtherProcess,
    /// The clock is past the year 2200, so the operation's retention can't be computed. Nothing was
    /// changed.
    #[error("the store's clock is past the year 2200: it must show milliseconds since 1970")]
    Clock,
    /// A read failed. Nothing was changed.
    #[error("could not read the store: {0}")]
    Storage(StorageError),
    /// The operating system could not start a thread, which the first future needs. Nothing was
    /// changed.
    #[error("could not start a thread: {0}")]
    Thread(StorageError),
    /// A stored record is damaged or missing. Nothing was changed, and the key isn't free. Restore
    /// a backup.
    #[error("a stored record is damaged: {detail}")]
    Corrupt {
        /// What was found.
        detail: String,
    },
}

/// Why a result was not stored. If the call was refused before anything was written, the error
/// returns the handle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError<H> {
    /// The result is longer than the store accepts. Complete with a shorter one, or keep only its
    /// digest: `complete_digest`.
    #[error(
        "the result has {len} bytes, but `result_len_max` is {max}: complete with a shorter one, or \
         keep only its digest"
    )]
    TooLarge {
        /// Bytes of the result.
        len: usize,
        /// The most bytes that the store accepts.
        max: usize,
        /// The handle, as it was before.
        handle: H,
    },
    /// A limit is reached, so the store can't complete an operation that was not started. Try again
    /// later. A started operation is never refused for this reason.
    #[error("the store cannot start another operation: {bound}")]
    Overloaded {
        /// The limit that is reached.
        bound: Bound,
        /// The handle, as it was before.
        handle: H,
    },
    /// The call was made from within a transaction of the same store. Complete the operation after
    /// that transaction.
    #[error("the store cannot be written from within its own transaction: call it afterwards")]
    InTransaction {
        /// The handle, as it was before.
        handle: H,
    },
    /// The handle belongs to another store than the one that was called.
    #[error("the handle belongs to another store: pass it to the store that returned it")]
    OtherStore {
        /// The handle, as it was before.
        handle: H,
    },
    /// The value can't be encoded.
    #[cfg(feature = "typed")]
    #[error("{EncodeError}")]
    NoEncoding {
        /// The handle, as it was before.
        handle: H,
    },
    /// The store failed, and the handle is gone.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The value can't be encoded: its `Serialize` implementation fails, or it contains a sequence that
/// does not know its own length.
#[cfg(feature = "typed")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the value cannot be encoded: its `Serialize` implementation fails, or a sequence in it does \
     not know its length"
)]
#[non_exhaustive]
pub struct EncodeError;

/// Why a result can't be decoded as the requested type.
#[cfg(feature = "typed")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The result was stored as bytes, not as a typed value.
    #[error("the result was stored as bytes, not as a typed value: read its bytes instead")]
    NotTyped,
    /// The result has another type, or the type has changed since the result was stored.
    #[error("the result is not a `{wanted}`: it has another type, or the type has changed since")]
    TypeChanged {
        /// The type that was requested.
        wanted: &'static str,
    },
}

impl<H> CompleteError<H> {
    /// Returns the handle, if the call was refused before anything was written.
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

    /// Returns the handle with the error, unless the store has failed.
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
    /// The checkpoint is longer than the store accepts. Store a shorter one.
    #[error("the checkpoint has {len} bytes, but `result_len_max` is {max}: store a shorter one")]
    TooLarge {
        /// Bytes of the checkpoint.
        len: usize,
        /// The most bytes that the store accepts.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why an operation could not be finished by its key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// No operation was started under this key, or it's finished already, or its retention has
    /// ended.
    #[error("no operation is open under this key: none was started, or it is finished or expired")]
    NotExecuting,
    /// A live handle holds the key, and only that handle can finish the operation.
    /// `Execution::detach` gives it up.
    #[error("a live handle holds the key: finish the operation with that handle, or detach it")]
    Held,
    /// The result is longer than the store accepts. Complete with a shorter one.
    #[error(
        "the result has {len} bytes, but `result_len_max` is {max}: complete with a shorter one"
    )]
    TooLarge {
        /// Bytes of the result.
        len: usize,
        /// The most bytes that the store accepts.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl FinishError {
    /// Why a completion failed. `put_down` receives the handle if it's as it was before.
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
    #[error("the transaction's closure returned an error")]
    Operation(#[source] E),
    /// The closure leaked a table that it had opened, or continued after redb had failed or
    /// panicked within it. Nothing of the transaction is stored, and the store accepts no further
    /// writes until it's opened again, because redb may still hold what was leaked.
    #[error(
        "the transaction's closure leaked a table, or continued after redb had failed: open the \
         store again"
    )]
    Unfinished,
    /// The closure asked for one of the store's own tables.
    #[error(
        "the tables `records`, `results`, `meta` and `idemstore-doubts` are the store's own: use \
         another name"
    )]
    ReservedTable,
    /// The result is longer than the store accepts.
    #[error("the result has {len} bytes, but `result_len_max` is {max}: return a shorter one")]
    TooLarge {
        /// Bytes of the result.
        len: usize,
        /// The most bytes that the store accepts.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

#[cfg(feature = "transaction")]
impl<E> TransactionError<E> {
    /// Returns the store's failure, if this is one.
    pub(crate) fn of_store(&self) -> Option<&dyn fmt::Display> {
        match self {
            Self::Store(error) => Some(error),
            Self::Unfinished => Some(&"the transaction was left unfinished"),
            Self::Operation(_) | Self::ReservedTable | Self::TooLarge { .. } => None,
        }
    }
}

/// Why a store could not be backed up or compacted. The store has not changed, unless the error
/// says that the store has failed: then the next open finds either the old vault or the new one,
/// whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The directory already contains a store, part of one, or another file.
    #[error("the directory already contains a store or another file: choose an empty directory")]
    Exists,
    /// The operating system refused to write the copy, or to read the files to be copied.
    #[error("could not write the copy: {0}")]
    Io(#[from] io::Error),
    /// The copy was written, but isn't a whole store.
    #[error("could not use the copy: {0}")]
    Storage(StorageError),
    /// The store to be copied has failed, or is closed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl CopyError {
    /// Why the files of a copy could not be created.
    pub(crate) fn of(error: OpenError) -> Self {
        match error {
            OpenError::Io { source, .. } | OpenError::NotWritable { source } => Self::Io(source),
            OpenError::Locked | OpenError::Corrupt { .. } | OpenError::NotEmpty => Self::Exists,
            other => Self::Io(io::Error::other(other)),
        }
    }
}

/// An error from the underlying storage. It's opaque, so that upgrading redb is not a breaking
/// change.
#[derive(Clone)]
pub struct StorageError(Arc<dyn std::error::Error + Send + Sync>);

impl StorageError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// Returns whether the disk is full.
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

/// Returns whether the operating system refused a write for lack of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
