//! The rules: what each event does to a key. Pure functions: no clock, no lock, no I/O, and
//! nothing here can fail.
//!
//! ```text
//! free -> reserved -> executing -> completed -> free
//!             \          |  ^
//!              \         v  |
//!               \    interrupted -> completed | free
//!                `-> completed
//! ```

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::record::{Record, RecordId, State};

/// Who has a key in hand now. This is true in memory only, and ends with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody: what is stored of the key decides.
    Nobody,
    /// A live `Permit` or `Interrupted`: nothing runs.
    Reservation,
    /// A live `Execution`.
    Execution,
    /// An execution that ends elsewhere, by its key.
    Detached,
}

/// What `begin` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Fresh,
    Replay,
    InFlight,
    Mismatch,
    Interrupted,
}

/// A record counts until its retention is over, and no longer at that very moment.
pub(crate) fn is_live(id: RecordId, now: Timestamp) -> bool {
    now < id.expires_at
}

/// Whether a record may be deleted: its retention is over, and nobody has the key in hand.
pub(crate) fn is_sweepable(id: RecordId, holder: Holder, now: Timestamp) -> bool {
    holder == Holder::Nobody && !is_live(id, now)
}

/// The answer to `begin`, from who holds the key and what is stored of it.
pub(crate) fn begin(
    holder: Holder,
    record: Option<&Record>,
    fingerprint: &Fingerprint,
    now: Timestamp,
) -> Answer {
    // A held key stays in flight for as long as its holder lives, whatever the time.
    let record = record.filter(|record| holder != Holder::Nobody || is_live(record.id, now));
    // Which request it is comes first: what another request did is not this caller's to know.
    if record.is_some_and(|record| !record.fingerprint.matches(fingerprint)) {
        return Answer::Mismatch;
    }
    match (holder, record.map(|record| &record.state)) {
        (Holder::Reservation | Holder::Execution | Holder::Detached, _) => Answer::InFlight,
        (Holder::Nobody, None) => Answer::Fresh,
        (Holder::Nobody, Some(State::Completed { .. })) => Answer::Replay,
        // Nobody holds it, so whoever started it is gone, and it is not known how far it came.
        (Holder::Nobody, Some(State::Started)) => Answer::Interrupted,
    }
}

/// Whether an execution can be finished by its key alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Open,
    Held,
    NotExecuting,
}

/// The answer to a `complete` or `abandon` that has only the key.
pub(crate) fn finish(holder: Holder, record: Option<&Record>, now: Timestamp) -> Finish {
    match (holder, record) {
        (Holder::Reservation | Holder::Execution, _) => Finish::Held,
        (Holder::Detached, Some(_)) => Finish::Open,
        // Its process is gone, but the work may well have ended elsewhere since.
        (Holder::Nobody, Some(record)) if is_live(record.id, now) => match record.state {
            State::Started => Finish::Open,
            State::Completed { .. } => Finish::NotExecuting,
        },
        (Holder::Detached | Holder::Nobody, _) => Finish::NotExecuting,
    }
}

/// The first record of a key: the operation has started.
pub(crate) fn start(
    id: RecordId,
    key: Key,
    fingerprint: Fingerprint,
    begun_at: Timestamp,
) -> Record {
    Record { id, key, fingerprint, begun_at, attempt: 1, state: State::Started }
}

/// An interrupted operation starts again. Its retention still runs from its first begin.
pub(crate) fn retry(record: &Record) -> Record {
    Record { attempt: record.attempt.saturating_add(1), state: State::Started, ..record.clone() }
}

/// The operation is done, and this is its result.
pub(crate) fn complete(record: Record, result: Box<[u8]>, now: Timestamp) -> Record {
    Record { state: State::Completed { completed_at: now, result }, ..record }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Fresh, InFlight, Interrupted, Mismatch, Replay};

    const EXPIRY: u64 = 100;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn started() -> Record {
        let id = RecordId { expires_at: at(EXPIRY), serial: 1 };
        start(id, Key::new("k").expect("one byte"), Fingerprint::of("a"), at(0))
    }

    fn completed() -> Record {
        complete(started(), Box::default(), at(1))
    }

    #[track_caller]
    fn check(holder: Holder, record: Option<&Record>, request: &str, now: u64, answer: Answer) {
        assert_eq!(begin(holder, record, &Fingerprint::of(request), at(now)), answer);
    }

    #[test]
    fn a_free_key_is_fresh() {
        check(Holder::Nobody, None, "a", 0, Fresh);
    }

    #[test]
    fn a_held_key_is_in_flight_whatever_the_time() {
        for holder in [Holder::Reservation, Holder::Execution, Holder::Detached] {
            check(holder, None, "a", 0, InFlight);
            check(holder, Some(&started()), "a", EXPIRY - 1, InFlight);
            check(holder, Some(&started()), "a", EXPIRY, InFlight);
            check(holder, Some(&started()), "b", EXPIRY, Mismatch);
        }
    }

    #[test]
    fn a_reservation_without_a_record_reveals_no_mismatch() {
        // Nothing has started: the key was never used, so there is nothing to differ from.
        check(Holder::Reservation, None, "b", 0, InFlight);
    }

    #[test]
    fn retention_is_half_open() {
        for (record, answer) in [(completed(), Replay), (started(), Interrupted)] {
            check(Holder::Nobody, Some(&record), "a", EXPIRY - 1, answer);
            check(Holder::Nobody, Some(&record), "a", EXPIRY, Fresh);
            check(Holder::Nobody, Some(&record), "b", EXPIRY - 1, Mismatch);
            check(Holder::Nobody, Some(&record), "b", EXPIRY, Fresh);
        }
    }

    #[test]
    fn sweeping_follows_the_same_boundary() {
        let id = started().id;
        assert!(!is_sweepable(id, Holder::Nobody, at(EXPIRY - 1)));
        assert!(is_sweepable(id, Holder::Nobody, at(EXPIRY)));
        assert!(!is_sweepable(id, Holder::Execution, at(EXPIRY)));
    }

    #[test]
    fn only_an_open_execution_is_finished_by_key() {
        let (started, completed) = (started(), completed());
        let check = |holder, record, now, expected| {
            assert_eq!(finish(holder, record, at(now)), expected);
        };
        check(Holder::Detached, Some(&started), EXPIRY, Finish::Open);
        check(Holder::Nobody, Some(&started), EXPIRY - 1, Finish::Open);
        check(Holder::Nobody, Some(&started), EXPIRY, Finish::NotExecuting);
        check(Holder::Nobody, Some(&completed), 0, Finish::NotExecuting);
        check(Holder::Nobody, None, 0, Finish::NotExecuting);
        check(Holder::Execution, Some(&started), 0, Finish::Held);
        check(Holder::Reservation, None, 0, Finish::Held);
    }

    #[test]
    fn a_retry_keeps_everything_but_the_attempt() {
        let again = retry(&started());
        assert_eq!(again.attempt, 2);
        assert_eq!(again.id, started().id);
        assert_eq!(again.begun_at, started().begun_at);
    }
}
