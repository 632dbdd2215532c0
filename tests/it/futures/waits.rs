//! Futures that wait for the outcome of an operation in flight.

use idemstore::{Begin, Error};

use super::{Future, hand_in};
use crate::support::waiting::block_on;
use crate::support::{Answers, Bench, Started};

/// Waits for `k`, and lets `end` happen meanwhile.
fn wait_while(bench: &Bench, end: impl FnOnce()) -> Result<Begin, Error> {
    let mut wait: Future<'_, _> = Box::pin(bench.begin("k", "request").in_flight().wait_async());
    hand_in(&mut wait);
    end();
    block_on(wait)
}

#[test]
fn it_is_woken_by_every_way_in_which_an_operation_ends() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    wait_while(&bench, || permit.release()).expect("wait answers").fresh();

    let execution = bench.begin("k", "request").started();
    let answer = wait_while(&bench, || execution.abandon().expect("it is freed"));
    answer.expect("wait answers").fresh();

    let execution = bench.begin("k", "request").started();
    let interrupted = wait_while(&bench, || drop(execution)).expect("wait answers").interrupted();
    let answer = wait_while(&bench, || drop(interrupted.resolve("result").expect("it completes")));
    assert_eq!(answer.expect("wait answers").replay().result(), b"result");
    assert_eq!(bench.store.stats().waited_for, 0);
}

#[test]
fn it_is_told_of_the_end_of_the_store() {
    let bench = Bench::new();
    let _held = bench.begin("k", "request").started();
    let store = bench.store.clone();
    let error = wait_while(&bench, || store.close().map(drop).expect("it closes"));
    assert!(matches!(error, Err(Error::Closed)), "{error:?}");
}

#[test]
fn it_finds_an_operation_that_has_ended_before() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let wait = bench.begin("k", "request").in_flight().wait_async();
    execution.complete("result").expect("it completes");
    assert_eq!(block_on(wait).expect("wait answers").replay().result(), b"result");
}

#[test]
fn of_many_one_gets_the_key_and_the_others_its_result() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let mut waits: Vec<Future<'_, _>> = Vec::new();
    for _ in 0..8 {
        waits.push(Box::pin(bench.begin("k", "request").in_flight().wait_async()));
    }
    waits.iter_mut().for_each(hand_in);
    permit.release();
    let mut waits = waits.into_iter();
    let first = waits.next().expect("there are eight");
    let permit = block_on(first).expect("wait answers").fresh();
    let mut waits: Vec<_> = waits.collect();
    waits.iter_mut().for_each(hand_in);
    permit.complete("result").expect("it completes");
    for wait in waits {
        assert_eq!(block_on(wait).expect("wait answers").replay().result(), b"result");
    }
}

#[test]
fn it_learns_nothing_of_another_request() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let mut wait: Future<'_, _> = Box::pin(bench.begin("k", "other").in_flight().wait_async());
    hand_in(&mut wait);
    permit.complete("result").expect("it completes");
    assert!(matches!(block_on(wait), Ok(Begin::Mismatch)));
}
