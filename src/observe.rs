//! What the store reports about its work: events and spans with the feature `tracing`, metrics with
//! the feature `metrics`, and nothing without them. All of them are defined here, and none contains
//! a key, a fingerprint, a checkpoint or a result.
#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    expect(unused_variables, reason = "neither of the two tells all")
)]
#![cfg_attr(
    not(feature = "tracing"),
    expect(clippy::unused_self, reason = "not all work is measured")
)]

use std::fmt::Display;

use crate::error::{Error, StorageError};

/// The target of all events and spans.
#[cfg(feature = "tracing")]
const TARGET: &str = "idemstore";

/// A piece of work that takes some time. Events reported meanwhile are within its span.
pub(crate) struct Work {
    #[cfg(feature = "metrics")]
    began: std::time::Instant,
    #[cfg(feature = "tracing")]
    span: tracing::span::EnteredSpan,
}

macro_rules! work {
    ($level:ident, $name:literal $(, $field:ident)*) => {
        Work {
            #[cfg(feature = "metrics")]
            began: std::time::Instant::now(),
            #[cfg(feature = "tracing")]
            span: tracing::span!(target: TARGET, tracing::Level::$level, $name $(, $field)*).entered(),
        }
    };
}

impl Work {
    /// A store is opened, and the contents of the log are recovered.
    pub(crate) fn open() -> Self {
        #[cfg(feature = "metrics")]
        numbers::describe();
        work!(INFO, "open")
    }

    pub(crate) fn opened(self, records: u64, recovered: usize) {
        #[cfg(feature = "tracing")]
        tracing::info!(target: TARGET, parent: &self.span, records, recovered, "opened");
        #[cfg(feature = "metrics")]
        metrics::histogram!(numbers::OPEN).record(self.began.elapsed());
    }

    /// A batch is made durable.
    pub(crate) fn commit(changes: usize, bytes: usize) -> Self {
        work!(DEBUG, "commit", changes, bytes)
    }

    pub(crate) fn committed(self, changes: usize) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, parent: &self.span, "committed");
        #[cfg(feature = "metrics")]
        {
            metrics::histogram!(numbers::COMMIT).record(self.began.elapsed());
            metrics::histogram!(numbers::BATCH).record(count(changes));
        }
    }

    /// The contents of the log are moved into the vault.
    pub(crate) fn settle(changes: usize) -> Self {
        work!(DEBUG, "settle", changes)
    }

    pub(crate) fn settled(self) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, parent: &self.span, "settled");
        #[cfg(feature = "metrics")]
        metrics::histogram!(numbers::SETTLE).record(self.began.elapsed());
    }

    /// Expired records are deleted.
    pub(crate) fn sweep() -> Self {
        work!(DEBUG, "sweep")
    }

    pub(crate) fn swept(self, records: usize) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: TARGET, parent: &self.span, records, "swept");
        #[cfg(feature = "metrics")]
        metrics::counter!(numbers::SWEPT).increment(records as u64);
    }
}

/// Reports an answer of `begin` or of a wait.
pub(crate) fn answered(answer: Result<&'static str, &Error>) {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    let outcome = answer.unwrap_or("error");
    #[cfg(feature = "tracing")]
    match answer {
        Ok(_) => tracing::debug!(target: TARGET, outcome, "begin"),
        Err(error) => tracing::warn!(target: TARGET, outcome, %error, "begin"),
    }
    #[cfg(feature = "metrics")]
    metrics::counter!(numbers::BEGINS, "outcome" => outcome).increment(1);
}

/// A step in the life of a key, for both events and metrics.
#[derive(Clone, Copy)]
pub(crate) enum Made {
    Started,
    Completed,
    Checkpointed,
    /// Abandoned or forgotten.
    Freed,
}

/// Reports whether a step was made durable.
pub(crate) fn made(step: Made, appended: &Result<(), Error>) {
    tell(step, appended.as_ref().err().map(|error| error as _));
}

/// Reports that a step was not made durable.
pub(crate) fn failed(step: Made, failure: &dyn Display) {
    tell(step, Some(failure));
}

