//! What a store can have as much of as it may.

/// What a store has as much of as it may, so that it starts no further operation for now.
///
/// What was started is finished all the same: a bound refuses starts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Bound {
    /// Keys, stored or reserved. It ends when one of them expires, or is freed.
    #[error(
        "it has {max} keys, as `keys_max` allows: wait until keys expire, free some, or allow more"
    )]
    Keys {
        /// Keys that [`Builder::keys_max`](crate::Builder::keys_max) allows.
        max: usize,
    },
    /// Bytes of all keys: each that is completed with its result, and each other with the longest. It
    /// ends when keys expire, are freed, or are completed with less.
    #[error(
        "its keys count for the {max} bytes that `bytes_max` allows: wait until keys expire, free \
         some, or allow more"
    )]
    Bytes {
        /// Bytes that [`Builder::bytes_max`](crate::Builder::bytes_max) allows.
        max: u64,
    },
    /// The same of the key's scope.
    #[error(
        "the keys of this scope count for the {max} bytes that `scope_bytes_max` allows: wait until \
         keys of it expire, free some, or allow more"
    )]
    ScopeBytes {
        /// Bytes that [`Builder::scope_bytes_max`](crate::Builder::scope_bytes_max) allows.
        max: u64,
    },
    /// Starts that wait for their fsync. It ends when the disk has caught up.
    #[error("{max} starts wait for the disk: try again when it has caught up")]
    Starts {
        /// Most starts that wait at one time.
        max: usize,
    },
    /// Bytes of starts that wait for their fsync. It ends when the disk has caught up.
    #[error("starts of {max} bytes wait for the disk: try again when it has caught up")]
    StartBytes {
        /// Most bytes of starts that wait at one time.
        max: usize,
    },
    /// Starts of this scope that wait for their fsync: as many as there is room left for others. It
    /// ends when the disk has caught up.
    #[error(
        "the starts of this scope that wait for the disk have their share: try again when it has \
         caught up"
    )]
    ScopeShare,
    /// Room on the disk for the results of what is started. It ends when the disk has that much more
    /// room; until then what was started is completed, results are replayed, and sweeping makes room.
    #[error(
        "the disk has no room for one more result: free {needed} bytes on it, or wait until keys \
         expire"
    )]
    Disk {
        /// Bytes that are missing, beside those that are kept for what was started.
        needed: u64,
    },
    /// Records that were ever made. A store that has reached this has no end but a new one.
    #[error("{max} records were ever made, the last number that there is: make a new store")]
    Serials {
        /// Most records that a store ever makes.
        max: u64,
    },
}
