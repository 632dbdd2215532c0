//! Waiting for an operation in flight.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Error};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, RETENTION_MS, Started, key};

/// Longer than any test takes: a wait that reaches it has failed.
const LONG: Duration = Duration::from_secs(60);

/// Waits for `k` in another thread, and runs `end` once that thread waits.
fn wait_while(bench: &Bench, end: impl FnOnce()) -> Result<Begin, Error> {
    let in_flight = bench.begin("k", "request").in_flight();
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || {
        sender.send(()).expect("the test waits");
        in_flight.wait(LONG)
    });
    receiver.recv().expect("the thread runs");
    // The waiter has joined by now, or finds the outcome when it does: both must work.
    thread::sleep(Duration::from_millis(20));
    end();
    waiter.join().expect("the thread ends")
}

/// A start that cannot be synced ends the store.
fn poison(bench: &Bench) {
    bench.disk.fail(Fault { on: Op::Sync, after: 0, for_good: true, kind: ErrorKind::Other });
    assert!(bench.begin("other", "request").fresh().start().is_err());
}

#[test]
fn a_waiter_replays_the_result() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let answer = wait_while(&bench, || {
        execution.complete("result").expect("it completes");
    });
    assert_eq!(answer.expect("wait answers").replay().result(), b"result");
}

#[test]
fn a_waiter_replays_a_result_whose_retention_is_over() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let answer = wait_while(&bench, || {
        bench.tick(RETENTION_MS);
        execution.complete("late").expect("it completes");
    });
    assert_eq!(answer.expect("wait answers").replay().result(), b"late");
}

#[test]
fn a_waiter_gets_a_key_that_was_given_up() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    wait_while(&bench, || permit.release()).expect("wait answers").fresh();

    let execution = bench.begin("k", "request").started();
    let answer = wait_while(&bench, || execution.abandon().expect("it is abandoned"));
    answer.expect("wait answers").fresh();
}

#[test]
fn a_waiter_is_told_of_an_interruption() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let answer = wait_while(&bench, || drop(execution));
    answer.expect("wait answers").interrupted();
}

#[test]
fn a_waiter_replays_what_was_completed_by_key() {
    let bench = Bench::new();
    bench.begin("k", "request").started().detach();
    let answer = wait_while(&bench, || {
        bench.store.complete(&key("k"), "result").expect("it completes");
    });
    assert_eq!(answer.expect("wait answers").replay().result(), b"result");
}

#[test]
fn a_waiter_is_told_when_the_store_closes() {
    let bench = Bench::new();
    let _execution = bench.begin("k", "request").started();
    let answer = wait_while(&bench, || {
        bench.store.clone().close().map(drop).expect("the store closes");
    });
    assert!(matches!(answer, Err(Error::Closed)));
}

#[test]
fn a_wait_that_ends_with_its_time_tells_of_the_caller_that_has_the_key_now() {
    let bench = Bench::new();
    let first = bench.begin("k", "request").fresh();
    let in_flight = bench.begin("k", "request").in_flight();
    let before = in_flight.since();
    bench.tick(50);
    drop(first);
    let _second = bench.begin("k", "request").fresh();
    bench.tick(7);
    let in_flight = in_flight.wait(Duration::ZERO).expect("wait answers").in_flight();
    assert_eq!(in_flight.since().saturating_since(before), Duration::from_millis(50));
    assert_eq!(in_flight.elapsed(), Duration::from_millis(7));
}

#[test]
fn a_wait_ends_with_its_time_out() {
    let bench = Bench::new();
    let _execution = bench.begin("k", "request").started();
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let in_flight = bench.begin("k", "request").in_flight();
        in_flight.wait(timeout).expect("wait answers").in_flight();
    }
}

#[test]
fn a_wait_without_end_ends_with_the_outcome() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let in_flight = bench.begin("k", "request").in_flight();
    let waiter = thread::spawn(move || in_flight.wait(Duration::MAX));
    execution.complete("result").expect("it completes");
    waiter.join().expect("the thread ends").expect("wait answers").replay();
}

#[test]
fn a_waiter_learns_nothing_of_another_request() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    // This caller asked with a different request before anything had started.
    let in_flight = bench.begin("k", "another").in_flight();
    permit.start().expect("it starts").complete("result").expect("it completes");
    assert!(in_flight.wait(LONG).expect("wait answers").mismatches());
}