fn tell(step: Made, failure: Option<&dyn Display>) {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    let step = match step {
        Made::Started => "start",
        Made::Completed => "complete",
        Made::Checkpointed => "checkpoint",
        Made::Freed => "free",
    };
    #[cfg(feature = "tracing")]
    match failure {
        None => tracing::debug!(target: TARGET, step, "durable"),
        Some(error) => tracing::warn!(target: TARGET, step, %error, "not durable"),
    }
    #[cfg(feature = "metrics")]
    metrics::counter!(
        numbers::STEPS,
        "step" => step,
        "outcome" => if failure.is_none() { "durable" } else { "error" }
    )
    .increment(1);
}

/// Reports that a write has failed, and that the store accepts no more writes.
pub(crate) fn poisoned(error: &StorageError) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: TARGET, %error, "poisoned");
    #[cfg(feature = "metrics")]
    metrics::counter!(numbers::POISONED).increment(1);
}

/// Reports that the wall clock has moved against the store's time by this many milliseconds.
pub(crate) fn clock_moved(moved_ms: i64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, moved_ms, "the wall clock has moved");
}

/// Reports that users other than the owner and the group may read or write the files, or anyone the
/// directory.
pub(crate) fn exposed() {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, "others may read or write the store's files");
}

/// What the HTTP layer did with a request that it did not refuse.
#[cfg(feature = "tower")]
#[derive(Clone, Copy)]
pub(crate) enum Response {
    /// The stored response was replayed.
    Replayed,
    /// The handler ran, and its response is stored, or its length and digest.
    Stored,
    /// The handler reported that nothing happened.
    Freed,
    /// Whether the effect happened is unknown.
    Interrupted,
    /// The handler left the operation for someone else to finish.
    Left,
}

#[cfg(feature = "tower")]
impl Response {
    #[cfg(feature = "metrics")]
    const ALL: [Self; 5] =
        [Self::Replayed, Self::Stored, Self::Freed, Self::Interrupted, Self::Left];

    #[cfg(any(feature = "tracing", feature = "metrics"))]
    fn name(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Stored => "stored",
            Self::Freed => "freed",
            Self::Interrupted => "interrupted",
            Self::Left => "left",
        }
    }
}

/// Reports that the HTTP layer has answered a request.
#[cfg(feature = "tower")]
pub(crate) fn responded(response: Response) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, outcome = response.name(), "response");
    #[cfg(feature = "metrics")]
    metrics::counter!(numbers::RESPONSES, "outcome" => response.name()).increment(1);
}

/// Reports that a problem was turned into a response. Some problems are for the server's operator
/// to fix.
#[cfg(feature = "tower")]
pub(crate) fn problem(name: &'static str, is_servers: bool) {
    #[cfg(feature = "tracing")]
    if is_servers {
        tracing::warn!(target: TARGET, problem = name, "problem");
    } else {
        tracing::debug!(target: TARGET, problem = name, "problem");
    }
    #[cfg(feature = "metrics")]
    metrics::counter!(numbers::PROBLEMS, "problem" => name).increment(1);
}

