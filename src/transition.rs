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

use std::time::Duration;

use crate::canary;
use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::record::{Kept, Record, RecordId, State};

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

/// What a key that is not free is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// A caller has it in hand, and nothing runs: it is about to start, or finds out what became of
    /// an interrupted operation.
    Reserved,
    /// The operation runs.
    Executing,
    /// The operation was started, and no handle of it is left.
    Interrupted,
    /// The operation is done, and its result is kept.
    Completed,
    /// The operation is done, and its result was too long to keep.
    Tombstone,
}

/// A record counts until its retention is over, and no longer at that very moment.
pub(crate) fn is_live(id: RecordId, now: Timestamp) -> bool {
    now < id.expires_at || now == id.expires_at && canary::sings("expires a moment late")
}

/// Whether a record may be deleted: its retention is over, and nobody has the key in hand.
pub(crate) fn is_sweepable(id: RecordId, holder: Holder, now: Timestamp) -> bool {
    (holder == Holder::Nobody || canary::sings("sweeps what is held")) && !is_live(id, now)
}

/// What is stored of a key, if it counts: a held key is used for as long as its holder lives,
/// whatever the time.
fn counting(holder: Holder, record: Option<&Record>, now: Timestamp) -> Option<&Record> {
    record.filter(|record| holder != Holder::Nobody || is_live(record.id, now))
}

/// What a key is, from who holds it and what is stored of it; `None` if it is free.
pub(crate) fn status(holder: Holder, record: Option<&Record>, now: Timestamp) -> Option<Status> {
    match (holder, counting(holder, record, now).map(|record| &record.state)) {
        (Holder::Reservation, _) => Some(Status::Reserved),
        (Holder::Execution | Holder::Detached, _) => Some(Status::Executing),
        (Holder::Nobody, None) => None,
        // Nobody holds it, so whoever started it is gone, and it is not known how far it came.
        (Holder::Nobody, Some(State::Started { .. })) => Some(Status::Interrupted),
        (Holder::Nobody, Some(State::Completed { kept: Kept::Whole(_), .. })) => {
            Some(Status::Completed)
        }
        (Holder::Nobody, Some(State::Completed { kept: Kept::Tombstone { .. }, .. })) => {
            Some(Status::Tombstone)
        }
    }
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

/// The answer to `begin`, from who holds the key and what is stored of it.
pub(crate) fn begin(
    holder: Holder,
    record: Option<&Record>,
    fingerprint: &Fingerprint,
    now: Timestamp,
) -> Answer {
    // Which request it is comes first: what another request did is not this caller's to know.
    let known = counting(holder, record, now);
    if known.is_some_and(|record| !record.fingerprint.matches(fingerprint)) {
        return Answer::Mismatch;
    }
    match status(holder, record, now) {
        None => Answer::Fresh,
        Some(Status::Reserved | Status::Executing) => Answer::InFlight,
        Some(Status::Interrupted) => Answer::Interrupted,
        Some(Status::Completed | Status::Tombstone) => Answer::Replay,
    }
}

/// Whether a key can be taken in hand by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    Open,
    /// A live handle has it.
    Held,
    /// There is nothing under it to take.
    Nothing,
}

/// A rule of what can be taken in hand.
pub(crate) type TakeRule = fn(Holder, Option<&Record>, Timestamp) -> Take;

/// An execution, to finish it: one that was detached, or that was interrupted and may well have
/// ended elsewhere since.
pub(crate) fn take_execution(holder: Holder, record: Option<&Record>, now: Timestamp) -> Take {
    match status(holder, record, now) {
        Some(Status::Executing) if holder == Holder::Detached => Take::Open,
        Some(Status::Reserved | Status::Executing) => Take::Held,
        Some(Status::Interrupted) => Take::Open,
        Some(Status::Completed | Status::Tombstone) | None => Take::Nothing,
    }
}

/// A completed operation, to forget it.
pub(crate) fn take_completed(holder: Holder, record: Option<&Record>, now: Timestamp) -> Take {
    match status(holder, record, now) {
        Some(Status::Reserved | Status::Executing) => Take::Held,
        Some(Status::Completed | Status::Tombstone) => Take::Open,
        Some(Status::Interrupted) | None => Take::Nothing,
    }
}

/// The first record of a key: the operation has started.
pub(crate) fn start(
    id: RecordId,
    key: Key,
    fingerprint: Fingerprint,
    begun_at: Timestamp,
) -> Record {
    let state = State::Started { checkpoint: None };
    Record { id, key, fingerprint, begun_at, attempt: 1, keep: false, note: None, state }
}

/// The operation has come this far.
pub(crate) fn checkpoint(record: &Record, progress: Box<[u8]>) -> Record {
    record.with_state(State::Started { checkpoint: Some(progress) })
}

