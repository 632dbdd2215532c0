//! An operation in one call: its return value decides what happens, and an error says whether it
//! ran.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use idemstore::sim::OpenOn;
use idemstore::{
    Bound, CompleteError, Completed, Effect, Error, Execution, Fingerprint, InFlight, Interrupted,
    NotKept, Outcome, RunError,
};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, Started, key};

const LEN_MAX: usize = 16 * 1024;

/// The return values of the tests' operations: results are bytes, and errors words.
type Said = Effect<Vec<u8>, &'static str>;
type Refused = RunError<Vec<u8>, &'static str>;

fn done(result: &str) -> Said {
    Effect::Done(result.as_bytes().to_vec())
}

fn run(
    bench: &Bench,
    operation: impl FnOnce(&mut Execution) -> Said,
) -> Result<Outcome<&'static str>, Refused> {
    bench.store.run(&key("k"), Fingerprint::of("request"), operation)
}

/// An operation that must not run.
fn never(_: &mut Execution) -> Said {
    panic!("it must not run")
}

/// The outcomes, by name.
trait Outcomes {
    fn done(self) -> Completed;
    fn replay(self) -> Completed;
    fn not_kept(self) -> NotKept;
    fn in_flight(self) -> InFlight;
    fn interrupted(self) -> Interrupted;
}

impl Outcomes for Result<Outcome<&'static str>, Refused> {
    #[track_caller]
    fn done(self) -> Completed {
        match self {
            Ok(Outcome::Done(completed)) => completed,
            other => panic!("not done: {other:?}"),
        }
    }

    #[track_caller]
    fn replay(self) -> Completed {
        match self {
            Ok(Outcome::Replay(completed)) => completed,
            other => panic!("not a replay: {other:?}"),
        }
    }

    #[track_caller]
    fn not_kept(self) -> NotKept {
        match self {
            Ok(Outcome::NotKept(tombstone)) => tombstone,
            other => panic!("not a tombstone: {other:?}"),
        }
    }

    #[track_caller]
    fn in_flight(self) -> InFlight {
        match self {
            Ok(Outcome::InFlight(in_flight)) => in_flight,
            other => panic!("not in flight: {other:?}"),
        }
    }

    #[track_caller]
    fn interrupted(self) -> Interrupted {
        match self {
            Ok(Outcome::Interrupted(interrupted)) => interrupted,
            other => panic!("not interrupted: {other:?}"),
        }
    }
}

#[test]
fn a_fresh_operation_runs_and_its_result_is_stored() {
    let bench = Bench::new();
    let before = bench.disk.counts();
    let completed = run(&bench, |execution| {
        assert_eq!(execution.attempt(), 1);
        // Its start is durable before it runs, and other callers find it in flight.
        assert_eq!(bench.disk.counts().log_syncs, before.log_syncs + 1);
        bench.begin("k", "request").in_flight();
        done("result")
    })
    .done();
    assert_eq!(completed.result(), b"result");
    assert_eq!(bench.disk.counts().log_syncs, before.log_syncs + 2);
    let bench = bench.kill();
    assert_eq!(bench.begin("k", "request").replay().result(), b"result");
}

#[test]
fn a_completed_operation_is_replayed_and_does_not_run() {
    let bench = Bench::new();
    run(&bench, |_| done("result")).done();
    for _ in 0..2 {
        assert_eq!(run(&bench, never).replay().result(), b"result");
        bench.store.settle().expect("it settles");
    }
    let bench = bench.reopen();
    let counts = bench.disk.counts();
    assert_eq!(run(&bench, never).replay().result(), b"result");
    assert_eq!(bench.disk.counts(), counts);
}

#[test]
fn an_effect_that_did_not_happen_frees_the_key() {
    let bench = Bench::new();
    let outcome = run(&bench, |_| Effect::DidNotHappen("declined")).expect("it runs");
    assert!(matches!(outcome, Outcome::DidNotHappen("declined")), "{outcome:?}");
    // Durably so, and for a different request too.
    let bench = bench.cut(|_| 0);
    bench.begin("k", "another").fresh();
    let completed = run(&bench, |execution| {
        assert_eq!(execution.attempt(), 1);
        done("result")
    })
    .done();
    assert_eq!(completed.result(), b"result");
}

