//! What is left of an operation that is completed.

use crate::clock::Timestamp;
use crate::record::Record;
use crate::sync::Arc;

/// A completed operation and its result.
#[derive(Clone)]
pub struct Completed {
    pub(super) record: Arc<Record>,
}

impl Completed {
    /// `record` is of a completed operation whose result was kept.
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// The result, byte for byte as it was stored.
    #[must_use]
    pub fn result(&self) -> &[u8] {
        self.record.state.result().unwrap_or_default()
    }

    /// When its result was stored.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.record.state.completed_at().unwrap_or_default()
    }
}

/// A completed operation whose result was too long to keep. It blocks a second execution as a
/// result does.
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
///     Err(CompleteError::TooLarge { handle, .. }) => drop(handle.complete_tombstone(report)?),
///     Err(error) => return Err(error.into()),
/// }
///
/// let Begin::Tombstone(tombstone) = store.begin(&key, request)? else { panic!("it is done") };
/// assert_eq!(tombstone.result_len(), 28);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tombstone {
    pub(super) record: Arc<Record>,
}

impl Tombstone {
    /// `record` is of a completed operation whose result was not kept.
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// Bytes that the result had.
    #[must_use]
    pub fn result_len(&self) -> u64 {
        self.kept().0
    }

    /// BLAKE3 of the result, to find its copy elsewhere or to check one.
    #[must_use]
    pub fn result_digest(&self) -> [u8; 32] {
        self.kept().1
    }

    /// When the operation was completed.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.record.state.completed_at().unwrap_or_default()
    }

    fn kept(&self) -> (u64, [u8; 32]) {
        self.record.state.tombstone().unwrap_or_default()
    }
}
