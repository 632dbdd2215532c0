//! Retention: from the first begin, to the millisecond, whatever the clock does.

use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Fingerprint, ManualClock, Timestamp};

use crate::support::{Answers, Bench, RETENTION_MS, START_MS, SimDisk, Started, builder, key};

#[test]
fn a_result_is_replayed_until_its_retention_is_over() {
    for settle in [false, true] {
        let bench = Bench::new();
        bench.complete("k", "request", "result");
        if settle {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS - 1);
        bench.begin("k", "request").replay();
        bench.tick(1);
        bench.begin("k", "request").fresh();
        bench.tick(1);
        bench.begin("k", "another").fresh();
    }
}

#[test]
fn an_interrupted_operation_is_known_until_its_retention_is_over() {
    for settle in [false, true] {
        let bench = Bench::new();
        drop(bench.begin("k", "request").started());
        if settle {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS - 1);
        drop(bench.begin("k", "request").interrupted());
        bench.tick(1);
        bench.begin("k", "request").fresh();
    }
}

#[test]
fn retention_runs_from_the_begin_not_from_the_start_or_the_end() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    bench.tick(300);
    let execution = permit.start().expect("it starts");
    bench.tick(300);
    let completed = execution.complete("result").expect("it completes");
    assert_eq!(completed.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
    bench.tick(RETENTION_MS - 600);
    bench.begin("k", "request").fresh();
}

#[test]
fn a_retention_can_be_chosen_for_one_operation() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh().with_retention(Duration::from_millis(10));
    permit.complete("result").expect("it completes");
    bench.tick(9);
    bench.begin("k", "request").replay();
    bench.tick(1);
    bench.begin("k", "request").fresh();
}

#[test]
fn a_retention_of_nothing_ends_with_the_execution() {
    let bench = Bench::new();
    let execution = bench
        .begin("k", "request")
        .fresh()
        .with_retention(Duration::ZERO)
        .start()
        .expect("it starts");
    bench.begin("k", "request").in_flight();
    execution.complete("result").expect("it completes");
    bench.begin("k", "request").fresh();
}

#[test]
fn the_longest_retention_ends_with_time_itself() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh().with_retention(Duration::MAX);
    let completed = permit.complete("result").expect("it completes");
    assert_eq!(completed.expires_at(), Timestamp::MAX);
    let bench = bench.reopen();
    assert_eq!(bench.begin("k", "request").replay().expires_at(), Timestamp::MAX);
}

#[test]
fn a_key_in_flight_never_becomes_free() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    let permit = bench.begin("reserved", "request").fresh();
    bench.begin("detached", "request").started().detach();
    drop(bench.begin("interrupted", "request").started());
    let interrupted = bench.begin("interrupted", "request").interrupted();
    bench.tick(10 * RETENTION_MS);
    bench.store.settle().expect("it settles");
    while 0 < bench.store.sweep().expect("it sweeps") {}
    for name in ["executing", "reserved", "detached", "interrupted"] {
        bench.begin(name, "request").in_flight();
    }
    assert_eq!(bench.store.stats().records, 3);
    interrupted.retry().expect("it starts again").complete("late").expect("it completes");
    execution.complete("late").expect("it completes");
    permit.start().expect("it starts").complete("late").expect("it completes");
    bench.store.complete(&key("detached"), "late").expect("it completes");
    // All of them finished after their retention was over, and begin a new one.
    let names = ["executing", "reserved", "detached", "interrupted"];
    let replayed = |bench: &Bench| {
        for name in names {
            assert_eq!(bench.begin(name, "request").replay().result(), b"late");
        }
        assert_eq!(bench.store.stats().records, 4);
        assert_eq!(bench.store.keys().count(), 4);
    };
    replayed(&bench);
    bench.tick(RETENTION_MS - 1);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    let bench = bench.kill();
    replayed(&bench);
    let bench = bench.reopen();
    replayed(&bench);
    bench.tick(1);
    for name in names {
        bench.begin(name, "request").fresh();
    }
    assert_eq!(bench.store.sweep().expect("it sweeps"), 4);
    assert_eq!(bench.store.stats().records, 0);
}

#[test]
fn an_expired_record_counts_for_nothing_once_its_holder_is_gone() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    bench.tick(RETENTION_MS);
    bench.begin("k", "request").in_flight();
    drop(execution);
    bench.begin("k", "another").fresh();
}

#[test]
fn a_clock_that_steps_back_frees_nothing_and_keeps_nothing_longer() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    bench.clock.set(Timestamp::from_unix_ms(5));
    let replay = bench.begin("k", "request").replay();
    assert_eq!(replay.begun_at().as_unix_ms(), START_MS);
    bench.clock.set(Timestamp::from_unix_ms(START_MS + RETENTION_MS));
    bench.begin("k", "request").fresh();
}

#[test]
fn time_goes_on_over_a_restart_with_an_earlier_clock() {
    for kill in [false, true] {
        let bench = Bench::new();
        bench.tick(500);
        bench.complete("k", "request", "result");
        // The machine comes back with its clock far behind.
        bench.clock.set(Timestamp::from_unix_ms(5));
        let bench = if kill { bench.kill() } else { bench.reopen() };
        let replay = bench.begin("k", "request").replay();
        assert_eq!(replay.begun_at().as_unix_ms(), START_MS + 500);
        bench.tick(RETENTION_MS - 1);
        bench.begin("k", "request").replay();
        bench.tick(1);
        bench.begin("k", "request").fresh();
    }
}

#[test]
fn the_default_retention_is_a_day() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let store = idemstore::Store::builder()
        .clock(clock.clone())
        .background_thread(false)
        .open_on(SimDisk::new())
        .expect("the store opens");
    // An everyday example: 10:00 on one day, 14:00 on the same, 11:00 on the next.
    let begin = || store.begin(&key("1234"), Fingerprint::of("vendor")).expect("begin answers");
    begin().fresh().complete("created").expect("it completes");
    clock.advance(Duration::from_secs(4 * 3600));
    begin().replay();
    clock.advance(Duration::from_secs(21 * 3600));
    begin().fresh();
}

#[test]
fn a_store_keeps_what_it_has_by_the_retention_it_was_begun_with() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let Bench { disk, clock, store, .. } = bench;
    store.close().expect("the store closes");
    let store = builder(&clock).retention(Duration::ZERO).open_on(disk).expect("the store opens");
    clock.advance(Duration::from_millis(RETENTION_MS - 1));
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    begin.replay();
}
