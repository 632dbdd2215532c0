//! Many operations with one wait: one fsync for as many as fit into a batch, and an answer for
//! each.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{
    Begin, Bound, CompleteError, Completed, Error, Execution, Fingerprint, Interrupted, Key,
    ManualClock, Permit, Store, Timestamp,
};

use crate::support::disk::{Fault, Op};
use crate::support::gated::GatedDisk;
use crate::support::model::splitmix;
use crate::support::{
    Answers, Bench, RETENTION_MS, START_MS, SimDisk, Started, builder, key, size,
};

/// A log so large that it never cuts a batch short.
const ROOMY: u64 = 8 * 1024 * 1024;
/// The length at which the store refuses a result.
const TOO_LONG: usize = 16 * 1024 + 1;
/// Longer than any test takes: a wait that reaches it has failed.
const LONG: Duration = Duration::from_secs(60);

/// A store whose log has this many bytes: it keeps the log that it was created with.
fn bench_with_log(bytes: u64) -> Bench {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    let store = builder(&clock).log_bytes(bytes).open_on(disk.clone()).expect("the store opens");
    store.close().expect("the store closes");
    Bench::on(disk, clock)
}

fn names(range: Range<usize>) -> Vec<String> {
    range.map(|number| format!("key {number:05}")).collect()
}

fn ask(store: &Store, names: &[String]) -> Vec<Result<Begin, Error>> {
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    store.begin_many(keys.iter().map(|key| (key, Fingerprint::of("request"))))
}

fn begun(store: &Store, names: &[String]) -> impl Iterator<Item = Begin> {
    ask(store, names).into_iter().map(|begin| begin.expect("begin answers"))
}

fn permits(store: &Store, names: &[String]) -> Vec<Permit> {
    begun(store, names).map(Begin::fresh).collect()
}

fn executions(store: &Store, names: &[String]) -> Vec<Execution> {
    all(store.start_many(permits(store, names)))
}

fn interrupted(store: &Store, names: &[String]) -> Vec<Interrupted> {
    drop(executions(store, names));
    begun(store, names).map(Begin::interrupted).collect()
}

fn each_is<T>(store: &Store, names: &[String], is: fn(Begin) -> T) {
    begun(store, names).map(is).for_each(drop);
}

/// Each handle with its key's name as the result.
fn named<H>(handles: Vec<H>, names: &[String]) -> impl Iterator<Item = (H, &String)> {
    assert_eq!(handles.len(), names.len());
    handles.into_iter().zip(names)
}

fn all<T, E: std::fmt::Debug>(answers: Vec<Result<T, E>>) -> Vec<T> {
    answers.into_iter().map(|answer| answer.expect("it is done")).collect()
}

fn replays(bench: &Bench, names: &[String]) {
    for (begin, name) in begun(&bench.store, names).zip(names) {
        assert_eq!(begin.replay().result(), name.as_bytes());
    }
}

/// Fsyncs of the log during a call, and the changes that they made durable.
fn cost<T>(bench: &Bench, call: impl FnOnce() -> T) -> (T, (u64, u64)) {
    let (counts, stats) = (bench.disk.counts(), bench.store.stats());
    let answer = call();
    let (counts_after, stats_after) = (bench.disk.counts(), bench.store.stats());
    let syncs = counts_after.log_syncs - counts.log_syncs;
    assert_eq!(counts_after.log_writes - counts.log_writes, syncs);
    assert_eq!(stats_after.batches - stats.batches, syncs);
    (answer, (syncs, stats_after.changes - stats.changes))
}

/// The outcome that an answer reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Unknown,
    Poisoned,
    Closed,
}

impl Outcome {
    fn of_error(error: &Error) -> Self {
        match error {
            Error::OutcomeUnknown(_) => Self::Unknown,
            Error::Poisoned(_) => Self::Poisoned,
            Error::Closed => Self::Closed,
            other => panic!("{other:?}"),
        }
    }

    fn of_starts(answers: &[Result<Execution, Error>]) -> Vec<Self> {
        answers
            .iter()
            .map(|answer| answer.as_ref().map_or_else(Self::of_error, |_| Self::Done))
            .collect()
    }

    fn of_completions<H: std::fmt::Debug>(
        answers: &[Result<Completed, CompleteError<H>>],
    ) -> Vec<Self> {
        let of = |answer: &Result<_, _>| match answer {
            Ok(_) => Self::Done,
            Err(CompleteError::Store(error)) => Self::of_error(error),
            Err(other) => panic!("{other:?}"),
        };
        answers.iter().map(of).collect()
    }
}