#[test]
fn an_unknown_effect_interrupts_the_operation() {
    let bench = Bench::new();
    let outcome = run(&bench, |_| Effect::Unknown("no answer")).expect("it runs");
    assert!(matches!(outcome, Outcome::Unknown("no answer")), "{outcome:?}");
    assert_eq!(bench.store.stats().interrupted, 1);
    assert_eq!(run(&bench, never).interrupted().attempt(), 1);
    let bench = bench.reopen();
    assert_eq!(run(&bench, never).interrupted().attempt(), 1);
}

#[test]
fn a_panic_interrupts_the_operation_and_goes_on_to_the_caller() {
    let bench = Bench::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        run(&bench, |execution| {
            execution.checkpoint("step 1").expect("the checkpoint is stored");
            panic!("the effect failed in an unknown way")
        })
    }));
    let panic = unwound.expect_err("it goes on to the caller");
    assert_eq!(panic.downcast_ref(), Some(&"the effect failed in an unknown way"));
    let interrupted = run(&bench, never).interrupted();
    assert_eq!(interrupted.last_checkpoint(), Some(&b"step 1"[..]));
    drop(interrupted);
    // The store is unharmed.
    bench.complete("another", "request", "result");
    run(&bench.reopen(), never).interrupted();
}

#[test]
fn an_interrupted_operation_runs_again_only_if_that_is_said() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    let interrupted = run(&bench, never).interrupted();
    run(&bench, never).in_flight();
    let outcome = interrupted.run(|execution| {
        assert_eq!(execution.attempt(), 2);
        run(&bench, never).in_flight();
        done("result")
    });
    assert_eq!(outcome.done().attempt(), 2);
    assert_eq!(run(&bench, never).replay().attempt(), 2);
}

#[test]
fn a_later_attempt_that_did_not_happen_says_nothing_of_the_first() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    let outcome = run(&bench, never).interrupted().run(|_| -> Said { Effect::Unknown("again") });
    assert!(matches!(outcome, Ok(Outcome::Unknown("again"))), "{outcome:?}");
    let interrupted = run(&bench, never).interrupted();
    assert_eq!(interrupted.attempt(), 2);
    let outcome = interrupted.run(|execution| -> Said {
        assert_eq!(execution.attempt(), 3);
        Effect::DidNotHappen("declined")
    });
    assert!(matches!(outcome, Ok(Outcome::Unknown("declined"))), "{outcome:?}");
    let interrupted = run(&bench, never).interrupted();
    assert_eq!(interrupted.attempt(), 3);
    // A caller that knows about all attempts frees the key.
    interrupted.abandon().expect("it is freed");
    bench.begin("k", "another").fresh();
}

#[test]
fn an_operation_goes_on_from_its_checkpoint() {
    let bench = Bench::new();
    let outcome = run(&bench, |execution| {
        execution.checkpoint("step 1").expect("the checkpoint is stored");
        Effect::Unknown("no answer to step 2")
    });
    assert!(matches!(outcome, Ok(Outcome::Unknown(_))), "{outcome:?}");
    let bench = bench.kill();
    let outcome = run(&bench, never).interrupted().run(|execution| {
        assert_eq!(execution.last_checkpoint(), Some(&b"step 1"[..]));
        execution.checkpoint("step 2").expect("the checkpoint is stored");
        assert_eq!(execution.last_checkpoint(), Some(&b"step 2"[..]));
        done("result")
    });
    assert_eq!(outcome.done().result(), b"result");
}

#[test]
fn an_operation_that_another_caller_runs_is_in_flight() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    run(&bench, never).in_flight();
    let execution = permit.start().expect("it starts");
    run(&bench, never).in_flight();
    execution.detach();
    run(&bench, never).in_flight();
    bench.store.complete(&key("k"), "from elsewhere").expect("it completes");
    assert_eq!(run(&bench, never).replay().result(), b"from elsewhere");
}

#[test]
fn an_operation_can_run_another_one_but_not_itself() {
    let bench = Bench::new();
    run(&bench, |_| {
        run(&bench, never).in_flight();
        let inner = bench.store.run(&key("inner"), Fingerprint::NONE, |_| done("inner"));
        assert_eq!(inner.done().result(), b"inner");
        done("outer")
    })
    .done();
    assert_eq!(run(&bench, never).replay().result(), b"outer");
    assert_eq!(bench.begin("inner", "request").replay().result(), b"inner");
}

