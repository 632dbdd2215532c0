//! What a store contains and has done, in numbers.

use std::time::Duration;

use crate::local::Engine;
#[cfg(feature = "metrics")]
use crate::observe::{self, Gauges};
use crate::sync::Ordering;

/// A snapshot of a store's numbers. They are read one after the other while the store keeps
/// working.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The bytes that keys count for, as [`Builder::bytes_max`](crate::Builder::bytes_max) counts
    /// them, including expired keys that are not swept yet.
    pub bytes: u64,
    /// Durable records, including expired ones that are not swept yet.
    pub records: usize,
    /// Records that have not expired.
    pub live: usize,
    /// Records that have expired and are waiting to be swept.
    pub sweep_backlog: usize,
    /// Keys that are held by a handle, or detached.
    pub in_flight: usize,
    /// Keys whose operation was started and that no handle holds.
    pub interrupted: usize,
    /// Keys that a caller is waiting for.
    pub waited_for: usize,
    /// Changes in the log that are not in the vault yet.
    pub unsettled_changes: usize,
    /// How long the oldest unsettled change has been in the log.
    pub oldest_unsettled: Option<Duration>,
    /// Bytes in the log segment that is being written.
    pub log_bytes: u64,
    /// Bytes of all files, including free room within them.
    pub file_bytes: u64,
    /// Batches made durable since the store was opened, each with one fsync.
    pub batches: u64,
    /// Changes in those batches.
    pub changes: u64,
    /// Changes in the largest of those batches.
    pub batch_changes_max: u64,
    /// How often the log was settled into the vault since the store was opened.
    pub settles: u64,
    /// Expired records deleted since the store was opened.
    pub swept: u64,
    /// The last jump of the wall clock, in milliseconds; negative if the clock was set back. This
    /// is how far it moved between the last write of an earlier run and this open, or a later jump
    /// of more than a second against the store's time. It's 0 for a new store.
    pub clock_jump: i64,
    /// Whether users other than the owner and the group could read or write the store's files, or
    /// anyone could write its directory, when the store was opened. Use `chmod` to change that.
    pub exposed: bool,
}

impl Stats {
    pub(crate) fn of(Engine { index, journal, time, exposed, .. }: &Engine) -> Self {
        // In a forked child, a thread that the child does not have may hold a lock.
        if journal.check_process().is_err() {
            return Self::default();
        }
        let (unsettled, counters) = (journal.unsettled(), journal.counters());
        let counts = index.count(time.now());
        Self {
            bytes: index.room().bytes(),
            records: counts.live + counts.expired,
            live: counts.live,
            sweep_backlog: counts.expired,
            in_flight: counts.held,
            interrupted: counts.interrupted(),
            waited_for: counts.waited_for,
            unsettled_changes: unsettled.changes,
            oldest_unsettled: unsettled.since.map(|since| since.elapsed()),
            log_bytes: unsettled.bytes,
            file_bytes: journal.file_bytes(),
            batches: counters.batches.load(Ordering::Relaxed),
            changes: counters.changes.load(Ordering::Relaxed),
            batch_changes_max: counters.batch_changes_max.load(Ordering::Relaxed),
            settles: counters.settles.load(Ordering::Relaxed),
            swept: counters.swept.load(Ordering::Relaxed),
            clock_jump: time.jump_ms(),
            exposed: *exposed,
        }
    }
}

#[cfg(feature = "metrics")]
impl Stats {
    /// Sets the gauges of the `metrics` recorder to these numbers. Call it before the recorder is
    /// read: a store does not update its gauges by itself.
    ///
    /// Counters and histograms are updated without a call. [docs/OBSERVABILITY.md] lists them all,
    /// with their units. They have no label for the store: in a program with several stores, the
    /// counters are sums over all stores, and the gauges are those of the store that published
    /// last.
    ///
    /// [docs/OBSERVABILITY.md]: https://docs.rs/crate/idemstore/latest/source/docs/OBSERVABILITY.md
    pub fn publish(&self) {
        observe::gauges(&Gauges {
            live: self.live,
            in_flight: self.in_flight,
            interrupted: self.interrupted,
            waited_for: self.waited_for,
            sweep_backlog: self.sweep_backlog,
            unsettled_changes: self.unsettled_changes,
            file_bytes: usize::try_from(self.file_bytes).unwrap_or(usize::MAX),
        });
    }
}