/// The number of answers with each outcome. They must come in this order: first the completed ones,
/// then the unknown ones, and last those that were never written.
fn in_order(outcomes: &[Outcome]) -> (usize, usize, usize) {
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (done, unknown) = (count(Outcome::Done), count(Outcome::Unknown));
    let poisoned = count(Outcome::Poisoned);
    assert_eq!(done + unknown + poisoned, outcomes.len());
    assert!(outcomes[..done].iter().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
    let rest = &outcomes[done + unknown..];
    assert!(rest.iter().all(|outcome| *outcome == Outcome::Poisoned), "{outcomes:?}");
    (done, unknown, poisoned)
}

fn failing(on: Op, after: u64) -> Fault {
    Fault { on, after, for_good: false, kind: ErrorKind::Other }
}

#[test]
fn up_to_1024_operations_share_one_fsync() {
    for count in [1, 2, 1_023, 1_024, 1_025, 2_048, 2_049] {
        let bench = bench_with_log(ROOMY);
        let names = names(0..count);
        let permits = permits(&bench.store, &names);
        let expected = (count.div_ceil(1_024) as u64, count as u64);
        let (started, paid) = cost(&bench, || bench.store.start_many(permits));
        assert_eq!(paid, expected, "to start {count}");
        let results = named(all(started), &names);
        let (completed, paid) = cost(&bench, || bench.store.complete_many(results));
        assert_eq!(paid, expected, "to complete {count}");
        assert_eq!(bench.store.stats().batch_changes_max, count.min(1_024) as u64);
        all(completed);
        replays(&bench.cut(|_| 0), &names);
    }
}

#[test]
fn asking_about_many_writes_nothing() {
    let bench = Bench::new();
    let names = names(0..100);
    let (permits, paid) = cost(&bench, || permits(&bench.store, &names));
    assert_eq!((permits.len(), paid), (100, (0, 0)));
    let ((), paid) = cost(&bench, || drop(permits));
    assert_eq!((bench.store.stats().in_flight, paid), (0, (0, 0)));
}

#[test]
fn a_small_log_bounds_a_batch_further() {
    let bench = Bench::new();
    let names = names(0..1_000);
    let executions = executions(&bench.store, &names);
    let (completed, (syncs, changes)) =
        cost(&bench, || bench.store.complete_many(named(executions, &names)));
    all(completed);
    assert_eq!(changes, 1_000);
    // A segment is half of the log, and a batch is no longer than a segment.
    assert!((2..100).contains(&syncs), "{syncs} fsyncs");
    replays(&bench.cut(|_| 0), &names);
}

fn store_of_long_results(disk: SimDisk, clock: &ManualClock) -> Store {
    // Each segment fits everything that is written here from the start, so it doesn't grow.
    let builder = builder(clock).log_bytes(16 * 1024 * 1024).result_len_max(7 * 1024 * 1024);
    builder.open_on(disk).expect("the store opens")
}

#[test]
fn long_results_end_a_batch_after_1_mib_and_a_longer_one_has_its_own() {
    // Lengths of results in KiB, and the number of fsyncs that they take.
    for (lens, syncs) in [
        (&[500, 500][..], 1),
        (&[500, 500, 500], 2),
        (&[300, 300, 300, 300, 300], 2),
        (&[1, 1_024], 2),
        (&[1_024, 1], 2),
        (&[2_048, 2_048], 2),
        (&[1, 1, 3_072, 1, 1], 3),
        (&[3_072, 1, 1_000, 3_072, 1], 4),
    ] {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
        let store = store_of_long_results(disk.clone(), &clock);
        let names = names(0..lens.len());
        let executions = executions(&store, &names);
        let result = |at: usize| vec![at.to_le_bytes()[0]; lens[at] * 1024];
        let before = disk.counts();
        let results = executions.into_iter().enumerate().map(|(at, handle)| (handle, result(at)));
        for (at, completed) in all(store.complete_many(results)).iter().enumerate() {
            assert_eq!(completed.result(), result(at));
        }
        assert_eq!(disk.counts().log_syncs - before.log_syncs, syncs, "for {lens:?}");

        let store = store_of_long_results(disk.after_power_cut(|_| 0), &clock);
        for (at, begin) in begun(&store, &names).enumerate() {
            assert_eq!(begin.replay().result(), result(at));
        }
    }
}

#[test]
fn a_call_of_more_than_may_wait_at_one_time_is_not_overloaded() {
    // More operations, and more bytes, than the queue takes. The disk fails at the first of them,
    // so nothing has to be written: the answers for those behind it report the failure, and not
    // that there is no room.
    let bench = bench_with_log(ROOMY);
    let names = names(0..66_000);
    let permits = permits(&bench.store, &names);
    bench.disk.fail(failing(Op::Write, 0));
    let answers = bench.store.complete_many(named(permits, &names));
    assert_eq!(in_order(&Outcome::of_completions(&answers)), (0, 1_024, 64_976));

    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    let store = store_of_long_results(disk.clone(), &clock);
    let permits = self::permits(&store, &names[..45]);
    disk.fail(failing(Op::Write, 0));
    let results = permits.into_iter().map(|permit| (permit, vec![0; 3 * 1024 * 1024]));
    let answers = store.complete_many(results);
    assert_eq!(in_order(&Outcome::of_completions(&answers)), (0, 1, 44));
}

#[test]
fn of_nothing_there_is_nothing_to_do() {
    let bench = Bench::new();
    let nothing = |bench: &Bench| {
        let results: [(Permit, &str); 0] = [];
        assert!(bench.store.begin_many([]).is_empty());
        assert!(bench.store.start_many::<Permit>([]).is_empty());
        assert!(bench.store.complete_many(results).is_empty());
    };
    let counts = bench.disk.counts();
    let ((), paid) = cost(&bench, || nothing(&bench));
    assert_eq!(paid, (0, 0));
    assert_eq!(bench.disk.counts(), counts);
    // There is no handle on which to report that the store takes nothing any more.
    bench.store.clone().close().expect("the store closes");
    nothing(&bench);
}

#[test]
fn a_duplicate_is_answered_in_its_own_place() {
    let bench = Bench::new();
    let keys = [key("a"), key("b"), key("a"), key("a")];
    let ask = || {
        let requests = ["request", "request", "request", "another"].map(Fingerprint::of);
        all(bench.store.begin_many(keys.iter().zip(requests)))
    };
    let [first, second, third, fourth] = ask().try_into().expect("there are four answers");
    let (first, second) = (first.fresh(), second.fresh());
    assert_eq!((first.key(), second.key()), (&keys[0], &keys[1]));
    third.in_flight();
    // Nothing is stored for the key, so the store can't know yet that this is a different request.
    fourth.in_flight();

    let executions = all(bench.store.start_many([first, second]));
    let answers: [_; 4] = ask().try_into().expect("there are four answers");
    assert!(matches!(
        answers,
        [Begin::InFlight(_), Begin::InFlight(_), Begin::InFlight(_), Begin::Mismatch]
    ));

    all(bench.store.complete_many(executions.into_iter().zip(["of a", "of b"])));
    let [first, second, third, fourth] = ask().try_into().expect("there are four answers");
    assert_eq!(first.replay().result(), b"of a");
    assert_eq!(second.replay().result(), b"of b");
    assert_eq!(third.replay().result(), b"of a");
    assert!(fourth.mismatches());
}

#[test]
fn a_duplicate_of_an_interrupted_key_is_in_flight() {
    let bench = Bench::new();
    let twice = ["a".to_owned(), "a".to_owned()];
    drop(executions(&bench.store, &twice[..1]));
    let [first, second] = ask(&bench.store, &twice).try_into().expect("there are two answers");
    let interrupted = first.expect("begin answers").interrupted();
    second.expect("begin answers").in_flight();
    all(bench.store.complete_many([(interrupted, "found")]));
    for begin in begun(&bench.store, &twice) {
        assert_eq!(begin.replay().result(), b"found");
    }
}

#[test]
fn each_answer_is_in_its_own_place() {
    let bench = bench_with_log(ROOMY);
    // More than one batch, in an order that differs from the keys' order.
    let mut names = names(0..1_500);
    names
        .sort_by_key(|name| splitmix(name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte))));
    let permits = permits(&bench.store, &names);
    for (permit, name) in permits.iter().zip(&names) {
        assert_eq!(permit.key(), &key(name));
    }
    let executions = all(bench.store.start_many(permits));
    for (execution, name) in executions.iter().zip(&names) {
        assert_eq!(execution.key(), &key(name));
    }
    // Every third result is refused, so the answers and what was written don't line up.
    let is_refused = |at: usize| at % 3 == 1;
    let results = named(executions, &names).enumerate().map(|(at, (handle, name))| {
        (handle, if is_refused(at) { "x".repeat(TOO_LONG) } else { name.clone() })
    });
    let (answers, paid) = cost(&bench, || bench.store.complete_many(results));
    assert_eq!(paid, (1, 1_000));
    for (at, (answer, name)) in answers.into_iter().zip(&names).enumerate() {
        match answer {
            Ok(completed) if !is_refused(at) => assert_eq!(completed.result(), name.as_bytes()),
            Err(error) if is_refused(at) => {
                let handle = error.into_handle().expect("it is given back");
                assert_eq!(handle.key(), &key(name));
            }
            other => panic!("{other:?} for {name}"),
        }
    }
    for (at, (begin, name)) in begun(&bench.store, &names).zip(&names).enumerate() {
        if is_refused(at) {
            assert_eq!(begin.interrupted().key(), &key(name));
        } else {
            assert_eq!(begin.replay().result(), name.as_bytes());
        }
    }
}

