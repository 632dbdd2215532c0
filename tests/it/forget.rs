//! Freeing a completed key before its time.

use idemstore::Error;

use crate::support::{Answers, Bench, RETENTION_MS, Started, key};

fn forget(bench: &Bench, name: &str) -> bool {
    bench.store.forget(&key(name)).expect("forget answers")
}

#[test]
fn a_completed_key_is_free_once_it_is_forgotten() {
    for settled in [false, true] {
        let bench = Bench::new();
        bench.complete("k", "request", "result");
        if settled {
            bench.store.settle().expect("it settles");
        }
        assert!(forget(&bench, "k"));
        assert_eq!(bench.store.stats().records, 0);
        bench.begin("k", "another").fresh();
        assert!(!forget(&bench, "k"));
        // Durably so, after a power cut too.
        let bench = bench.cut(|_| 0);
        bench.begin("k", "another").fresh().complete("anew").expect("it completes");
        let bench = bench.reopen();
        assert_eq!(bench.begin("k", "another").replay().result(), b"anew");
    }
}

#[test]
fn forgetting_costs_one_fsync_and_nothing_if_there_is_nothing() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let before = bench.disk.counts();
    assert!(!forget(&bench, "another"));
    assert_eq!(bench.disk.counts(), before);
    assert!(forget(&bench, "k"));
    assert_eq!(bench.disk.counts().log_syncs, before.log_syncs + 1);
}

#[test]
fn only_what_is_completed_is_forgotten() {
    let bench = Bench::new();
    let permit = bench.begin("reserved", "request").fresh();
    let execution = bench.begin("executing", "request").started();
    bench.begin("detached", "request").started().detach();
    drop(bench.begin("interrupted", "request").started());
    bench.complete("expired", "request", "result");
    bench.store.settle().expect("it settles");
    let before = bench.disk.counts();
    for name in ["reserved", "executing", "detached", "interrupted", "free"] {
        assert!(!forget(&bench, name), "{name}");
    }
    assert_eq!(bench.disk.counts(), before);
    bench.begin("reserved", "request").in_flight();
    bench.begin("detached", "request").in_flight();
    bench.begin("interrupted", "request").interrupted();
    permit.complete("result").expect("it completes");
    execution.complete("result").expect("it completes");
    bench.tick(RETENTION_MS);
    assert!(!forget(&bench, "expired"));
}

#[test]
fn a_large_result_goes_with_its_key() {
    let bench = Bench::new();
    bench.begin("k", "request").fresh().complete([1; 10_000]).expect("it completes");
    bench.store.settle().expect("it settles");
    assert!(forget(&bench, "k"));
    bench.store.settle().expect("it settles");
    // If its result were left behind, or taken for another's, the same place would be damaged.
    bench.begin("k", "request").fresh().complete([2; 10_000]).expect("it completes");
    let bench = bench.reopen();
    assert_eq!(bench.begin("k", "request").replay().result(), [2; 10_000]);
}

#[test]
fn many_forget_one_key_and_one_of_them_did() {
    let bench = Bench::new();
    for round in 0..20 {
        let name = format!("{round}");
        bench.complete(&name, "request", "result");
        if round % 2 == 0 {
            bench.store.settle().expect("it settles");
        }
        let forgotten = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| forget(&bench, &name))).collect();
            let did = threads.into_iter().map(|thread| thread.join().expect("it ends"));
            did.filter(|did| *did).count()
        });
        assert_eq!(forgotten, 1);
    }
    assert_eq!(bench.store.stats().records, 0);
}

#[test]
fn a_closed_store_forgets_nothing() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    bench.store.clone().close().expect("the store closes");
    assert!(matches!(bench.store.forget(&key("k")), Err(Error::Closed)));
}