/// Registers the counters of a new layer, at zero.
#[cfg(feature = "tower")]
pub(crate) fn layered(problems: &[&'static str]) {
    #[cfg(feature = "metrics")]
    {
        numbers::describe_layer();
        for response in Response::ALL {
            metrics::counter!(numbers::RESPONSES, "outcome" => response.name()).increment(0);
        }
        for name in problems {
            metrics::counter!(numbers::PROBLEMS, "problem" => *name).increment(0);
        }
    }
}

/// Converts a count, which is far below the numbers that a float can't represent.
#[cfg(feature = "metrics")]
#[expect(clippy::cast_precision_loss, reason = "these are never compared for equality")]
fn count(number: usize) -> f64 {
    number as f64
}

/// The names and descriptions of the metrics.
#[cfg(feature = "metrics")]
mod numbers {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    pub(super) const BEGINS: &str = "idemstore_begins_total";
    pub(super) const STEPS: &str = "idemstore_steps_total";
    pub(super) const SWEPT: &str = "idemstore_swept_records_total";
    pub(super) const POISONED: &str = "idemstore_poisoned_total";
    #[cfg(feature = "tower")]
    pub(super) const RESPONSES: &str = "idemstore_http_responses_total";
    #[cfg(feature = "tower")]
    pub(super) const PROBLEMS: &str = "idemstore_http_problems_total";
    pub(super) const OPEN: &str = "idemstore_open_seconds";
    pub(super) const COMMIT: &str = "idemstore_commit_seconds";
    pub(super) const SETTLE: &str = "idemstore_settle_seconds";
    pub(super) const BATCH: &str = "idemstore_batch_changes";
    pub(super) const LIVE: &str = "idemstore_live_keys";
    pub(super) const IN_FLIGHT: &str = "idemstore_in_flight_keys";
    pub(super) const INTERRUPTED: &str = "idemstore_interrupted_keys";
    pub(super) const WAITED_FOR: &str = "idemstore_waited_for_keys";
    pub(super) const BACKLOG: &str = "idemstore_sweep_backlog_records";
    pub(super) const UNSETTLED: &str = "idemstore_unsettled_changes";
    pub(super) const FILES: &str = "idemstore_file_bytes";

    #[cfg(feature = "tower")]
    pub(super) fn describe_layer() {
        describe_counter!(RESPONSES, Unit::Count, "Responses of the HTTP layer, by outcome");
        describe_counter!(PROBLEMS, Unit::Count, "Problems sent as responses, by name");
    }

    pub(super) fn describe() {
        describe_counter!(BEGINS, Unit::Count, "Answers of begin and of waits, by outcome");
        describe_counter!(STEPS, Unit::Count, "Steps made durable, by step and outcome");
        describe_counter!(SWEPT, Unit::Count, "Expired records deleted");
        describe_counter!(POISONED, Unit::Count, "Failed writes that ended a store");
        describe_histogram!(OPEN, Unit::Seconds, "Time that an open takes, with its recovery");
        describe_histogram!(COMMIT, Unit::Seconds, "Time from the lead of a batch to its fsync");
        describe_histogram!(SETTLE, Unit::Seconds, "Time that a settle into the vault takes");
        describe_histogram!(BATCH, Unit::Count, "Changes that share one fsync");
        describe_gauge!(LIVE, Unit::Count, "Keys that are stored and have not expired");
        describe_gauge!(IN_FLIGHT, Unit::Count, "Keys that a handle holds, or that are detached");
        describe_gauge!(INTERRUPTED, Unit::Count, "Keys that are interrupted");
        describe_gauge!(WAITED_FOR, Unit::Count, "Keys that a caller is waiting for");
        describe_gauge!(BACKLOG, Unit::Count, "Expired records that are not swept yet");
        describe_gauge!(UNSETTLED, Unit::Count, "Changes that only the log has");
        describe_gauge!(FILES, Unit::Bytes, "Size of all files of the store");
    }
}

/// Sets the gauges to these numbers.
#[cfg(feature = "metrics")]
pub(crate) fn gauges(gauges: &Gauges) {
    let numbers = [
        (numbers::LIVE, gauges.live),
        (numbers::IN_FLIGHT, gauges.in_flight),
        (numbers::INTERRUPTED, gauges.interrupted),
        (numbers::WAITED_FOR, gauges.waited_for),
        (numbers::BACKLOG, gauges.sweep_backlog),
        (numbers::UNSETTLED, gauges.unsettled_changes),
        (numbers::FILES, gauges.file_bytes),
    ];
    for (name, value) in numbers {
        metrics::gauge!(name).set(count(value));
    }
}

/// The values of the gauges.
#[cfg(feature = "metrics")]
pub(crate) struct Gauges {
    pub(crate) live: usize,
    pub(crate) in_flight: usize,
    pub(crate) interrupted: usize,
    pub(crate) waited_for: usize,
    pub(crate) sweep_backlog: usize,
    pub(crate) unsettled_changes: usize,
    pub(crate) file_bytes: usize,
}