/// The second of three results is too long. Whatever kind its handle is, it is returned and works,
/// and the others are durable.
fn one_is_refused<H: std::fmt::Debug>(
    handles: impl FnOnce(&Store, &[String]) -> Vec<H>,
    complete_many: impl FnOnce(&Store, Vec<(H, String)>) -> Vec<Result<Completed, CompleteError<H>>>,
    complete: impl FnOnce(H) -> Completed,
) {
    let bench = Bench::new();
    let names = names(0..3);
    let handles = handles(&bench.store, &names);
    let results = [names[0].clone(), "x".repeat(TOO_LONG), names[2].clone()];
    let results = handles.into_iter().zip(results).collect();
    let (answers, paid) = cost(&bench, || complete_many(&bench.store, results));
    assert_eq!(paid, (1, 2));
    let [first, second, third] = answers.try_into().expect("there are three answers");
    assert_eq!(first.expect("it completes").result(), names[0].as_bytes());
    assert_eq!(third.expect("it completes").result(), names[2].as_bytes());
    let Err(CompleteError::TooLarge { len: TOO_LONG, max, handle }) = second else {
        panic!("{second:?}");
    };
    assert_eq!(max, TOO_LONG - 1);
    each_is(&bench.store, &names[1..2], Begin::in_flight);
    assert_eq!(complete(handle).result(), names[1].as_bytes());
    replays(&bench.cut(|_| 0), &names);
}

