//! What a store holds and has done, in numbers.

use std::time::Duration;

use crate::local::Engine;
#[cfg(feature = "metrics")]
use crate::observe::{self, Gauges};
use crate::sync::Ordering;

/// A snapshot of a store. The numbers are read one after the other, while the store goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that keys count for, as [`Builder::bytes_max`](crate::Builder::bytes_max) counts them; also
    /// those that have expired and are not swept yet.
    pub bytes: u64,
    /// Durable records, also those that have expired and are not swept yet.
    pub records: usize,
    /// Those of them that have not expired.
    pub live: usize,
    /// Those of them that have expired: what there is to sweep.
    pub sweep_backlog: usize,
    /// Keys that a handle holds, or that are detached.
    pub in_flight: usize,
    /// Keys whose operation was started, and that nobody holds.
    pub interrupted: usize,
    /// Keys that some caller waits for.
    pub waited_for: usize,
    /// Changes in the log that the vault does not have yet.
    pub unsettled_changes: usize,
    /// How long the oldest of these has been in the log.
    pub oldest_unsettled: Option<Duration>,
    /// Bytes of the log segment that is being written.
    pub log_bytes: u64,
    /// Bytes of all files, with what in them is free.
    pub file_bytes: u64,
    /// Batches made durable since the store was opened, each with one fsync.
    pub batches: u64,
    /// Changes in those batches.
    pub changes: u64,
    /// Changes in the largest of those batches.
    pub batch_changes_max: u64,
    /// Times that the log was settled into the vault since the store was opened.
    pub settles: u64,
    /// Expired records deleted since the store was opened.
    pub swept: u64,
    /// The last jump of the wall clock, in milliseconds; negative if it was set back. That is how far
    /// it had moved between the last write of an earlier run and this open, or a jump of more than a
    /// second against the store's time since. 0 for a new store.
    pub clock_jump: i64,
    /// Whether others than the owner and the group may read or write the store's files, or anybody
    /// may write its directory, as it was when the store was opened. `chmod` ends that.
    pub exposed: bool,
}

impl Stats {
    pub(crate) fn of(Engine { index, journal, time, exposed, .. }: &Engine) -> Self {
        // A forked child may find a lock held by a thread that it does not have.
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
    /// read: a store does not count itself all the time.
    ///
    /// The counters and histograms need no call. [docs/OBSERVABILITY.md] lists all of them, with
    /// their units. They have no label for the store: a program with several stores has their sums
    /// in the counters, and publishes the gauges of one of them.
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