/// An interrupted operation starts again, from its last checkpoint. Its retention still runs from
/// its first begin.
pub(crate) fn retry(record: &Record) -> Record {
    Record { attempt: record.attempt.saturating_add(1), ..record.clone() }
}

/// When a record expires that was begun then and is started now. A permit that was held for longer
/// than its retention would else start an operation whose record counts for nothing.
pub(crate) fn expiry(begun_at: Timestamp, retention: Duration, now: Timestamp) -> Timestamp {
    let expires_at = begun_at.saturating_add(retention);
    if now < expires_at { expires_at } else { now.saturating_add(retention) }
}

/// When a record expires that is completed now, if that is another time than before: one whose
/// retention is over begins a new one, as long as the first, or it would be free the moment after.
pub(crate) fn renewed_expiry(record: &Record, now: Timestamp) -> Option<Timestamp> {
    let RecordId { expires_at, .. } = record.id;
    let retention = expires_at.saturating_since(record.begun_at);
    (!is_live(record.id, now)).then(|| now.saturating_add(retention))
}

/// The operation is done, and this is kept of its result.
pub(crate) fn complete(record: &Record, kept: Kept, now: Timestamp) -> Record {
    record.with_state(State::Completed { completed_at: now, kept })
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
        complete(&started(), Kept::Whole(Box::default()), at(1))
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
            assert_eq!(take_execution(holder, record, at(now)), expected);
        };
        check(Holder::Detached, Some(&started), EXPIRY, Take::Open);
        check(Holder::Nobody, Some(&started), EXPIRY - 1, Take::Open);
        check(Holder::Nobody, Some(&started), EXPIRY, Take::Nothing);
        check(Holder::Nobody, Some(&completed), 0, Take::Nothing);
        check(Holder::Nobody, None, 0, Take::Nothing);
        check(Holder::Execution, Some(&started), 0, Take::Held);
        check(Holder::Reservation, None, 0, Take::Held);
    }

    #[test]
    fn only_a_completed_operation_at_rest_is_forgotten() {
        let (started, completed) = (started(), completed());
        let tombstone = complete(&started, Kept::tombstone(b"long"), at(1));
        let check = |holder, record, now, expected| {
            assert_eq!(take_completed(holder, record, at(now)), expected);
        };
        for record in [&completed, &tombstone] {
            check(Holder::Nobody, Some(record), EXPIRY - 1, Take::Open);
            check(Holder::Nobody, Some(record), EXPIRY, Take::Nothing);
            check(Holder::Reservation, Some(record), EXPIRY - 1, Take::Held);
        }
        check(Holder::Nobody, Some(&started), 0, Take::Nothing);
        check(Holder::Nobody, None, 0, Take::Nothing);
        check(Holder::Execution, Some(&started), 0, Take::Held);
        check(Holder::Detached, Some(&started), 0, Take::Held);
    }

    #[test]
    fn a_tombstone_blocks_as_a_result_does() {
        let tombstone = complete(&started(), Kept::tombstone(b"long"), at(1));
        check(Holder::Nobody, Some(&tombstone), "a", EXPIRY - 1, Replay);
        check(Holder::Nobody, Some(&tombstone), "b", EXPIRY - 1, Mismatch);
        check(Holder::Nobody, Some(&tombstone), "a", EXPIRY, Fresh);
        assert_eq!(status(Holder::Nobody, Some(&tombstone), at(1)), Some(Status::Tombstone));
    }

    #[test]
    fn a_record_that_is_completed_late_begins_a_new_retention() {
        assert_eq!(renewed_expiry(&started(), at(EXPIRY - 1)), None);
        assert_eq!(renewed_expiry(&started(), at(EXPIRY)), Some(at(2 * EXPIRY)));
        assert_eq!(renewed_expiry(&started(), at(5 * EXPIRY)), Some(at(6 * EXPIRY)));
    }

    #[test]
    fn a_permit_that_is_older_than_its_retention_starts_a_new_one() {
        let retention = Duration::from_millis(EXPIRY);
        assert_eq!(expiry(at(1), retention, at(EXPIRY)), at(EXPIRY + 1));
        assert_eq!(expiry(at(1), retention, at(EXPIRY + 1)), at(2 * EXPIRY + 1));
        assert_eq!(expiry(at(1), Duration::ZERO, at(7)), at(7));
    }

    #[test]
    fn a_retry_keeps_everything_but_the_attempt() {
        let again = retry(&checkpoint(&started(), Box::from(*b"step 2")));
        assert_eq!(again.attempt, 2);
        assert_eq!(again.id, started().id);
        assert_eq!(again.begun_at, started().begun_at);
        let State::Started { checkpoint: Some(checkpoint) } = again.state else {
            panic!("its checkpoint is gone")
        };
        assert_eq!(*checkpoint, *b"step 2");
    }
}