#[test]
fn a_refused_result_gives_its_own_handle_back() {
    let name = &names(1..2)[0];
    one_is_refused(permits, Store::complete_many, |permit| {
        assert_eq!(permit.key(), &key(name));
        permit.complete(name).expect("it completes")
    });
    one_is_refused(executions, Store::complete_many, |execution| {
        assert_eq!(execution.key(), &key(name));
        execution.complete(name).expect("it completes")
    });
    one_is_refused(interrupted, Store::complete_many, |interrupted| {
        assert_eq!(interrupted.key(), &key(name));
        interrupted.resolve(name).expect("it is resolved")
    });
}

#[test]
fn results_that_are_all_refused_write_nothing() {
    let bench = Bench::new();
    let names = names(0..3);
    let results =
        permits(&bench.store, &names).into_iter().map(|handle| (handle, vec![0; TOO_LONG]));
    let (answers, paid) = cost(&bench, || bench.store.complete_many(results));
    assert_eq!(paid, (0, 0));
    let handles = answers.into_iter().map(|answer| answer.expect_err("it is too long"));
    let handles: Vec<_> = handles.map(|error| error.into_handle().expect("it is back")).collect();
    all(bench.store.complete_many(named(handles, &names)));
    replays(&bench, &names);
}

#[test]
fn every_kind_of_handle_is_completed_with_one_fsync() {
    let bench = Bench::new();
    let (a, b, c) = (names(0..10), names(10..20), names(20..30));
    let (permits, executions) = (permits(&bench.store, &a), executions(&bench.store, &b));
    drop(self::executions(&bench.store, &c));
    let again = begun(&bench.store, &c).map(|begin| begin.interrupted().retry());
    drop(again.collect::<Result<Vec<_>, _>>().expect("it starts again"));
    let interrupted: Vec<_> = begun(&bench.store, &c).map(Begin::interrupted).collect();
    bench.tick(10);

    let store = &bench.store;
    let of_permits = cost(&bench, || store.complete_many(named(permits, &a)));
    let of_executions = cost(&bench, || store.complete_many(named(executions, &b)));
    let of_interrupted = cost(&bench, || store.complete_many(named(interrupted, &c)));
    for (paid, completed, attempt) in [
        (of_permits.1, all(of_permits.0), 1),
        (of_executions.1, all(of_executions.0), 1),
        (of_interrupted.1, all(of_interrupted.0), 2),
    ] {
        assert_eq!(paid, (1, 10));
        for completed in completed {
            assert_eq!(completed.attempt(), attempt);
            assert_eq!(completed.begun_at().as_unix_ms(), START_MS);
            assert_eq!(completed.completed_at().as_unix_ms(), START_MS + 10);
            assert_eq!(completed.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
        }
    }
    assert_eq!((store.stats().in_flight, store.stats().interrupted), (0, 0));
    let bench = bench.cut(|_| 0);
    replays(&bench, &[a, b, c].concat());
}

#[test]
fn each_operation_keeps_its_own_retention() {
    let bench = Bench::new();
    let names = names(0..3);
    let permits = permits(&bench.store, &names).into_iter().zip([1, 5_000, 10]);
    let permits = permits.map(|(permit, ms)| permit.with_retention(Duration::from_millis(ms)));
    let executions = all(bench.store.start_many(permits));
    let expires = |execution: &Execution| execution.expires_at().as_unix_ms() - START_MS;
    assert_eq!(executions.iter().map(expires).collect::<Vec<_>>(), [1, 5_000, 10]);
    all(bench.store.complete_many(named(executions, &names)));
    bench.tick(10);
    let [first, second, third] = ask(&bench.store, &names).try_into().expect("three answers");
    first.expect("begin answers").fresh();
    second.expect("begin answers").replay();
    third.expect("begin answers").fresh();
}

#[test]
fn a_store_at_its_bound_refuses_the_new_ones_of_many() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let store = builder(&clock).keys_max(2).open_on(SimDisk::new()).expect("the store opens");
    let names = names(0..4);
    let (done, held, new) = (&names[..1], &names[1..2], &names[2..3]);
    all(store.complete_many(named(permits(&store, done), done)));
    let execution = executions(&store, held).remove(0);

    let asked = [2, 0, 3, 1, 2].map(|at: usize| names[at].clone());
    let answers: [_; 5] = ask(&store, &asked).try_into().expect("there are five answers");
    assert!(
        matches!(
            answers,
            [
                Err(Error::Overloaded { bound: Bound::Keys { max: 2 } }),
                Ok(Begin::Replay(_)),
                Err(Error::Overloaded { bound: Bound::Keys { max: 2 } }),
                Ok(Begin::InFlight(_)),
                // The first one was refused, so it isn't in flight.
                Err(Error::Overloaded { bound: Bound::Keys { max: 2 } }),
            ]
        ),
        "{answers:?}"
    );
    assert_eq!(store.stats().in_flight, 1);
    execution.abandon().expect("it is abandoned");
    all(store.complete_many(named(permits(&store, new), new)));
}

