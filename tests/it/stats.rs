//! The numbers of a store are true.

use std::time::Duration;

use crate::support::{Answers, Bench, RETENTION_MS, Started};

#[test]
fn each_key_is_counted_as_what_it_is() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    drop(bench.begin("interrupted", "request").started());
    let _execution = bench.begin("executing", "request").started();
    bench.begin("detached", "request").started().detach();
    let _permit = bench.begin("reserved", "request").fresh();
    bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
    let stats = bench.store.stats();
    assert_eq!((stats.records, stats.live, stats.sweep_backlog), (4, 4, 0));
    assert_eq!((stats.in_flight, stats.interrupted), (3, 1));

    let interrupted = bench.begin("interrupted", "request").interrupted();
    assert_eq!(bench.store.stats().interrupted, 0);
    interrupted.retry().expect("it starts").complete("result").expect("it completes");
    assert_eq!(bench.store.stats().interrupted, 0);

    // A kill interrupts what was in flight, settled or not.
    let bench = bench.kill();
    let stats = bench.store.stats();
    assert_eq!((stats.records, stats.in_flight, stats.interrupted), (4, 0, 2));
    let bench = bench.reopen();
    assert_eq!(bench.store.stats().interrupted, 2);
    drop(bench.begin("detached", "request").interrupted().retry().expect("it starts"));
    assert_eq!(bench.store.stats().interrupted, 2);
    bench.begin("executing", "request").interrupted().resolve("result").expect("it completes");
    assert_eq!(bench.store.stats().interrupted, 1);
    bench.begin("detached", "request").interrupted().abandon().expect("it is abandoned");
    assert_eq!(bench.store.stats().interrupted, 0);
}

#[test]
fn what_has_expired_is_the_backlog_until_it_is_swept() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    drop(bench.begin("interrupted", "request").started());
    let execution = bench.begin("executing", "request").started();
    bench.store.settle().expect("it settles");
    bench.tick(RETENTION_MS);
    bench.complete("young", "request", "result");
    let stats = bench.store.stats();
    // A held record counts as expired, and stays until it is let go of.
    assert_eq!((stats.records, stats.live, stats.sweep_backlog), (4, 1, 3));
    assert_eq!((stats.in_flight, stats.interrupted), (1, 0));
    assert_eq!(bench.store.sweep().expect("it sweeps"), 2);
    assert_eq!(bench.store.stats().sweep_backlog, 1);
    drop(execution);
    assert_eq!(bench.store.stats().interrupted, 0);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
    let stats = bench.store.stats();
    assert_eq!((stats.records, stats.sweep_backlog, stats.swept), (1, 0, 3));
}

#[test]
fn the_log_and_the_files_are_measured() {
    let bench = Bench::new();
    let empty = bench.store.stats();
    assert_eq!((empty.unsettled_changes, empty.log_bytes, empty.oldest_unsettled), (0, 0, None));
    bench.complete("k", "request", "result");
    let stats = bench.store.stats();
    assert_eq!(stats.unsettled_changes, 2);
    assert!(0 < stats.log_bytes);
    let oldest = stats.oldest_unsettled.expect("there is something in the log");
    std::thread::sleep(Duration::from_millis(2));
    assert!(oldest < bench.store.stats().oldest_unsettled.expect("it is still there"));
    bench.store.settle().expect("it settles");
    let settled = bench.store.stats();
    assert_eq!((settled.unsettled_changes, settled.oldest_unsettled), (0, None));
    let on_disk: usize = bench.disk.bytes().values().map(Vec::len).sum();
    assert_eq!(settled.file_bytes, on_disk as u64);
}

#[test]
fn the_largest_batch_is_remembered() {
    let bench = Bench::new();
    assert_eq!(bench.store.stats().batch_changes_max, 0);
    let permits: Vec<_> =
        (0..7).map(|name| (bench.begin(&format!("{name}"), "request").fresh(), "result")).collect();
    for completed in bench.store.complete_many(permits) {
        completed.expect("it completes");
    }
    bench.complete("k", "request", "result");
    let stats = bench.store.stats();
    assert_eq!((stats.batch_changes_max, stats.batches, stats.changes), (7, 3, 9));
}

#[test]
fn a_closed_store_has_stats_too() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    bench.store.clone().close().expect("the store closes");
    let stats = bench.store.stats();
    assert_eq!((stats.records, stats.unsettled_changes, stats.file_bytes), (1, 0, 0));
}
