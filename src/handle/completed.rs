//! What is kept of a completed operation.

use crate::clock::Timestamp;
use crate::rules::record::{Digest, Record};
use crate::sync::Arc;

/// A completed operation and its result.
#[derive(Clone)]
pub struct Completed {
    pub(super) record: Arc<Record>,
    at: Timestamp,
    result: Arc<[u8]>,
}

impl Completed {
    pub(crate) fn new(record: Arc<Record>, at: Timestamp, result: Arc<[u8]>) -> Self {
        Self { record, at, result }
    }

    /// Returns the result, byte for byte as it was stored.
    #[must_use]
    pub fn result(&self) -> &[u8] {
        &self.result
    }

    /// Returns when the result was stored.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.at
    }
}

/// A completed operation whose result was too long to keep. It prevents a second execution just as
/// a stored result does.
///
/// ```
/// # use idemstore::{Begin, CompleteError, Fingerprint, Key, Store};
/// # let directory = tempfile::tempdir()?;
/// # let store = Store::builder().result_len_max(10).open(directory.path().join("store"))?;
/// # let (key, request) = (Key::new("export-1")?, Fingerprint::of("all of it"));
/// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
/// let execution = permit.start()?;
/// let report = "much too long for this store";
/// match execution.complete(report) {
///     Ok(completed) => drop(completed),
///     Err(CompleteError::TooLarge { handle, .. }) => drop(handle.complete_digest(report)?),
///     Err(error) => return Err(error.into()),
/// }
///
/// let Begin::NotKept(not_kept) = store.begin(&key, request)? else { panic!("it is done") };
/// assert_eq!(not_kept.result_len(), 28);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "Tombstone")]
pub struct NotKept {
    pub(super) record: Arc<Record>,
    at: Timestamp,
    digest: Digest,
}

impl NotKept {
    pub(crate) fn new(record: Arc<Record>, at: Timestamp, digest: Digest) -> Self {
        Self { record, at, digest }
    }

    /// Returns the length of the result in bytes.
    #[must_use]
    pub fn result_len(&self) -> u64 {
        self.digest.len
    }

    /// Returns the BLAKE3 digest of the result, for finding a copy elsewhere or verifying one.
    #[must_use]
    pub fn result_digest(&self) -> [u8; 32] {
        self.digest.blake3
    }

    /// Returns when the operation was completed.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.at
    }
}