#[test]
fn a_closed_store_refuses_each_of_many() {
    let bench = Bench::new();
    let (a, b, done) = (names(0..5), names(5..10), names(10..15));
    let (permits, executions) = (permits(&bench.store, &a), executions(&bench.store, &b));
    let unstarted = self::permits(&bench.store, &done);
    let store = bench.store.clone();
    bench.store.clone().close().expect("the store closes");
    let counts = bench.disk.counts();
    for answer in ask(&store, &a) {
        assert!(matches!(answer, Err(Error::Closed)));
    }
    assert_eq!(Outcome::of_starts(&store.start_many(permits)), [Outcome::Closed; 5]);
    let completed = store.complete_many(named(executions, &b));
    assert_eq!(Outcome::of_completions(&completed), [Outcome::Closed; 5]);
    let completed = store.complete_many(named(unstarted, &done));
    assert_eq!(Outcome::of_completions(&completed), [Outcome::Closed; 5]);
    assert_eq!(bench.disk.counts(), counts);

    let bench = Bench::on(bench.disk.after_kill(), bench.clock);
    each_is(&bench.store, &a, Begin::fresh);
    each_is(&bench.store, &b, Begin::interrupted);
    each_is(&bench.store, &done, Begin::fresh);
}

#[test]
fn a_refused_length_is_told_by_a_closed_store_too() {
    let bench = Bench::new();
    let executions = executions(&bench.store, &names(0..2));
    let store = bench.store.clone();
    bench.store.clone().close().expect("the store closes");
    let answers = store.complete_many(executions.into_iter().zip([vec![0; TOO_LONG], vec![0]]));
    assert!(matches!(
        answers[..],
        [Err(CompleteError::TooLarge { .. }), Err(CompleteError::Store(Error::Closed))]
    ));
}

#[test]
fn a_poisoned_store_refuses_each_of_many_but_replays() {
    let bench = Bench::new();
    let (a, b, done) = (names(0..5), names(5..10), names(10..15));
    all(bench.store.complete_many(named(permits(&bench.store, &done), &done)));
    let (permits, executions) = (permits(&bench.store, &a), executions(&bench.store, &b));
    bench.disk.fail(failing(Op::Sync, 0));
    assert!(bench.begin("failed", "request").fresh().start().is_err());
    let counts = bench.disk.counts();
    assert_eq!(Outcome::of_starts(&bench.store.start_many(permits)), [Outcome::Poisoned; 5]);
    let completed = bench.store.complete_many(named(executions, &b));
    assert_eq!(Outcome::of_completions(&completed), [Outcome::Poisoned; 5]);
    assert_eq!(bench.disk.counts(), counts);
    replays(&bench, &done);
    let mixed = [done[0].clone(), a[0].clone(), done[1].clone()];
    let answers: [_; 3] = ask(&bench.store, &mixed).try_into().expect("there are three answers");
    assert!(matches!(
        answers,
        [Ok(Begin::Replay(_)), Err(Error::Poisoned(_)), Ok(Begin::Replay(_))]
    ));

    let bench = bench.cut(|_| 0);
    each_is(&bench.store, &a, Begin::fresh);
    each_is(&bench.store, &b, Begin::interrupted);
    replays(&bench, &done);
}

#[test]
fn a_failed_fsync_is_told_to_its_own_batch_and_to_all_behind_it() {
    for on in [Op::Write, Op::Sync] {
        let bench = bench_with_log(ROOMY);
        let names = names(0..2_500);
        let executions = executions(&bench.store, &names);
        bench.disk.fail(failing(on, 1));
        let completed = bench.store.complete_many(named(executions, &names));
        let counts = in_order(&Outcome::of_completions(&completed));
        assert_eq!(counts, (1_024, 1_024, 452));
        // What was not synced is lost in this power cut, and what was not written is lost in a
        // kill.
        let cut = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        replays(&cut, &names[..1_024]);
        each_is(&cut.store, &names[1_024..], Begin::interrupted);
        let killed = Bench::on(bench.disk.after_kill(), bench.clock);
        replays(&killed, &names[..1_024]);
        each_is(&killed.store, &names[2_048..], Begin::interrupted);
    }
}

#[test]
fn a_failed_fsync_leaves_no_start_behind_its_batch() {
    let bench = bench_with_log(ROOMY);
    let names = names(0..2_500);
    let permits = permits(&bench.store, &names);
    bench.disk.fail(failing(Op::Sync, 1));
    let started = bench.store.start_many(permits);
    assert_eq!(in_order(&Outcome::of_starts(&started)), (1_024, 1_024, 452));
    // Nothing is held unless it was started.
    let held = |answers: &[Result<Execution, _>]| answers.iter().filter(|a| a.is_ok()).count();
    assert_eq!(bench.store.stats().in_flight, held(&started));
    let cut = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock);
    each_is(&cut.store, &names[..1_024], Begin::interrupted);
    each_is(&cut.store, &names[1_024..], Begin::fresh);
}

#[test]
fn batches_are_written_in_the_order_of_what_they_hold() {
    // Results of 2 kB through segments of 32 KiB: many small batches, and a settle now and then.
    let result = |name: &String| name.repeat(200);
    let names = names(0..100);
    let mut failed = 0;
    for after in 0.. {
        let bench = Bench::new();
        let permits = permits(&bench.store, &names);
        bench.disk.fail(Fault { for_good: true, ..failing(Op::Sync, after) });
        let results = named(permits, &names).map(|(permit, name)| (permit, result(name)));
        let answers = Outcome::of_completions(&bench.store.complete_many(results));
        let (done, unknown, _) = in_order(&answers);
        let cut = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock);
        for (begin, name) in begun(&cut.store, &names[..done]).zip(&names) {
            assert_eq!(begin.replay().result(), result(name).as_bytes());
        }
        each_is(&cut.store, &names[done..], Begin::fresh);
        if done == names.len() {
            break;
        }
        // None if it was a settle that failed, which the log had to wait for.
        assert!(unknown < 20, "{unknown} in one batch");
        failed += 1;
    }
    assert!(7 < failed, "only {failed} fsyncs");
}

