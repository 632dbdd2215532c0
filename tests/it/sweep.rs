//! Sweeping deletes expired records, in bounded slices, and changes no answer.

use std::thread;
use std::time::{Duration, Instant};

use idemstore::sim::OpenOn;
use idemstore::{Fingerprint, ManualClock, Store, Timestamp};

use crate::support::{Answers, Bench, RETENTION_MS, SimDisk, Started, key};

/// Records that one slice examines.
const SLICE_RECORDS: usize = 4 * 1024;

#[test]
fn a_sweep_deletes_what_has_expired_and_nothing_else() {
    let bench = Bench::new();
    bench.complete("old", "request", "result");
    drop(bench.begin("old and interrupted", "request").started());
    bench.tick(10);
    bench.complete("young", "request", "result");
    bench.store.settle().expect("it settles");
    bench.tick(RETENTION_MS - 10 - 1);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    bench.tick(1);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 2);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    assert_eq!((bench.store.stats().records, bench.store.stats().swept), (1, 2));
    bench.begin("old", "request").fresh();
    bench.begin("old and interrupted", "another").fresh();
    bench.begin("young", "request").replay();
    let bench = bench.reopen();
    assert_eq!(bench.store.stats().records, 1);
}

#[test]
fn a_swept_and_an_unswept_key_answer_alike() {
    for sweep in [false, true] {
        let bench = Bench::new();
        bench.complete("k", "request", "result");
        bench.store.settle().expect("it settles");
        bench.tick(RETENTION_MS);
        if sweep {
            bench.store.sweep().expect("it sweeps");
        }
        let execution = bench.begin("k", "another").started();
        assert_eq!(execution.attempt(), 1);
        execution.complete("second").expect("it completes");
        assert_eq!(bench.begin("k", "another").replay().result(), b"second");
        // A late sweep removes the first record, and leaves the second.
        bench.store.settle().expect("it settles");
        bench.store.sweep().expect("it sweeps");
        let bench = bench.reopen();
        assert_eq!(bench.begin("k", "another").replay().result(), b"second");
        assert_eq!(bench.store.stats().records, 1);
    }
}

#[test]
fn a_sweep_takes_results_that_are_stored_apart_with_it() {
    let bench = Bench::new();
    for step in 0..20 {
        let permit = bench.begin(&format!("{step}"), "request").fresh();
        permit.complete(vec![1; 10_000]).expect("it completes");
    }
    bench.store.settle().expect("it settles");
    bench.tick(RETENTION_MS);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 20);
    let size = bench.disk.bytes()["vault.redb"].len();
    // Their room is free again: the same amount once more doesn't make the vault longer.
    for step in 0..20 {
        let permit = bench.begin(&format!("{step} again"), "request").fresh();
        permit.complete(vec![2; 10_000]).expect("it completes");
    }
    bench.store.settle().expect("it settles");
    assert_eq!(bench.disk.bytes()["vault.redb"].len(), size);
}

#[test]
fn a_sweep_is_bounded() {
    const RECORDS: usize = 40_000;
    let clock = ManualClock::new(Timestamp::from_unix_ms(1));
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = Store::builder()
        .background_thread(false)
        .retention(Duration::from_millis(RETENTION_MS))
        .clock(clock.clone())
        .open(directory.path())
        .expect("the store opens");
    thread::scope(|scope| {
        for thread in 0..32 {
            let store = &store;
            scope.spawn(move || {
                for step in 0..RECORDS / 32 {
                    let key = key(&format!("{thread} {step}"));
                    let begin =
                        store.begin(&key, Fingerprint::of("request")).expect("begin answers");
                    begin.fresh().complete("").expect("it completes");
                }
            });
        }
    });
    store.settle().expect("it settles");
    clock.advance(Duration::from_millis(RETENTION_MS));
    let mut slices = Vec::new();
    loop {
        match store.sweep().expect("it sweeps") {
            0 => break,
            swept => slices.push(swept),
        }
    }
    let mut expected = [SLICE_RECORDS; RECORDS.div_ceil(SLICE_RECORDS)];
    expected[RECORDS / SLICE_RECORDS] = RECORDS % SLICE_RECORDS;
    assert_eq!(slices, expected);
    assert_eq!(store.stats().records, 0);
}

#[test]
fn a_sweep_passes_over_more_held_keys_than_a_slice_looks_at() {
    let bench = Bench::new();
    let held: Vec<_> = (0..=SLICE_RECORDS).map(|number| key(&format!("held {number}"))).collect();
    let begun = bench.store.begin_many(held.iter().map(|key| (key, Fingerprint::of("request"))));
    let permits = begun.into_iter().map(|begun| begun.expect("begin answers").fresh());
    let mut executions = bench.store.start_many(permits);
    bench.tick(1);
    bench.complete("behind them", "request", "result");
    bench.store.settle().expect("it settles");
    bench.tick(RETENTION_MS);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    // The first of them is behind the last slice by now.
    executions.drain(..2).for_each(|execution| drop(execution.expect("it starts")));
    assert_eq!(bench.store.sweep().expect("it sweeps"), 2);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    assert_eq!(bench.store.stats().records, SLICE_RECORDS - 1);
}

#[test]
fn a_sweep_is_bounded_in_bytes_of_results_too() {
    const RESULTS: usize = 20;
    let clock = ManualClock::new(Timestamp::from_unix_ms(1));
    let builder = Store::builder().background_thread(false).clock(clock.clone());
    let builder = builder.retention(Duration::from_millis(RETENTION_MS));
    let store = builder.open_on(SimDisk::new()).expect("the store opens");
    for step in 0..RESULTS {
        let begin = store.begin(&key(&format!("{step}")), Fingerprint::of("request"));
        let permit = begin.expect("begin answers").fresh();
        permit.complete(vec![1; 1024 * 1024]).expect("it completes");
    }
    store.settle().expect("it settles");
    clock.advance(Duration::from_millis(RETENTION_MS));
    assert_eq!([(); 3].map(|()| store.sweep().expect("it sweeps")), [16, 4, 0]);
}

#[test]
fn the_background_thread_settles_and_sweeps_by_itself() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = Store::builder()
        .retention(Duration::from_millis(1))
        .open(directory.path())
        .expect("the store opens");
    for step in 0..10 {
        let key = key(&format!("{step}"));
        let begin = store.begin(&key, Fingerprint::of("request")).expect("begin answers");
        begin.fresh().complete("result").expect("it completes");
    }
    // It settles after five seconds, and sweeps after that. This waits for it, and measures
    // nothing.
    let patience = Instant::now() + Duration::from_secs(60);
    while store.stats().swept < 10 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((store.stats().records, store.stats().swept), (0, 10));
}
