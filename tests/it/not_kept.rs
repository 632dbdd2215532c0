//! A result too long to keep still blocks a second execution.

use idemstore::{Begin, CompleteError, Completed, NotKept, Store};

use crate::support::{Answers, Bench, RETENTION_MS, START_MS, Started, key};

static TOO_LONG: [u8; 16 * 1024 + 1] = [b'x'; 16 * 1024 + 1];

#[track_caller]
fn tombstone(begin: Begin) -> NotKept {
    match begin {
        Begin::NotKept(tombstone) => tombstone,
        other => panic!("not a tombstone: {other:?}"),
    }
}

#[track_caller]
fn check(tombstone: &NotKept) {
    assert_eq!(tombstone.result_len(), TOO_LONG.len() as u64);
    assert_eq!(tombstone.result_digest(), *blake3::hash(&TOO_LONG).as_bytes());
    assert_eq!(tombstone.completed_at().as_unix_ms(), START_MS);
    assert_eq!(tombstone.begun_at().as_unix_ms(), START_MS);
    assert_eq!(tombstone.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
}

#[test]
fn each_handle_can_leave_a_tombstone() {
    let mut bench = Bench::new();
    let permit = bench.begin("permit", "request").fresh();
    check(&permit.complete_digest(&TOO_LONG[..]).expect("it completes"));
    let execution = bench.begin("execution", "request").started();
    check(&execution.complete_digest(&TOO_LONG[..]).expect("it completes"));
    drop(bench.begin("interrupted", "request").started());
    let interrupted = bench.begin("interrupted", "request").interrupted();
    check(&interrupted.resolve_digest(&TOO_LONG[..]).expect("it completes"));
    // From the log, from the vault, and after a kill.
    for _ in 0..3 {
        for name in ["permit", "execution", "interrupted"] {
            check(&tombstone(bench.begin(name, "request")));
            assert!(bench.begin(name, "another").mismatches());
        }
        bench = bench.reopen().kill();
    }
}

#[test]
fn a_refused_result_can_be_completed_as_a_tombstone() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let error = execution.complete(&TOO_LONG[..]).expect_err("it is too long");
    let CompleteError::TooLarge { handle, .. } = error else { panic!("{error}") };
    check(&handle.complete_digest(&TOO_LONG[..]).expect("it completes"));
    check(&tombstone(bench.begin("k", "request")));
}

#[test]
fn a_waiter_gets_the_tombstone() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let in_flight = bench.begin("k", "request").in_flight();
    let waiter = std::thread::spawn(move || in_flight.wait(std::time::Duration::MAX));
    execution.complete_digest(&TOO_LONG[..]).expect("it completes");
    check(&tombstone(waiter.join().expect("the thread ends").expect("wait answers")));
}

#[test]
fn a_tombstone_is_answered_by_a_poisoned_store() {
    use crate::support::disk::{Fault, Op};
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    permit.complete_digest(&TOO_LONG[..]).expect("it completes");
    let kind = std::io::ErrorKind::Other;
    bench.disk.fail(Fault { on: Op::Sync, after: 0, for_good: true, kind });
    assert!(bench.begin("other", "request").fresh().start().is_err());
    check(&tombstone(bench.begin("k", "request")));
}

#[test]
fn a_tombstone_expires_and_is_forgotten_as_a_result_is() {
    let bench = Bench::new();
    for name in ["expired", "forgotten"] {
        let permit = bench.begin(name, "request").fresh();
        permit.complete_digest(&TOO_LONG[..]).expect("it completes");
    }
    assert!(bench.store.forget(&key("forgotten")).expect("it is forgotten"));
    bench.begin("forgotten", "another").fresh();
    bench.tick(RETENTION_MS);
    bench.begin("expired", "another").fresh();
}

#[test]
fn an_empty_result_is_a_result_and_an_empty_tombstone_a_tombstone() {
    let bench = Bench::new();
    let completed: Completed = bench.begin("result", "r").fresh().complete("").expect("it is");
    assert_eq!(completed.result(), b"");
    let permit = bench.begin("tombstone", "r").fresh();
    assert_eq!(permit.complete_digest("").expect("it completes").result_len(), 0);
    bench.begin("result", "r").replay();
    assert_eq!(tombstone(bench.begin("tombstone", "r")).result_len(), 0);
}

#[test]
fn the_result_itself_is_not_in_the_files() {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("store");
    let store = Store::open(&path).expect("the store opens");
    let begin = store.begin(&key("k"), idemstore::Fingerprint::NONE).expect("begin answers");
    begin.fresh().complete_digest("a secret that is kept elsewhere").expect("it completes");
    store.close().expect("the store closes");
    for entry in std::fs::read_dir(&path).expect("it is there") {
        let bytes = std::fs::read(entry.expect("it is there").path()).expect("it can be read");
        assert!(!bytes.windows(8).any(|window| window == b"a secret"));
    }
}