/// How far a key has come, as far as the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// Asked to start, with no answer yet.
    Starting,
    Started,
    /// Asked to complete what was started, with no answer yet.
    Finishing,
    /// Asked to complete what was never started, with no answer yet.
    FinishingUnstarted,
    Completed,
}

type Progress = BTreeMap<String, Reached>;

fn long_result(name: &str) -> String {
    name.repeat(300)
}

/// Consumes batches until the disk fails, and records what was acknowledged. A batch takes more
/// than one frame, and all batches together more than one segment.
fn work(store: &Store, progress: &mut Progress) -> Result<(), Outcome> {
    for round in 0..3 {
        let names = names(round * 20..round * 20 + 16);
        let permits = permits(store, &names);
        if round == 2 {
            finish(store, permits, &names, progress, Reached::FinishingUnstarted)?;
            continue;
        }
        progress.extend(names.iter().map(|name| (name.clone(), Reached::Starting)));
        let answers = store.start_many(permits);
        let mut executions = Vec::new();
        let mut failed = Ok(());
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(execution) => {
                    progress.insert(name.clone(), Reached::Started);
                    executions.push(execution);
                }
                Err(error) => failed = Err(Outcome::of_error(&error)),
            }
        }
        failed?;
        // The last of each round is never completed.
        drop(executions.pop());
        finish(store, executions, &names[..15], progress, Reached::Finishing)?;
        if round == 1 {
            store.settle().map_err(|error| Outcome::of_error(&error))?;
        }
    }
    Ok(())
}

fn finish<H: idemstore::Completable + std::fmt::Debug>(
    store: &Store,
    handles: Vec<H>,
    names: &[String],
    progress: &mut Progress,
    asked: Reached,
) -> Result<(), Outcome> {
    progress.extend(names.iter().map(|name| (name.clone(), asked)));
    let results = named(handles, names).map(|(handle, name)| (handle, long_result(name)));
    let answers = Outcome::of_completions(&store.complete_many(results));
    for (name, answer) in names.iter().zip(&answers) {
        if *answer == Outcome::Done {
            progress.insert(name.clone(), Reached::Completed);
        }
    }
    answers.into_iter().find(|answer| *answer != Outcome::Done).map_or(Ok(()), Err)
}

fn check(disk: SimDisk, clock: &ManualClock, progress: &Progress) {
    let store = builder(clock).open_on(disk).expect("the store opens after every crash");
    let names: Vec<_> = progress.keys().cloned().collect();
    for (begin, (name, reached)) in begun(&store, &names).zip(progress) {
        let allowed = match (&begin, reached) {
            // What was not acknowledged may still have become durable.
            (Begin::Fresh(_), Reached::Starting | Reached::FinishingUnstarted)
            | (Begin::Interrupted(_), Reached::Starting | Reached::Started | Reached::Finishing) => {
                true
            }
            (
                Begin::Replay(completed),
                Reached::Finishing | Reached::FinishingUnstarted | Reached::Completed,
            ) => completed.result() == long_result(name).as_bytes(),
            _ => false,
        };
        assert!(allowed, "{name} had reached {reached:?}, and is {begin:?}");
    }
}

#[test]
fn a_crash_after_every_write_of_many_loses_nothing() {
    let mut acknowledged = 0;
    for after in 0.. {
        let disk = SimDisk::new();
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        let store = builder(&clock).open_on(disk.clone()).expect("the store opens");
        let mut progress = Progress::new();
        disk.fail(Fault { for_good: true, ..failing(Op::Any, after) });
        let worked = work(&store, &mut progress);
        acknowledged += progress.values().filter(|&&it| it == Reached::Completed).count();
        check(disk.after_kill(), &clock, &progress);
        for image in 0..size("CRASH_IMAGES", 6) {
            let mut seed = splitmix(after << 32 | image);
            let choose = |below| {
                seed = splitmix(seed);
                seed % below
            };
            check(disk.after_power_cut(choose), &clock, &progress);
        }
        if worked.is_ok() {
            assert!(30 < after, "only {after} writes");
            break;
        }
    }
    assert!(1_000 < acknowledged, "only {acknowledged} were acknowledged");
}

/// Some threads complete many operations at a time, others one at a time.
fn mix_with_single_callers(bench: &Bench) {
    let numbers: Vec<_> = (0..8).map(|thread| thread * 1_000).collect();
    let (before, syncs_before) = (bench.store.stats(), bench.disk.counts().log_syncs);
    thread::scope(|scope| {
        for from in &numbers[..4] {
            scope.spawn(move || {
                for round in 0..10 {
                    let names = names(from + round * 40..from + (round + 1) * 40);
                    let executions = executions(&bench.store, &names);
                    all(bench.store.complete_many(named(executions, &names)));
                }
            });
        }
        for from in &numbers[4..] {
            scope.spawn(move || {
                for name in names(*from..from + 200) {
                    let execution = bench.begin(&name, "request").started();
                    execution.complete(&name).expect("it completes");
                }
            });
        }
    });
    let after = bench.store.stats();
    let (batches, changes) = (after.batches - before.batches, after.changes - before.changes);
    assert_eq!(changes, 2 * (4 * 400 + 4 * 200));
    assert!(batches < changes, "{batches} batches for {changes} changes");
    assert_eq!(bench.disk.counts().log_syncs - syncs_before, batches);
    assert_eq!((after.in_flight, after.interrupted), (0, 0));
    let cut = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
    for from in &numbers[..4] {
        replays(&cut, &names(*from..from + 400));
    }
    for from in &numbers[4..] {
        replays(&cut, &names(*from..from + 200));
    }
}

