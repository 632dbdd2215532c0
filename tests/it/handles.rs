//! What happens to a handle that is never finished.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idemstore::sim::OpenOn;
use idemstore::{Error, Fingerprint, FinishError};

use crate::support::{Answers, Bench, Started, key};

#[test]
fn a_dropped_execution_is_interrupted_at_once() {
    for settle in [false, true] {
        let bench = Bench::new();
        let execution = bench.begin("k", "request").started();
        if settle {
            bench.store.settle().expect("it settles");
        }
        drop(execution);
        bench.begin("k", "request").interrupted();
    }
}

#[test]
fn a_panic_in_an_execution_interrupts_it() {
    let bench = Bench::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _execution = bench.begin("k", "request").started();
        panic!("the effect failed in an unknown way");
    }));
    assert!(unwound.is_err());
    assert_eq!(bench.begin("k", "request").interrupted().attempt(), 1);
}

#[test]
fn a_panic_before_the_start_frees_the_key() {
    let bench = Bench::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _permit = bench.begin("k", "request").fresh();
        panic!("the request is invalid");
    }));
    assert!(unwound.is_err());
    bench.begin("k", "request").fresh();
}

#[test]
fn a_leaked_execution_stays_in_flight_until_the_process_ends() {
    let bench = Bench::new();
    std::mem::forget(bench.begin("k", "request").started());
    bench.begin("k", "request").in_flight();
    bench.kill().begin("k", "request").interrupted();
}

#[test]
fn a_handle_can_finish_in_another_thread() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    std::thread::spawn(move || execution.complete("result").map(drop))
        .join()
        .expect("the thread ends")
        .expect("it completes");
    bench.begin("k", "request").replay();
}

#[test]
fn handles_keep_the_store_open() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let Bench { disk, clock, store, .. } = bench;
    drop(store);
    let locked = crate::support::builder(&clock).open_on(disk.clone());
    assert!(matches!(locked, Err(idemstore::OpenError::Locked)));
    execution.complete("result").expect("it completes");
    Bench::on(disk, clock).begin("k", "request").replay();
}

#[test]
fn a_closed_store_answers_nothing() {
    let bench = Bench::new();
    bench.complete("done", "request", "result");
    let permit = bench.begin("permit", "request").fresh();
    let execution = bench.begin("execution", "request").started();
    let store = bench.store.clone();
    bench.store.clone().close().expect("the store closes");

    let begin = |name| store.begin(&key(name), Fingerprint::of("request"));
    assert!(matches!(begin("done"), Err(Error::Closed)));
    assert!(matches!(begin("new"), Err(Error::Closed)));
    assert!(matches!(permit.start(), Err(Error::Closed)));
    let completed = execution.complete("result").expect_err("the store is closed");
    assert!(completed.into_handle().is_none());
    assert!(matches!(store.sweep(), Err(Error::Closed)));
    assert!(matches!(store.settle(), Err(Error::Closed)));
    assert!(matches!(store.abandon(&key("execution")), Err(FinishError::Store(_))));
    store.close().expect("closing twice is no error");

    let bench = Bench::on(bench.disk, bench.clock);
    bench.begin("done", "request").replay();
    bench.begin("permit", "request").fresh();
    bench.begin("execution", "request").interrupted();
}