#[test]
fn of_many_waiters_one_gets_the_key_and_the_others_its_result() {
    const WAITERS: usize = 16;
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let in_flight = bench.begin("k", "request").in_flight();
            thread::spawn(move || match in_flight.wait(LONG).expect("wait answers") {
                Begin::Fresh(permit) => {
                    permit.start().expect("it starts").complete("once").expect("it completes");
                    true
                }
                begin => {
                    assert_eq!(begin.replay().result(), b"once");
                    false
                }
            })
        })
        .collect();
    permit.release();
    let ran = waiters.into_iter().map(thread::JoinHandle::join);
    let ran = ran.filter(|ran| *ran.as_ref().expect("the thread ends")).count();
    assert_eq!(ran, 1);
}

#[test]
fn a_wait_on_a_store_that_has_ended_says_so() {
    let bench = Bench::new();
    bench.begin("k", "request").started().detach();
    let in_flight = bench.begin("k", "request").in_flight();
    poison(&bench);
    let waited = in_flight.clone().wait(Duration::MAX);
    assert!(matches!(waited, Err(Error::Poisoned(_))), "{waited:?}");

    let bench = Bench::new();
    bench.begin("k", "request").started().detach();
    let in_flight = bench.begin("k", "request").in_flight();
    bench.store.close().expect("the store closes");
    assert!(matches!(in_flight.wait(Duration::MAX), Err(Error::Closed)));
}

/// No call wakes them any more, so this removes them.
#[test]
fn those_who_come_to_wait_when_the_store_has_ended_leave_nothing_behind() {
    let close: fn(&Bench) = |bench| {
        bench.store.clone().close().map(drop).expect("the store closes");
    };
    for end in [poison, close] {
        let bench = Bench::new();
        bench.begin("k", "request").started().detach();
        let in_flight = bench.begin("k", "request").in_flight();
        end(&bench);
        for _ in 0..2 {
            assert!(in_flight.clone().wait(Duration::MAX).is_err());
        }
        assert_eq!(bench.store.stats().waited_for, 0);
    }
}

#[test]
fn those_who_wait_are_forgotten_when_the_last_of_them_leaves() {
    const WAITERS: usize = 8;
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    thread::scope(|scope| {
        for waiter in 0..WAITERS {
            let in_flight = bench.begin("k", "request").in_flight();
            let timeout = Duration::from_millis(20 * (1 + waiter as u64));
            scope.spawn(move || in_flight.wait(timeout).expect("wait answers").in_flight());
        }
    });
    assert_eq!(bench.store.stats().waited_for, 0);
    // There is no holder left, and a caller that comes now still gets the outcome.
    let answer = wait_while(&bench, || {
        execution.complete("result").expect("it completes");
    });
    answer.expect("wait answers").replay();
    assert_eq!(bench.store.stats().waited_for, 0);
}

#[test]
fn many_wait_with_a_deadline_each() {
    const WAITERS: usize = 400;
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let answers: Vec<_> = thread::scope(|scope| {
        let waiters: Vec<_> = (0..WAITERS)
            .map(|waiter| {
                let in_flight = bench.begin("k", "request").in_flight();
                let timeout = if waiter % 2 == 0 { LONG } else { Duration::from_millis(1) };
                scope.spawn(move || in_flight.wait(timeout).expect("wait answers"))
            })
            .collect();
        // The short waits have timed out by then, or see the outcome: both are right.
        thread::sleep(Duration::from_millis(50));
        execution.complete("result").expect("it completes");
        waiters.into_iter().map(|waiter| waiter.join().expect("the thread ends")).collect()
    });
    for (waiter, answer) in answers.into_iter().enumerate() {
        match answer {
            Begin::Replay(completed) => assert_eq!(completed.result(), b"result"),
            answer => {
                assert!(waiter % 2 == 1, "a waiter left before its time: {answer:?}");
                answer.in_flight();
            }
        }
    }
    assert_eq!(bench.store.stats().waited_for, 0);
}

#[test]
fn waiters_of_many_keys_are_told_when_the_store_is_poisoned() {
    let bench = Bench::new();
    let names: Vec<_> = (0..20).map(|name| format!("{name}")).collect();
    for name in &names {
        bench.begin(name, "request").started().detach();
    }
    let answers: Vec<_> = thread::scope(|scope| {
        let waiters: Vec<_> = names
            .iter()
            .map(|name| {
                let in_flight = bench.begin(name, "request").in_flight();
                scope.spawn(move || in_flight.wait(Duration::MAX))
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        poison(&bench);
        waiters.into_iter().map(|waiter| waiter.join().expect("the thread ends")).collect()
    });
    for answer in answers {
        assert!(matches!(answer, Err(Error::Poisoned(_))), "{answer:?}");
    }
    assert_eq!(bench.store.stats().waited_for, 0);
}