#[test]
fn callers_of_many_and_of_one_share_batches() {
    mix_with_single_callers(&bench_with_log(ROOMY));
    // Batches that the log cuts short, and segments that fill up again and again.
    mix_with_single_callers(&Bench::new());
}

#[test]
fn of_many_consumers_of_the_same_messages_one_runs_each() {
    const MESSAGES: usize = 300;
    for round in 0..10 {
        let bench = Bench::new();
        let effects: Vec<_> = (0..MESSAGES).map(|_| AtomicUsize::new(0)).collect();
        thread::scope(|scope| {
            for thread in 0..6 {
                let (bench, effects) = (&bench, &effects);
                scope.spawn(move || {
                    // Each starts at a different place, and goes in a different direction.
                    let mut names = names(0..MESSAGES);
                    names.rotate_left((thread * 53 + round) % MESSAGES);
                    if thread % 2 == 0 {
                        names.reverse();
                    }
                    names.chunks(50).for_each(|batch| consume(bench, batch, effects));
                });
            }
        });
        assert!(effects.iter().all(|effect| effect.load(Ordering::SeqCst) == 1));
        replays(&bench, &names(0..MESSAGES));
    }
}

/// Completes what no other caller holds, and then waits for the others.
fn consume(bench: &Bench, batch: &[String], effects: &[AtomicUsize]) {
    let (mut fresh, mut in_flight) = (Vec::new(), Vec::new());
    for (begin, name) in begun(&bench.store, batch).zip(batch) {
        match begin {
            Begin::Fresh(permit) => fresh.push((permit, name)),
            Begin::InFlight(waiter) => in_flight.push((waiter, name)),
            begin => assert_eq!(begin.replay().result(), name.as_bytes()),
        }
    }
    let (permits, names): (Vec<_>, Vec<_>) = fresh.into_iter().unzip();
    let executions = all(bench.store.start_many(permits));
    for name in &names {
        let number: usize = name.trim_start_matches("key ").parse().expect("it is a number");
        effects[number].fetch_add(1, Ordering::SeqCst);
    }
    all(bench.store.complete_many(executions.into_iter().zip(names)));
    for (waiter, name) in in_flight {
        let replay = waiter.wait(LONG).expect("wait answers").replay();
        assert_eq!(replay.result(), name.as_bytes());
    }
}

#[test]
fn those_who_wait_are_woken_with_their_own_results() {
    let bench = Bench::new();
    let names = names(0..20);
    let executions = executions(&bench.store, &names);
    let waiters: Vec<_> = begun(&bench.store, &names).map(Begin::in_flight).collect();
    thread::scope(|scope| {
        let wait = |waiter: idemstore::InFlight| move || waiter.wait(LONG);
        let waiting: Vec<_> = waiters.into_iter().map(|it| scope.spawn(wait(it))).collect();
        while bench.store.stats().waited_for < names.len() {
            thread::yield_now();
        }
        all(bench.store.complete_many(named(executions, &names)));
        for (waiting, name) in waiting.into_iter().zip(&names) {
            let begin = waiting.join().expect("the thread ends").expect("wait answers");
            assert_eq!(begin.replay().result(), name.as_bytes());
        }
    });
}

#[test]
fn a_panic_while_many_are_handed_in_changes_nothing() {
    let bench = Bench::new();
    let (a, b) = (names(0..5), names(5..10));
    let (permits, executions) = (permits(&bench.store, &a), executions(&bench.store, &b));
    let panics = |call: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(call)).is_err();
    let fail_at = |wanted: &str, found: &Key| assert_ne!(&key(wanted), found, "at the third one");
    let (mut permits, mut executions) = (permits.into_iter(), executions.into_iter());
    let (panicked, paid) = cost(&bench, || {
        let start = panics(&mut || {
            let permits = permits.by_ref().inspect(|permit| fail_at(&a[2], permit.key()));
            drop(bench.store.start_many(permits));
        });
        let complete = panics(&mut || {
            let results = executions.by_ref().inspect(|execution| fail_at(&b[2], execution.key()));
            drop(bench.store.complete_many(results.map(|execution| (execution, "result"))));
        });
        (start, complete)
    });
    assert_eq!((panicked, paid), ((true, true), (0, 0)));
    // Only the operations that were passed in are gone.
    assert_eq!((permits.len(), executions.len()), (2, 2));
    each_is(&bench.store, &a[..3], Begin::fresh);
    each_is(&bench.store, &b[..3], Begin::interrupted);
    all(bench.store.start_many(permits));
    all(bench.store.complete_many(named(executions.collect(), &b[3..])));
}