#[test]
fn a_key_of_another_request_is_a_mismatch() {
    let bench = Bench::new();
    let mismatches = || {
        let outcome = bench.store.run(&key("k"), Fingerprint::of("another"), never);
        assert!(matches!(outcome, Ok(Outcome::Mismatch)), "{outcome:?}");
    };
    run(&bench, |_| {
        mismatches();
        Effect::Unknown("no answer")
    })
    .expect("it runs");
    mismatches();
    run(&bench, never).interrupted().run(|_| done("result")).done();
    mismatches();
}

#[test]
fn a_result_that_is_too_long_gives_the_execution_back() {
    let bench = Bench::new();
    let error = run(&bench, |_| Effect::Done(vec![7; LEN_MAX + 1])).expect_err("it is too long");
    let RunError::NotStored { result, source } = error else { panic!("{error}") };
    let CompleteError::TooLarge { len, max, handle: execution } = source else {
        panic!("{source}")
    };
    assert_eq!((len, max), (LEN_MAX + 1, LEN_MAX));
    run(&bench, never).in_flight();
    execution.complete_digest(&result).expect("it completes");
    let tombstone = run(&bench, never).not_kept();
    assert_eq!(tombstone.result_len(), LEN_MAX as u64 + 1);
    assert_eq!(tombstone.attempt(), 1);
    run(&bench.reopen(), never).not_kept();
}

#[test]
fn a_result_that_is_too_long_and_dropped_leaves_an_interrupted_operation() {
    let bench = Bench::new();
    let error = run(&bench, |_| Effect::Done(vec![7; LEN_MAX + 1])).expect_err("it is too long");
    drop(error);
    assert_eq!(run(&bench, never).interrupted().attempt(), 1);
}

#[test]
fn a_permit_runs_as_a_key_does() {
    let bench = Bench::new();
    let outcome = bench.begin("k", "request").fresh().run(|_| done("result"));
    assert_eq!(outcome.done().result(), b"result");
    assert_eq!(run(&bench, never).replay().result(), b"result");
    // Validation comes between `begin` and the run, and leaves no trace.
    bench.begin("invalid", "request").fresh().release();
    bench.begin("invalid", "another").fresh();
}

#[test]
fn an_operation_that_cannot_fail_needs_no_error() {
    let bench = Bench::new();
    let outcome =
        bench.store.run(&key("k"), Fingerprint::NONE, |_| Effect::<_, Infallible>::Done("result"));
    assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
}

#[test]
fn nothing_runs_on_a_closed_store() {
    let bench = Bench::new();
    run(&bench, |_| done("result")).done();
    drop(bench.begin("interrupted", "request").started());
    let interrupted = bench.begin("interrupted", "request").interrupted();
    let permit = bench.begin("permit", "request").fresh();
    bench.store.clone().close().expect("the store closes");
    for outcome in [run(&bench, never), permit.run(never), interrupted.run(never)] {
        assert!(matches!(outcome, Err(RunError::NotRun(Error::Closed))), "{outcome:?}");
    }
}

#[test]
fn nothing_runs_on_a_store_at_its_bound() {
    let disk = crate::support::SimDisk::new();
    let clock = idemstore::ManualClock::new(idemstore::Timestamp::from_unix_ms(1));
    let store = crate::support::builder(&clock).keys_max(0).open_on(disk).expect("the store opens");
    let outcome = store.run(&key("k"), Fingerprint::NONE, never);
    let refused = matches!(
        outcome,
        Err(RunError::NotRun(Error::Overloaded { bound: Bound::Keys { max: 0 } }))
    );
    assert!(refused, "{outcome:?}");
}

/// The sync after this many others fails.
fn fail_sync(bench: &Bench, after: u64) {
    let kind = ErrorKind::Other;
    bench.disk.fail(Fault { on: Op::Sync, after, for_good: false, kind });
}

#[test]
fn a_start_that_is_not_durable_runs_nothing() {
    let bench = Bench::new();
    fail_sync(&bench, 0);
    let outcome = run(&bench, never);
    assert!(matches!(outcome, Err(RunError::NotRun(Error::OutcomeUnknown(_)))), "{outcome:?}");
    let outcome = run(&bench, never);
    assert!(matches!(outcome, Err(RunError::NotRun(Error::Poisoned(_)))), "{outcome:?}");
    // The frame was written, so the operation looks as if it may have run.
    run(&bench.kill(), never).interrupted();
}

