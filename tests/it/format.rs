//! What is on the disk stays readable: a store that an earlier version has written.

use std::fs;
use std::path::Path;

use idemstore::{Begin, Fingerprint, Key, ManualClock, Store, Timestamp};

use crate::support::{Answers, SimDisk, Started, builder};

const NAMES: [&str; 3] = ["vault.redb", "log-0", "log-1"];
const MADE_AT_MS: u64 = 1_700_000_000_000;

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(MADE_AT_MS))
}

/// Makes the store of the fixture: half of it settled, half of it in the log only.
fn make(store: &Store) {
    let begin = |scope: &str, name: &str| {
        let key = Key::scoped(scope, name).expect("it is a key");
        store.begin(&key, Fingerprint::of_parts(["POST", name])).expect("begin answers")
    };
    for place in ["settled", "logged"] {
        begin(place, "completed").started().complete("result").expect("it completes");
        begin(place, "empty").fresh().complete("").expect("it completes");
        begin(place, "long").fresh().complete([b'x'; 5_000]).expect("it completes");
        begin(place, "abandoned").started().abandon().expect("it is abandoned");
        std::mem::forget(begin(place, "executing").started());
        drop(begin(place, "retried").started());
        std::mem::forget(begin(place, "retried").interrupted().retry().expect("it starts again"));
        if place == "settled" {
            store.settle().expect("it settles");
        }
    }
}

fn check(store: &Store) {
    let begin = |scope: &str, name: &str| {
        let key = Key::scoped(scope, name).expect("it is a key");
        store.begin(&key, Fingerprint::of_parts(["POST", name])).expect("begin answers")
    };
    for place in ["settled", "logged"] {
        let completed = begin(place, "completed").replay();
        assert_eq!(completed.result(), b"result");
        assert_eq!(completed.begun_at().as_unix_ms(), MADE_AT_MS);
        assert_eq!(completed.expires_at().as_unix_ms(), MADE_AT_MS + 1_000);
        assert_eq!(begin(place, "empty").replay().result(), b"");
        assert_eq!(begin(place, "long").replay().result(), [b'x'; 5_000]);
        begin(place, "abandoned").fresh();
        assert_eq!(begin(place, "executing").interrupted().attempt(), 1);
        assert_eq!(begin(place, "retried").interrupted().attempt(), 2);
        let key = Key::scoped(place, "completed").expect("it is a key");
        let other = store.begin(&key, Fingerprint::of("other")).expect("begin answers");
        assert!(matches!(other, Begin::Mismatch));
    }
}

#[test]
fn a_store_of_version_1_is_read() {
    let disk = SimDisk::new();
    for name in NAMES {
        disk.put(name, fs::read(fixture().join(name)).expect("the fixture is there"));
    }
    check(&builder(&clock()).open_on(disk).expect("the store opens"));
}

/// Writes the fixture. Run once for each new version of the format:
/// `cargo test --test it format::write_fixture -- --ignored`.
#[test]
#[ignore = "writes the committed fixture"]
fn write_fixture() {
    let disk = SimDisk::new();
    let store = builder(&clock()).open_on(disk.clone()).expect("the store opens");
    make(&store);
    fs::create_dir_all(fixture()).expect("there is room for a directory");
    for (name, bytes) in disk.after_kill().bytes() {
        fs::write(fixture().join(name), bytes).expect("there is room for a file");
    }
}