#[test]
fn what_hands_in_many_may_use_the_store_itself() {
    let bench = Bench::new();
    let names = names(0..5);
    let executions = executions(&bench.store, &names);
    let results = named(executions, &names).map(|(handle, name)| {
        bench.complete(&format!("beside {name}"), "request", "result");
        (handle, name)
    });
    all(bench.store.complete_many(results));
    replays(&bench, &names);
    bench.begin("beside key 00004", "request").replay();
}

#[cfg(feature = "transaction")]
#[test]
fn many_are_refused_within_a_transaction() {
    let bench = Bench::new();
    let (a, b) = (names(0..3), names(3..6));
    let (permits, executions) = (permits(&bench.store, &a), executions(&bench.store, &b));
    let within = bench.store.transaction(|_| {
        for answer in bench.store.start_many(permits) {
            assert!(matches!(answer, Err(Error::InTransaction)), "{answer:?}");
        }
        for answer in bench.store.complete_many(named(executions, &b)) {
            let refused = matches!(answer, Err(CompleteError::InTransaction { .. }));
            assert!(refused, "{answer:?}");
        }
        Ok::<_, Error>(())
    });
    within.expect("it commits");
    each_is(&bench.store, &a, Begin::fresh);
    each_is(&bench.store, &b, Begin::interrupted);
}

/// Completes as many as the store accepts, and returns the handles of those that it refuses.
fn complete_what_is_taken(
    store: &Store,
    permits: Vec<Permit>,
    names: &[String],
) -> Vec<(Permit, String)> {
    let mut refused = Vec::new();
    for (answer, name) in store.complete_many(named(permits, names)).into_iter().zip(names) {
        match answer {
            Ok(completed) => assert_eq!(completed.result(), name.as_bytes()),
            Err(CompleteError::Overloaded { handle, .. }) => {
                assert_eq!(handle.key(), &key(name));
                refused.push((handle, name.clone()));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    refused
}

#[test]
fn a_queue_that_is_full_gives_handles_back_one_by_one() {
    // One batch is being written, 32,768 operations (the share of a scope) wait, and there is no
    // room for the rest. That is not a multiple of what a call passes in, so one call is cut in
    // two.
    const CALLERS: usize = 40;
    const EACH: usize = 1_000;
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    let gated = GatedDisk { disk: disk.clone(), gate: Arc::default() };
    let gate = Arc::clone(&gated.gate);
    let store = builder(&clock).log_bytes(2 * ROOMY).open_on(gated).expect("the store opens");
    gate.shut();
    let (sender, answered) = mpsc::channel();
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (store, sender) = (&store, sender.clone());
            scope.spawn(move || {
                let names = names(caller * EACH..(caller + 1) * EACH);
                let permits = permits(store, &names);
                let refused = complete_what_is_taken(store, permits, &names);
                sender.send(refused).expect("the test waits");
            });
        }
        drop(sender);
        // A call that is refused completely doesn't wait for the disk.
        let first = answered.recv_timeout(LONG);
        gate.open();
        let mut refused = first.expect("somebody is refused");
        assert_eq!(refused.len(), EACH);
        let rest: Vec<_> = answered.iter().collect();
        assert!(rest.iter().any(|refused| (1..EACH).contains(&refused.len())));
        refused.extend(rest.into_iter().flatten());
        // There is room again, and the refused operations are still intact.
        all(store.complete_many(refused));
    });
    assert_eq!(store.stats().in_flight, 0);
    let cut = Bench::on(disk.after_power_cut(|_| 0), clock);
    replays(&cut, &names(0..CALLERS * EACH));
}

#[test]
fn a_handle_of_another_store_is_refused_and_still_works_in_its_own() {
    let (ours, other) = (Bench::new(), Bench::new());
    ours.complete("ours", "request", "result");
    let permit = other.begin("permit", "request").fresh();
    let execution = other.begin("execution", "request").started();
    let before = ours.disk.counts();
    let started = ours.store.start_many([permit]).remove(0);
    assert!(matches!(started, Err(Error::OtherStore)), "{started:?}");
    other.begin("permit", "request").fresh();

    let completed = ours.store.complete_many([(execution, "result")]).remove(0);
    let error = completed.expect_err("it is of another store");
    let CompleteError::OtherStore { handle } = error else { panic!("{error}") };
    assert_eq!(ours.disk.counts(), before);
    ours.begin("execution", "request").fresh();
    handle.complete("result").expect("it completes");
    other.begin("execution", "request").replay();
    // The record would have replaced this one, which has the same number.
    ours.store.settle().expect("it settles");
    assert_eq!(ours.begin("ours", "request").replay().result(), b"result");
}

#[test]
fn interrupted_operations_are_retried_together() {
    let bench = Bench::new();
    let names: Vec<_> = (0..10).map(|name| format!("{name}")).collect();
    for name in &names {
        drop(bench.begin(name, "request").started());
    }
    let interrupted: Vec<_> =
        names.iter().map(|name| bench.begin(name, "request").interrupted()).collect();
    let before = bench.disk.counts();
    let executions = bench.store.start_many(interrupted);
    assert_eq!(bench.disk.counts().log_syncs, before.log_syncs + 1);
    for (name, execution) in names.iter().zip(executions) {
        let execution = execution.expect("it starts again");
        assert_eq!((execution.key(), execution.attempt()), (&key(name), 2));
        let completed = execution.complete("result").expect("it completes");
        assert_eq!(completed.key(), &key(name));
    }
}
