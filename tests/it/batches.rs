//! Group commit: one fsync for a batch, and a log that never stays full.

use std::thread;

use idemstore::sim::OpenOn;
use idemstore::{Bound, Fingerprint};

use crate::support::{Answers, Bench, Started, key};

#[test]
fn one_caller_pays_one_fsync_for_a_start_and_one_for_a_completion() {
    let bench = Bench::new();
    let before = bench.disk.counts();
    let execution = bench.begin("k", "request").started();
    let started = bench.disk.counts();
    assert_eq!(started.log_syncs, before.log_syncs + 1);
    execution.complete("result").expect("it completes");
    let completed = bench.disk.counts();
    assert_eq!(completed.log_syncs, started.log_syncs + 1);
    // The vault is left alone until the log is settled.
    assert_eq!(completed.vault_syncs, before.vault_syncs);
}

#[test]
fn a_batch_is_one_write_and_one_fsync_however_many_callers_share_it() {
    const CALLERS: usize = 32;
    const EACH: usize = 20;
    let bench = Bench::new();
    let before = (bench.disk.counts(), bench.store.stats());
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let bench = &bench;
            scope.spawn(move || {
                for step in 0..EACH {
                    let name = format!("{caller} {step}");
                    bench.begin(&name, "request").fresh().complete("").expect("it completes");
                }
            });
        }
    });
    let after = (bench.disk.counts(), bench.store.stats());
    assert_eq!(after.1.changes - before.1.changes, (CALLERS * EACH) as u64);
    let batches = after.1.batches - before.1.batches;
    assert!(batches <= (CALLERS * EACH) as u64);
    assert_eq!(after.0.log_syncs - before.0.log_syncs, batches);
    assert_eq!(after.0.log_writes - before.0.log_writes, batches);
}

#[test]
fn a_change_of_segment_costs_the_batch_no_further_fsync() {
    let bench = Bench::new();
    let mut settles = 0;
    for step in 0..200 {
        let (counts, stats) = (bench.disk.counts(), bench.store.stats());
        let permit = bench.begin(&format!("{step}"), "request").fresh();
        permit.complete([7; 2_000]).expect("it completes");
        assert_eq!(bench.disk.counts().log_syncs, counts.log_syncs + 1);
        settles += bench.store.stats().settles - stats.settles;
    }
    assert!(5 < settles, "the log was never full");
}

#[test]
fn a_log_that_is_full_holds_callers_up_and_loses_nothing() {
    // 400 kB of results through a log of 64 KiB, without a background thread.
    let bench = Bench::new();
    for step in 0..400 {
        let name = format!("{step}");
        bench.begin(&name, "request").started().complete([7; 1_000]).expect("it completes");
        assert!(bench.store.stats().log_bytes <= 32 * 1024);
    }
    for step in 0..400 {
        bench.begin(&format!("{step}"), "request").replay();
    }
    let bench = bench.kill();
    for step in 0..400 {
        assert_eq!(bench.begin(&format!("{step}"), "request").replay().result(), [7; 1_000]);
    }
}

#[test]
fn what_is_settled_leaves_memory() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    bench.complete("completed", "request", "result");
    assert_eq!(bench.store.stats().unsettled_changes, 3);
    bench.store.settle().expect("it settles");
    let stats = bench.store.stats();
    assert_eq!((stats.unsettled_changes, stats.log_bytes), (0, 0));
    assert_eq!((stats.records, stats.in_flight), (2, 1));
    // If there's nothing to settle, nothing is written.
    let counts = bench.disk.counts();
    bench.store.settle().expect("it settles");
    assert_eq!(bench.disk.counts(), counts);
    execution.complete("result").expect("it completes");
}

#[test]
fn a_store_at_its_bound_refuses_new_keys_only() {
    let disk = crate::support::SimDisk::new();
    let clock = idemstore::ManualClock::new(idemstore::Timestamp::from_unix_ms(1));
    let store = crate::support::builder(&clock).keys_max(2).open_on(disk).expect("the store opens");
    let begin = |name: &str| store.begin(&key(name), Fingerprint::of("request"));
    let execution = begin("a").expect("begin answers").started();
    begin("b").expect("begin answers").fresh().complete("result").expect("it completes");
    let refused = begin("c").expect_err("the store is full");
    assert!(
        matches!(refused, idemstore::Error::Overloaded { bound: Bound::Keys { max: 2 } }),
        "{refused}"
    );
    begin("b").expect("begin answers").replay();
    execution.abandon().expect("it is abandoned");
    begin("c").expect("begin answers").fresh();
}