#[test]
fn a_retry_that_is_not_durable_runs_nothing() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    let interrupted = run(&bench, never).interrupted();
    fail_sync(&bench, 0);
    let outcome = interrupted.run(never);
    assert!(matches!(outcome, Err(RunError::NotRun(Error::OutcomeUnknown(_)))), "{outcome:?}");
    assert_eq!(run(&bench.cut(|_| 0), never).interrupted().attempt(), 1);
}

#[test]
fn a_result_that_is_not_durable_is_said_to_be_so() {
    let bench = Bench::new();
    fail_sync(&bench, 1);
    let mut ran = false;
    let outcome = run(&bench, |_| {
        ran = true;
        done("result")
    });
    let Err(RunError::NotStored { result, source }) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(source, CompleteError::Store(Error::OutcomeUnknown(_))), "{source}");
    assert_eq!(result, b"result", "what was done is given back");
    assert!(ran);
    // The frame was written, so it survives a kill, but perhaps not a power cut.
    let killed = Bench::on(bench.disk.after_kill(), bench.clock.clone());
    assert_eq!(run(&killed, never).replay().result(), b"result");
    run(&bench.cut(|_| 0), never).interrupted();
}

#[test]
fn a_key_that_was_not_freed_is_said_to_be_so() {
    let bench = Bench::new();
    fail_sync(&bench, 1);
    let outcome = run(&bench, |_| Effect::DidNotHappen("declined"));
    let Err(RunError::NotFreed { reason, source }) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(source, Error::OutcomeUnknown(_)), "{source}");
    assert_eq!(reason, "declined");
    let killed = Bench::on(bench.disk.after_kill(), bench.clock.clone());
    killed.begin("k", "another").fresh();
    run(&bench.cut(|_| 0), never).interrupted();
}

#[test]
fn a_store_that_is_poisoned_while_it_runs_stores_nothing() {
    let bench = Bench::new();
    let poison = |bench: &Bench, name| {
        fail_sync(bench, 0);
        assert!(bench.begin(name, "request").fresh().start().is_err());
    };
    let outcome = run(&bench, |_| {
        poison(&bench, "first");
        done("result")
    });
    let Err(RunError::NotStored { result, source }) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(source, CompleteError::Store(Error::Poisoned(_))), "{source}");
    assert_eq!(result, b"result", "what was done is given back");
    let bench = bench.kill();
    let outcome = bench.begin("other", "request").fresh().run(|_| -> Said {
        poison(&bench, "second");
        Effect::DidNotHappen("declined")
    });
    let Err(RunError::NotFreed { reason, source }) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(source, Error::Poisoned(_)), "{source}");
    assert_eq!(reason, "declined");
    let bench = bench.kill();
    run(&bench, never).interrupted();
    bench.begin("other", "request").interrupted();
}

#[test]
fn a_failed_checkpoint_is_the_operations_to_judge() {
    let bench = Bench::new();
    fail_sync(&bench, 1);
    let outcome = run(&bench, |execution| match execution.checkpoint("step 1") {
        Ok(()) => done("result"),
        Err(_) => Effect::Unknown("no checkpoint"),
    });
    assert!(matches!(outcome, Ok(Outcome::Unknown("no checkpoint"))), "{outcome:?}");
    run(&bench.kill(), never).interrupted();
}

#[cfg(feature = "transaction")]
#[test]
fn nothing_runs_from_within_a_transaction_of_the_same_store() {
    let bench = Bench::new();
    let written = bench.store.transaction(|_| {
        let outcome = run(&bench, never);
        assert!(matches!(outcome, Err(RunError::NotRun(Error::InTransaction))), "{outcome:?}");
        Ok::<_, Infallible>(())
    });
    assert!(written.is_ok(), "{written:?}");
    run(&bench, |_| done("result")).done();
}

#[test]
fn an_error_shows_neither_key_nor_result() {
    let bench = Bench::new();
    let secret = "secret".repeat(LEN_MAX);
    let error = bench
        .store
        .run(&key("secret key"), Fingerprint::NONE, |_| done(&secret))
        .expect_err("it is too long");
    assert!(!format!("{error} {error:?}").contains("secret"));
}
