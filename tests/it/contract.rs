//! The table of states: each way into a state, and each way out of it.

use crate::support::{Answers, Bench, RETENTION_MS, START_MS, Started, builder, key};
use idemstore::sim::OpenOn;
use idemstore::{Begin, Fingerprint, FinishError, OpenError};

#[test]
fn a_free_key_is_fresh() {
    let bench = Bench::new();
    bench.begin("k", "request").fresh().release();
}

#[test]
fn a_reserved_key_is_in_flight() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let in_flight = bench.begin("k", "request").in_flight();
    assert_eq!(in_flight.since().as_unix_ms(), START_MS);
    drop(permit);
}

#[test]
fn a_reserved_key_says_nothing_of_another_request() {
    let bench = Bench::new();
    let _permit = bench.begin("k", "request").fresh();
    // Nothing has started: the key was never used, so there is no request to differ from.
    bench.begin("k", "another").in_flight();
}

#[test]
fn a_released_permit_frees_the_key() {
    let bench = Bench::new();
    bench.begin("k", "request").fresh().release();
    bench.begin("k", "another").fresh();
}

#[test]
fn an_executing_key_is_in_flight() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    assert_eq!(execution.attempt(), 1);
    bench.tick(30);
    let in_flight = bench.begin("k", "request").in_flight();
    assert_eq!(in_flight.elapsed().as_millis(), 30);
}

#[test]
fn an_executing_key_with_another_request_is_a_mismatch() {
    let bench = Bench::new();
    let _execution = bench.begin("k", "request").started();
    assert!(bench.begin("k", "another").mismatches());
}

#[test]
fn a_completed_key_is_replayed() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    bench.tick(5);
    execution.complete("result").expect("it completes");
    bench.tick(5);
    let replay = bench.begin("k", "request").replay();
    assert_eq!(replay.result(), b"result");
    assert_eq!(replay.begun_at().as_unix_ms(), START_MS);
    assert_eq!(replay.completed_at().as_unix_ms(), START_MS + 5);
    assert_eq!(replay.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
    assert_eq!(replay.attempt(), 1);
}

#[test]
fn a_completed_key_with_another_request_is_a_mismatch() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    assert!(bench.begin("k", "another").mismatches());
    // The same from the vault as from memory.
    bench.store.settle().expect("it settles");
    assert!(bench.begin("k", "another").mismatches());
}

#[test]
fn a_result_is_replayed_from_the_vault_as_from_memory() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let from_memory = bench.begin("k", "request").replay();
    bench.store.settle().expect("it settles");
    let from_vault = bench.begin("k", "request").replay();
    assert_eq!(from_memory.result(), from_vault.result());
    assert_eq!(from_memory.completed_at(), from_vault.completed_at());
    assert_eq!(from_memory.expires_at(), from_vault.expires_at());
}

#[test]
fn an_abandoned_execution_frees_the_key() {
    for settle in [false, true] {
        let bench = Bench::new();
        let execution = bench.begin("k", "request").started();
        if settle {
            bench.store.settle().expect("it settles");
        }
        execution.abandon().expect("it is abandoned");
        let permit = bench.begin("k", "another").fresh();
        permit.release();
        bench.reopen().begin("k", "another").fresh();
    }
}

#[test]
fn a_permit_completes_without_a_start() {
    let bench = Bench::new();
    let before = bench.store.stats().batches;
    bench.begin("k", "request").fresh().complete("result").expect("it completes");
    assert_eq!(bench.store.stats().batches, before + 1);
    assert_eq!(bench.begin("k", "request").replay().result(), b"result");
}

#[test]
fn an_interrupted_operation_is_held_by_one_caller() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    let interrupted = bench.begin("k", "request").interrupted();
    bench.begin("k", "request").in_flight();
    assert!(bench.begin("k", "another").mismatches());
    drop(interrupted);
    bench.begin("k", "request").interrupted();
}

#[test]
fn an_interrupted_operation_with_another_request_is_a_mismatch() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    assert!(bench.begin("k", "another").mismatches());
    assert!(bench.reopen().begin("k", "another").mismatches());
}

#[test]
fn an_interrupted_operation_is_retried_as_the_next_attempt() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    bench.tick(7);
    let execution = bench.begin("k", "request").interrupted().retry().expect("it starts again");
    assert_eq!(execution.attempt(), 2);
    assert_eq!(execution.begun_at().as_unix_ms(), START_MS);
    bench.begin("k", "request").in_flight();
    let completed = execution.complete("result").expect("it completes");
    assert_eq!(completed.attempt(), 2);
    // Retention runs from the first begin, not from the retry.
    assert_eq!(completed.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
}

