//! An operation that never starts never reaches a file.

use idemstore::{Fingerprint, Key};

use crate::support::{Answers, Bench, RETENTION_MS, Started, key};

/// Runs `calls` on a store with a completed, an executing and an interrupted key, settled or not,
/// and checks that no byte of any file has changed afterwards.
#[track_caller]
fn check_unchanged(calls: impl Fn(&Bench)) {
    for settle in [false, true] {
        let bench = Bench::new();
        bench.complete("completed", "request", "result");
        let _execution = bench.begin("executing", "request").started();
        drop(bench.begin("interrupted", "request").started());
        if settle {
            bench.store.settle().expect("it settles");
        }
        let (bytes, counts) = (bench.disk.bytes(), bench.disk.counts());
        calls(&bench);
        assert_eq!(bench.disk.counts(), counts, "something was written or synced");
        assert!(bench.disk.bytes() == bytes, "a file has changed");
    }
}

#[test]
fn by_a_replay() {
    check_unchanged(|bench| {
        bench.begin("completed", "request").replay();
    });
}

#[test]
fn by_a_mismatch() {
    check_unchanged(|bench| {
        for name in ["completed", "executing", "interrupted"] {
            assert!(bench.begin(name, "another").mismatches());
        }
    });
}

#[test]
fn by_a_key_in_flight() {
    check_unchanged(|bench| {
        let in_flight = bench.begin("executing", "request").in_flight();
        in_flight.wait(std::time::Duration::ZERO).expect("wait answers").in_flight();
    });
}

#[test]
fn by_a_released_permit() {
    check_unchanged(|bench| {
        bench.begin("new", "request").fresh().release();
        drop(bench.begin("new", "another").fresh());
    });
}

#[test]
fn by_an_interrupted_operation_that_is_let_go() {
    check_unchanged(|bench| drop(bench.begin("interrupted", "request").interrupted()));
}

#[test]
fn by_an_expired_key() {
    check_unchanged(|bench| {
        bench.tick(RETENTION_MS);
        bench.begin("completed", "request").fresh().release();
    });
}

#[test]
fn by_an_invalid_key() {
    check_unchanged(|_| {
        assert!(Key::new("").is_err());
        assert!(Key::new([0; 256]).is_err());
    });
}

#[test]
fn by_a_refused_call() {
    check_unchanged(|bench| {
        let permit = bench.begin("new", "request").fresh();
        drop(permit.complete(vec![0; 16 * 1024 + 1]).expect_err("it is too long"));
        bench.store.complete(&key("new"), "result").expect_err("nothing has started");
        bench.store.abandon(&key("executing")).expect_err("a handle holds it");
        bench.store.abandon(&key("completed")).expect_err("it is done");
    });
}

#[test]
fn on_a_real_disk_either() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = idemstore::Store::open(directory.path()).expect("the store opens");
    let begin = |name, request| store.begin(&key(name), Fingerprint::of(request)).expect("begin");
    begin("done", "request").fresh().complete("result").expect("it completes");
    let _execution = begin("executing", "request").started();
    store.settle().expect("it settles");
    let read = || {
        ["vault.redb", "log-0", "log-1"]
            .map(|name| std::fs::read(directory.path().join(name)).expect("the file is there"))
    };
    let before = read();
    begin("done", "request").replay();
    assert!(begin("done", "another").mismatches());
    begin("executing", "request").in_flight();
    begin("new", "request").fresh().release();
    assert!(read() == before, "a file has changed");
}
