//! Calls beside calls: who holds the key, and who gets the outcome.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idemstore::{Begin, FinishError, Status};
use shuttle::thread;

use super::support::{Answers, Bench, Started, key};
use super::{ask, call, explore};

fn nothing(_: &Bench) {}

/// A key that is interrupted, one that is completed, and one that was abandoned; all in the vault.
fn some(bench: &Bench) {
    drop(bench.begin("interrupted", "request").started());
    bench.complete("completed", "request", "completed");
    bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
}

#[test]
fn of_callers_of_one_key_one_runs_and_all_have_its_result() {
    explore(nothing, |bench| {
        let effects = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(call(&bench, "key", &effects).result(), b"key"));
            }
        });
        assert_eq!(effects.into_inner(), 1);
    });
}

#[test]
fn of_callers_of_keys_that_the_vault_has_each_is_told_what_it_has() {
    explore(some, |bench| {
        let effects = AtomicUsize::new(0);
        thread::scope(|scope| {
            for names in [["interrupted", "completed"], ["completed", "interrupted"]] {
                let (bench, effects) = (&bench, &effects);
                scope.spawn(move || {
                    for name in names {
                        assert_eq!(call(bench, name, effects).result(), name.as_bytes());
                    }
                });
            }
            scope.spawn(|| drop(bench.store.settle()));
        });
        // The interrupted one runs again, once; the completed one never does.
        assert_eq!(effects.into_inner(), 1);
    });
}

#[test]
fn a_key_that_is_given_up_goes_to_one_of_those_who_wait() {
    explore(nothing, |bench| {
        let effects = AtomicUsize::new(0);
        let permit = bench.begin("key", "request").fresh();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(call(&bench, "key", &effects).result(), b"key"));
            }
            scope.spawn(|| drop(permit));
        });
        assert_eq!(effects.into_inner(), 1);
    });
}

#[test]
fn an_execution_that_is_dropped_is_interrupted_and_runs_again_once() {
    explore(nothing, |bench| {
        let effects = AtomicUsize::new(0);
        let execution = bench.begin("key", "request").started();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(call(&bench, "key", &effects).result(), b"key"));
            }
            scope.spawn(|| drop(execution));
        });
        assert_eq!(effects.into_inner(), 1);
    });
}

#[test]
fn a_wait_that_ends_by_its_time_and_one_that_is_woken_are_both_answered() {
    explore(nothing, |bench| {
        let execution = bench.begin("key", "request").started();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let Begin::InFlight(in_flight) = ask(&bench, "key") else { return };
                    // Whether the time runs out first is the explorer's choice.
                    match in_flight.wait(Duration::from_secs(1)).expect("wait answers") {
                        Begin::InFlight(_) => {}
                        begin => assert_eq!(begin.replay().result(), b"done"),
                    }
                });
            }
            scope.spawn(|| execution.complete("done").expect("it completes"));
        });
        assert_eq!(bench.store.stats().waited_for, 0);
        assert_eq!(ask(&bench, "key").replay().result(), b"done");
    });
}

#[test]
fn an_abandoned_key_is_free_for_one_of_those_who_ask() {
    explore(nothing, |bench| {
        let effects = AtomicUsize::new(0);
        let execution = bench.begin("key", "request").started();
        thread::scope(|scope| {
            scope.spawn(|| execution.abandon().expect("it is abandoned"));
            scope.spawn(|| drop(bench.store.settle()));
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(call(&bench, "key", &effects).result(), b"key"));
            }
        });
        assert_eq!(effects.into_inner(), 1);
    });
}

#[test]
fn of_those_who_finish_by_key_one_does() {
    explore(some, |bench| {
        let done = AtomicUsize::new(0);
        let finish = |finished: Result<(), FinishError>| match finished {
            Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(FinishError::Held | FinishError::NotExecuting) => {}
            Err(error) => panic!("{error}"),
        };
        let name = key("interrupted");
        thread::scope(|scope| {
            for result in ["one", "two"] {
                let (bench, name, finish) = (&bench, &name, &finish);
                scope.spawn(move || finish(bench.store.complete(name, result).map(drop)));
            }
            scope.spawn(|| finish(bench.store.abandon(&name)));
        });
        assert_eq!(done.into_inner(), 1);
    });
}

#[test]
fn a_key_that_is_forgotten_beside_a_caller_is_replayed_or_runs_again_once() {
    explore(some, |bench| {
        let effects = AtomicUsize::new(0);
        let forgotten = thread::scope(|scope| {
            let forgetter =
                scope.spawn(|| bench.store.forget(&key("completed")).expect("it answers"));
            for _ in 0..2 {
                scope.spawn(|| call(&bench, "completed", &effects));
            }
            forgetter.join().expect("it does not panic")
        });
        let effects = effects.into_inner();
        assert!(effects <= usize::from(forgotten), "{effects} effects, forgotten: {forgotten}");
    });
}

#[test]
fn a_look_beside_a_caller_shows_a_state_that_was_true() {
    explore(some, |bench| {
        let effects = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| call(&bench, "interrupted", &effects));
            scope.spawn(|| drop(bench.store.settle()));
            scope.spawn(|| {
                let mut completed = false;
                for _ in 0..3 {
                    let info = bench.store.get(&key("interrupted")).expect("it answers");
                    let info = info.expect("it was started, and its retention is not over");
                    // Nothing comes after completion here.
                    assert!(!completed || info.status() == Status::Completed);
                    completed = info.status() == Status::Completed;
                }
            });
        });
    });
}
