//! Counts what a journal has done.

use crate::sync::{AtomicU64, Ordering};

/// Totals since the store was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) batch_changes_max: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) settles: AtomicU64,
    pub(crate) swept: AtomicU64,
}

impl Counters {
    /// Counts one more batch.
    pub(super) fn count(&self, changes: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
        self.batch_changes_max.fetch_max(changes, Ordering::Relaxed);
    }
}