#[test]
fn the_attempt_is_durable_before_the_retry_runs() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    let execution = bench.begin("k", "request").interrupted().retry().expect("it starts again");
    let bench = bench.kill();
    drop(execution);
    assert_eq!(bench.begin("k", "request").interrupted().attempt(), 2);
}

#[test]
fn an_interrupted_operation_is_resolved() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    bench.begin("k", "request").interrupted().resolve("found").expect("it is resolved");
    assert_eq!(bench.begin("k", "request").replay().result(), b"found");
}

#[test]
fn an_interrupted_operation_is_abandoned() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    bench.begin("k", "request").interrupted().abandon().expect("it is abandoned");
    bench.begin("k", "another").fresh();
}

#[test]
fn a_restart_interrupts_what_was_executing() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let Bench { disk, clock, store, .. } = bench;
    assert_eq!(store.close().expect("the store closes"), 1);
    // Its effect may still be under way.
    let opened = builder(&clock).open_on(disk.clone());
    assert!(matches!(opened, Err(OpenError::Locked)), "{opened:?}");
    drop(execution);
    let bench = Bench::on(disk, clock);
    assert_eq!(bench.begin("k", "request").interrupted().attempt(), 1);
}

#[test]
fn a_kill_interrupts_what_was_executing_and_frees_what_was_reserved() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    let permit = bench.begin("reserved", "request").fresh();
    let bench = bench.kill();
    bench.begin("executing", "request").interrupted();
    bench.begin("reserved", "request").fresh();
    drop((execution, permit));
}

#[test]
fn a_detached_execution_is_in_flight_until_its_key_completes_it() {
    let bench = Bench::new();
    bench.begin("k", "request").started().detach();
    bench.begin("k", "request").in_flight();
    let completed = bench.store.complete(&key("k"), "from elsewhere").expect("it completes");
    assert_eq!(completed.attempt(), 1);
    assert_eq!(bench.begin("k", "request").replay().result(), b"from elsewhere");
}

#[test]
fn a_detached_execution_is_abandoned_by_its_key() {
    let bench = Bench::new();
    bench.begin("k", "request").started().detach();
    bench.store.abandon(&key("k")).expect("it is abandoned");
    bench.begin("k", "request").fresh();
}

#[test]
fn a_detached_execution_is_finished_after_a_restart_too() {
    for settle in [false, true] {
        let bench = Bench::new();
        bench.begin("a", "request").started().detach();
        bench.begin("b", "request").started().detach();
        let bench = if settle { bench.reopen() } else { bench.kill() };
        bench.store.complete(&key("a"), "late").expect("it completes");
        bench.store.abandon(&key("b")).expect("it is abandoned");
        assert_eq!(bench.begin("a", "request").replay().result(), b"late");
        bench.begin("b", "request").fresh();
    }
}

#[test]
fn only_an_open_execution_is_finished_by_its_key() {
    let bench = Bench::new();
    let complete = |name| bench.store.complete(&key(name), "result");
    assert!(matches!(complete("unknown"), Err(FinishError::NotExecuting)));

    let permit = bench.begin("reserved", "request").fresh();
    assert!(matches!(complete("reserved"), Err(FinishError::Held)));
    permit.release();

    let execution = bench.begin("held", "request").started();
    assert!(matches!(complete("held"), Err(FinishError::Held)));
    assert!(matches!(bench.store.abandon(&key("held")), Err(FinishError::Held)));
    execution.complete("result").expect("it completes");

    for settled in [false, true] {
        assert!(matches!(complete("held"), Err(FinishError::NotExecuting)), "settled: {settled}");
        assert!(matches!(bench.store.abandon(&key("held")), Err(FinishError::NotExecuting)));
        bench.store.settle().expect("it settles");
    }
}

#[test]
fn a_key_without_fingerprints_matches_every_request() {
    let bench = Bench::new();
    let permit = match bench.store.begin(&key("k"), Fingerprint::NONE) {
        Ok(Begin::Fresh(permit)) => permit,
        other => panic!("{other:?}"),
    };
    permit.complete("result").expect("it completes");
    bench.begin("k", "any request").replay();
    let bench = bench.reopen();
    bench.begin("k", "any other").replay();
}
