//! Keys: at rest, held, and gone.

use super::{MIB, RETENTION, builder, check, clock, directory, fill, live, open, permit, turn};

/// A shard's table doubles at 448 keys; these are a few more, so the spare room is near its
/// maximum.
const KEYS: usize = 120_000;

#[test]
fn a_key_at_rest_takes_40_bytes_at_most_and_none_once_it_was_swept() {
    let _turn = turn();
    let (directory, clock) = (directory(), clock());
    let store = open(directory.path(), &clock);
    fill(&store, KEYS, 0);
    store.close().expect("it closes");

    let before = live();
    let store = open(directory.path(), &clock);
    // Besides the cache and what an empty store takes.
    check("keys at rest", live() - before, 40 * KEYS + 2 * MIB);

    clock.advance(RETENTION);
    let mut swept = 0;
    while swept < KEYS {
        swept += store.sweep().expect("it sweeps");
    }
    store.compact().expect("it compacts");
    check("keys that were swept", live() - before, 2 * MIB);
    store.close().expect("it closes");
}

#[test]
fn a_reserved_key_takes_300_bytes_at_most_and_none_once_it_is_released() {
    const RESERVED: usize = 1_000_000;
    let _turn = turn();
    let store = builder(&clock()).open_in_memory().expect("there is room");
    let before = live();
    let permits: Vec<_> = (0..RESERVED).map(|number| permit(&store, number)).collect();
    check("reserved keys, with their permits", live() - before, 300 * RESERVED);
    drop(permits);
    check("released keys", live() - before, MIB);
}

#[test]
fn an_execution_takes_512_bytes_at_most_and_what_a_key_at_rest_does_once_it_is_over() {
    const STARTED: usize = 100_000;
    let _turn = turn();
    let directory = directory();
    let store = open(directory.path(), &clock());
    let before = live();
    let mut executions = Vec::with_capacity(STARTED);
    for first in (0..STARTED).step_by(1_000) {
        let permits = (first..first + 1_000).map(|number| permit(&store, number));
        let started = store.start_many(permits).into_iter();
        executions.extend(started.map(|started| started.expect("it starts")));
    }
    store.settle().expect("it settles");
    check("executions, with their handles", live() - before, 512 * STARTED);
    while !executions.is_empty() {
        let some = executions.drain(executions.len() - 1_000..).map(|execution| (execution, ""));
        assert!(store.complete_many(some).iter().all(Result::is_ok));
    }
    drop(executions);
    store.settle().expect("it settles");
    check("completed executions", live() - before, 45 * STARTED + 2 * MIB);
}
