//! What a store holds and has done, in numbers.

use crate::index::Index;
use crate::journal::Journal;
use crate::sync::Ordering;

/// A snapshot of a store. The numbers are read one after the other, while the store goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Durable records, also those that have expired and are not swept yet.
    pub records: usize,
    /// Keys that a handle holds, or that are detached.
    pub in_flight: usize,
    /// Changes in the log that the vault does not have yet.
    pub unsettled_changes: usize,
    /// Bytes of the log segment that is being written.
    pub log_bytes: u64,
    /// Batches made durable since the store was opened, each with one fsync.
    pub batches: u64,
    /// Changes in those batches.
    pub changes: u64,
    /// Times that the log was settled into the vault since the store was opened.
    pub settles: u64,
    /// Expired records deleted since the store was opened.
    pub swept: u64,
}

impl Stats {
    pub(crate) fn of(index: &Index, journal: &Journal) -> Self {
        let (unsettled_changes, log_bytes) = journal.unsettled();
        let counters = journal.counters();
        Self {
            records: index.records(),
            in_flight: index.held(),
            unsettled_changes,
            log_bytes,
            batches: counters.batches.load(Ordering::Relaxed),
            changes: counters.changes.load(Ordering::Relaxed),
            settles: counters.settles.load(Ordering::Relaxed),
            swept: counters.swept.load(Ordering::Relaxed),
        }
    }
}
