//! What is on the disk stays readable: a store that an earlier version has written.

use std::fs;
use std::path::Path;

use idemstore::{Begin, Fingerprint, Key, ManualClock, Store, Timestamp};

use crate::support::{Answers, SimDisk, Started, builder};

const NAMES: [&str; 3] = ["vault.redb", "log-0", "log-1"];
const MADE_AT_MS: u64 = 1_700_000_000_000;

fn fixture(version: u32) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(MADE_AT_MS))
}

fn begin(store: &Store, scope: &str, name: &str) -> Begin {
    let key = Key::scoped(scope, name).expect("it is a key");
    store.begin(&key, Fingerprint::of_parts(["POST", name])).expect("begin answers")
}

/// Makes the store of the fixture: half of it settled, half of it in the log only.
fn make(store: &Store) {
    for place in ["settled", "logged"] {
        let begin = |name: &str| begin(store, place, name);
        begin("completed").started().complete("result").expect("it completes");
        begin("empty").fresh().complete("").expect("it completes");
        begin("long").fresh().complete([b'x'; 5_000]).expect("it completes");
        begin("abandoned").started().abandon().expect("it is abandoned");
        std::mem::forget(begin("executing").started());
        drop(begin("retried").started());
        std::mem::forget(begin("retried").interrupted().retry().expect("it starts again"));
        for (name, checkpoint) in [("half way", "half way"), ("far", &*"far ".repeat(500))] {
            let mut execution = begin(name).started();
            execution.checkpoint(checkpoint).expect("it is stored");
            std::mem::forget(execution);
        }
        begin("tombstone").started().complete_tombstone("too long").expect("it completes");
        if place == "settled" {
            store.settle().expect("it settles");
        }
    }
}

fn check_version_1(store: &Store) {
    for place in ["settled", "logged"] {
        let begin = |name: &str| begin(store, place, name);
        let completed = begin("completed").replay();
        assert_eq!(completed.result(), b"result");
        assert_eq!(completed.begun_at().as_unix_ms(), MADE_AT_MS);
        assert_eq!(completed.expires_at().as_unix_ms(), MADE_AT_MS + 1_000);
        assert_eq!(begin("empty").replay().result(), b"");
        assert_eq!(begin("long").replay().result(), [b'x'; 5_000]);
        begin("abandoned").fresh();
        assert_eq!(begin("executing").interrupted().attempt(), 1);
        assert_eq!(begin("executing").interrupted().last_checkpoint(), None);
        assert_eq!(begin("retried").interrupted().attempt(), 2);
        let key = Key::scoped(place, "completed").expect("it is a key");
        let other = store.begin(&key, Fingerprint::of("other")).expect("begin answers");
        assert!(matches!(other, Begin::Mismatch));
    }
}

fn check_version_2(store: &Store) {
    check_version_1(store);
    for place in ["settled", "logged"] {
        let begin = |name: &str| begin(store, place, name);
        assert_eq!(begin("half way").interrupted().last_checkpoint(), Some(&b"half way"[..]));
        let far = begin("far").interrupted();
        assert_eq!(far.last_checkpoint(), Some("far ".repeat(500).as_bytes()));
        let Begin::Tombstone(tombstone) = begin("tombstone") else { panic!("not a tombstone") };
        assert_eq!(tombstone.result_len(), 8);
        assert_eq!(tombstone.result_digest(), *blake3::hash(b"too long").as_bytes());
    }
}

fn open(version: u32) -> (SimDisk, Store) {
    let disk = SimDisk::new();
    for name in NAMES {
        let bytes = fs::read(fixture(version).join(name)).expect("the fixture is there");
        disk.put(name, bytes);
    }
    let store = builder(&clock()).open_on(disk.clone()).expect("the store opens");
    (disk, store)
}

#[test]
fn a_store_of_version_1_is_read_and_goes_on_as_one_of_version_2() {
    let (disk, store) = open(1);
    check_version_1(&store);
    // The new states go into the old files.
    let mut execution = begin(&store, "settled", "executing").interrupted().retry().expect("so");
    execution.checkpoint("half way").expect("it is stored");
    drop(execution);
    let permit = begin(&store, "new", "tombstone").fresh();
    permit.complete_tombstone("too long").expect("it completes");
    store.close().expect("the store closes");
    let store = builder(&clock()).open_on(disk).expect("the store opens");
    let executing = begin(&store, "settled", "executing").interrupted();
    assert_eq!(executing.last_checkpoint(), Some(&b"half way"[..]));
    assert!(matches!(begin(&store, "new", "tombstone"), Begin::Tombstone(_)));
}

#[test]
fn a_store_of_version_2_is_read() {
    check_version_2(&open(2).1);
}

/// Writes the fixture. Run once for each new version of the format:
/// `cargo test --test it format::write_fixture -- --ignored`.
#[test]
#[ignore = "writes the committed fixture"]
fn write_fixture() {
    let disk = SimDisk::new();
    let store = builder(&clock()).open_on(disk.clone()).expect("the store opens");
    make(&store);
    fs::create_dir_all(fixture(2)).expect("there is room for a directory");
    for (name, bytes) in disk.after_kill().bytes() {
        fs::write(fixture(2).join(name), bytes).expect("there is room for a file");
    }
}
