use super::record::Digest;
use super::*;
use crate::key::Key;

pub(super) const EXPIRY: u64 = 100;

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

pub(super) fn started() -> Record {
    Record {
        key: Key::new("k").expect("one byte"),
        fingerprint: Fingerprint::of("a"),
        begun_at: at(0),
        expires_at: at(EXPIRY),
        serial: 1,
        attempt: 1,
        keep: false,
        note: None,
        state: State::Started { checkpoint: None },
    }
}

fn completed() -> Record {
    started().completed(Kept::Whole(Arc::from(*b"done")), at(1))
}

fn not_kept() -> Record {
    started().completed(Kept::Digest(Digest::of(b"long")), at(1))
}

const HOLDERS: [Holder; 4] =
    [Holder::Nobody, Holder::Reservation, Holder::Execution, Holder::Detached];

/// The names of the answers to all calls, in the order of the columns below.
fn answers(holder: Holder, record: Option<Record>, request: &str, now: u64) -> [&'static str; 4] {
    let record = record.map(Arc::new);
    let known = Known { holder, since: at(7), record: record.as_ref(), now: at(now) };
    let decision = begin(known, &Fingerprint::of(request));
    let begun = match (&decision.answer, decision.claim) {
        (Answer::Fresh(from), Some(Claim::Free)) if *from == at(now) => "fresh",
        (Answer::Replay(_), None) => "replay",
        (Answer::InFlight { since }, None) if *since == at(7) => "in flight",
        (Answer::Mismatch, None) => "mismatch",
        (Answer::Interrupted(_), Some(Claim::Stored)) => "interrupted",
        _ => "an answer with another's claim",
    };
    let take = |taken: Decision<Take>| match (taken.answer, taken.claim) {
        (Take::Execution(_), Some(Claim::Stored)) => "execution",
        (Take::AtRest(_), Some(Claim::Stored)) => "at rest",
        (Take::Held, None) => "held",
        (Take::Nothing, None) => "nothing",
        _ => "an answer with another's claim",
    };
    let status = match look(known).answer.map(|seen| seen.status) {
        None => "free",
        Some(Status::Reserved) => "reserved",
        Some(Status::Executing) => "executing",
        Some(Status::Interrupted) => "interrupted",
        Some(Status::Completed) => "completed",
        Some(Status::NotKept) => "not kept",
    };
    // A detached operation always has a record.
    let finish = if holder == Holder::Detached && record.is_none() {
        "-"
    } else {
        take(take_execution(known))
    };
    [begun, finish, take(take_completed(known)), status]
}

#[test]
fn every_call_finds_what_the_table_says() {
    let (live, over) = (EXPIRY - 1, EXPIRY);
    let free = ["fresh", "nothing", "nothing", "free"];
    let interrupted = ["interrupted", "at rest", "nothing", "interrupted"];
    let rows = [
        (Holder::Nobody, None, live, free),
        (Holder::Nobody, Some(started()), live, interrupted),
        (Holder::Nobody, Some(completed()), live, ["replay", "nothing", "at rest", "completed"]),
        (Holder::Nobody, Some(not_kept()), live, ["replay", "nothing", "at rest", "not kept"]),
        // The retention is half open: at its very end, the key is free.
        (Holder::Nobody, Some(started()), over, free),
        (Holder::Nobody, Some(completed()), over, free),
        (Holder::Nobody, Some(not_kept()), over, free),
        // A held key stays held, whatever the time.
        (Holder::Reservation, None, over, ["in flight", "held", "held", "reserved"]),
        (Holder::Reservation, Some(started()), over, ["in flight", "held", "held", "reserved"]),
        (Holder::Execution, Some(started()), over, ["in flight", "held", "held", "executing"]),
        (Holder::Detached, Some(started()), over, ["in flight", "execution", "held", "executing"]),
        (Holder::Detached, None, over, ["in flight", "-", "held", "executing"]),
    ];
    for (row, (holder, record, now, expected)) in rows.into_iter().enumerate() {
        assert_eq!(answers(holder, record, "a", now), expected, "row {row}");
    }
}

#[test]
fn another_request_of_a_used_key_is_a_mismatch_and_nothing_else() {
    for record in [started(), completed(), not_kept()] {
        for holder in HOLDERS {
            let [begun, ..] = answers(holder, Some(record.clone()), "b", EXPIRY - 1);
            assert_eq!(begun, "mismatch");
        }
        assert_eq!(answers(Holder::Nobody, Some(record), "b", EXPIRY)[0], "fresh");
    }
}

#[test]
fn a_reservation_without_a_record_reveals_no_mismatch() {
    // Nothing has started, so there is no stored request to differ from.
    assert_eq!(answers(Holder::Reservation, None, "b", 0)[0], "in flight");
}

#[test]
fn only_what_is_durable_is_answered_by_a_store_that_has_failed() {
    let done = Done::of(&Arc::new(completed())).expect("it is completed");
    assert!(waited(done.clone(), &Fingerprint::of("a")).outlives_failure());
    assert!(waited(done, &Fingerprint::of("b")).outlives_failure());
    for answer in [
        Answer::Fresh(at(0)),
        Answer::InFlight { since: at(0) },
        Answer::Interrupted(Arc::new(started())),
    ] {
        assert!(!answer.outlives_failure());
    }
}

#[test]
fn a_waiter_gets_the_result_after_the_retention_and_only_of_its_own_request() {
    let done = || Done::of(&Arc::new(completed())).expect("it is completed");
    assert!(matches!(waited(done(), &Fingerprint::of("a")), Answer::Replay(_)));
    assert!(matches!(waited(done(), &Fingerprint::of("b")), Answer::Mismatch));
}

#[test]
fn what_is_open_is_not_final() {
    let (started, completed) = (Arc::new(started()), Arc::new(completed()));
    assert!(Known::at_rest(None, at(0)).is_final());
    assert!(Known::at_rest(Some(&completed), at(0)).is_final());
    assert!(!Known::at_rest(Some(&started), at(0)).is_final());
    let held = Known { holder: Holder::Reservation, ..Known::at_rest(Some(&completed), at(0)) };
    assert!(!held.is_final());
}
