//! The limits at which a store refuses to start operations.

/// A limit that a store has reached, so that it can't start another operation for now.
///
/// Operations that were already started can still finish: a limit refuses only starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Bound {
    /// Keys, stored or reserved. There is room again when a key expires or is freed.
    #[error(
        "the limit of {max} keys (`keys_max`) is reached: wait until keys expire, free some, or \
         raise the limit"
    )]
    Keys {
        /// The limit set by [`Builder::keys_max`](crate::Builder::keys_max).
        max: usize,
    },
    /// Bytes of all keys. A completed key counts with its result, and any other key with the
    /// longest result that the store accepts. There is room again when keys expire, are freed, or
    /// are completed with a shorter result.
    #[error(
        "the limit of {max} bytes for all keys (`bytes_max`) is reached: wait until keys expire, \
         free some, or raise the limit"
    )]
    Bytes {
        /// The limit set by [`Builder::bytes_max`](crate::Builder::bytes_max).
        max: u64,
    },
    /// Bytes of all keys in the same scope, counted as in [`Bound::Bytes`].
    #[error(
        "the limit of {max} bytes for the keys of one scope (`scope_bytes_max`) is reached: wait \
         until keys of this scope expire, free some, or raise the limit"
    )]
    ScopeBytes {
        /// The limit set by [`Builder::scope_bytes_max`](crate::Builder::scope_bytes_max).
        max: u64,
    },
    /// Starts that are waiting for their fsync. There is room again when the disk has caught up.
    #[error("the limit of {max} starts waiting for the disk is reached: retry once it catches up")]
    Starts {
        /// The most starts that can wait at one time.
        max: usize,
    },
    /// Bytes of starts that are waiting for their fsync. There is room again when the disk has
    /// caught up.
    #[error(
        "the limit of {max} bytes of starts waiting for the disk is reached: retry once it catches \
         up"
    )]
    StartBytes {
        /// The most bytes of starts that can wait at one time.
        max: usize,
    },
    /// Starts of one scope that are waiting for their fsync: a scope may take only as much of the
    /// queue as is left for others. There is room again when the disk has caught up.
    #[error(
        "the starts of this scope have used up their share of the queue for the disk: retry once \
         it catches up"
    )]
    ScopeShare,
    /// Room on the disk for the results of started operations. There is room again when that many
    /// more bytes are free. Until then, started operations can still be completed, results are
    /// replayed, and sweeping makes room.
    #[error(
        "the disk has no room for another result: free {needed} bytes on it, or wait until keys \
         expire"
    )]
    Disk {
        /// Bytes that are missing, besides those reserved for started operations.
        needed: u64,
    },
    /// Records created in the store's whole life. A store that has reached this limit must be
    /// replaced by a new one.
    #[error("the limit of {max} records in a store's whole life is reached: create a new store")]
    Serials {
        /// The most records that a store can create in its life.
        max: u64,
    },
}
