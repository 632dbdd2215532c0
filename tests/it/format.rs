//! Old data stays readable: stores that earlier versions have written.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Begin, Fingerprint, Key, ManualClock, Store, Timestamp};
use redb::ReadableDatabase;

use crate::support::{Answers, SimDisk, Started, builder};

const NAMES: [&str; 3] = ["vault.redb", "log-0", "log-1"];
const MADE_AT_MS: u64 = 1_700_000_000_000;
/// More than one retention earlier.
const EARLY_MS: u64 = MADE_AT_MS - 1_000;
/// Results that don't fit into a newly created segment of a log that can grow.
const FILLING: usize = 68;
const FILLING_LEN: usize = 16 * 1024;

/// The fixtures, as `docs/FORMAT.md` lists them.
const V1: &str = "v1";
const V2: &str = "v2";
const V3: &str = "v3";
const GROWN: &str = "v3-grown";

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(MADE_AT_MS))
}

fn begin(store: &Store, scope: &str, name: &str) -> Begin {
    let key = Key::scoped(scope, name).expect("it is a key");
    store.begin(&key, Fingerprint::of_parts(["POST", name])).expect("begin answers")
}

/// Creates the store of the fixture: half of it settled, half of it only in the log.
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
        begin("tombstone").started().complete_digest("too long").expect("it completes");
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
        let Begin::NotKept(tombstone) = begin("tombstone") else { panic!("not a tombstone") };
        assert_eq!(tombstone.result_len(), 8);
        assert_eq!(tombstone.result_digest(), *blake3::hash(b"too long").as_bytes());
    }
}

fn check_version_3(store: &Store) {
    check_version_2(store);
    for place in ["settled", "logged"] {
        let late = begin(store, place, "late").replay();
        assert_eq!(
            (late.result(), late.begun_at()),
            (&b"late"[..], Timestamp::from_unix_ms(EARLY_MS))
        );
        assert_eq!(late.expires_at().as_unix_ms(), MADE_AT_MS + 1_000);
    }
}

/// Completes operations whose results don't fit into a segment that has not grown.
fn fill_a_segment(store: &Store, scope: &str, retention: Duration) {
    for at in 0..FILLING {
        let permit = begin(store, scope, &format!("{at}")).fresh().with_retention(retention);
        permit.complete(filling(at)).expect("it completes");
    }
}

fn filling(at: usize) -> Vec<u8> {
    vec![at.to_le_bytes()[0]; FILLING_LEN]
}

fn check_filling(store: &Store, scope: &str) {
    for at in 0..FILLING {
        assert!(begin(store, scope, &format!("{at}")).replay().result() == filling(at), "{at}");
    }
}

fn disk_of(name: &str) -> SimDisk {
    let (directory, disk) = (fixture(name), SimDisk::new());
    for name in NAMES {
        let bytes = fs::read(directory.join(name)).expect("the fixture is there");
        disk.put(name, bytes);
    }
    disk
}

fn open(name: &str) -> (SimDisk, Store) {
    let disk = disk_of(name);
    let store = builder(&clock()).open_on(disk.clone()).expect("the store opens");
    (disk, store)
}

/// The format version in the store's vault.
fn format_of(disk: &SimDisk) -> Vec<u8> {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    file.write_all(&disk.bytes()["vault.redb"]).expect("there is room for it");
    let database = redb::Database::open(file.path()).expect("redb reads it");
    let meta = database.begin_read().map(|read| read.open_table(META).expect("it is there"));
    let format = meta.expect("redb reads it").get("format").expect("it can be read");
    format.expect("it is there").value().to_vec()
}

#[test]
fn a_store_of_version_1_is_read_and_goes_on_as_one_of_version_3() {
    let (disk, store) = open(V1);
    assert_eq!(format_of(&disk.after_kill()), 3_u32.to_le_bytes());
    check_version_1(&store);
    // The old files accept the new states.
    let mut execution = begin(&store, "settled", "executing").interrupted().retry().expect("so");
    execution.checkpoint("half way").expect("it is stored");
    drop(execution);
    let permit = begin(&store, "new", "tombstone").fresh();
    permit.complete_digest("too long").expect("it completes");
    store.close().expect("the store closes");
    let store = builder(&clock()).open_on(disk).expect("the store opens");
    let executing = begin(&store, "settled", "executing").interrupted();
    assert_eq!(executing.last_checkpoint(), Some(&b"half way"[..]));
    assert!(matches!(begin(&store, "new", "tombstone"), Begin::NotKept(_)));
}

#[test]
fn a_store_of_version_2_is_read_and_goes_on_as_one_of_version_3() {
    let (disk, store) = open(V2);
    check_version_2(&store);
    store.close().expect("the store closes");
    assert_eq!(format_of(&disk), 3_u32.to_le_bytes());
    check_version_2(&builder(&clock()).open_on(disk).expect("the store opens"));
}

#[test]
fn a_store_of_version_3_is_read() {
    let (_, store) = open(V3);
    check_version_3(&store);
    store.sweep().expect("it sweeps");
    assert_eq!(store.stats().records, store.keys().count());
}

/// The headers of all other fixtures have version 1.
#[test]
fn a_store_whose_log_has_grown_is_read_and_goes_on() {
    let (disk, store) = open(GROWN);
    let bytes = disk_of(GROWN).bytes();
    assert_eq!(["log-0", "log-1"].map(|name| bytes[name][8]), [2, 2], "the version of each header");
    assert!(bytes["log-1"].len() < bytes["log-0"].len());
    let check = |store: &Store| {
        check_version_3(store);
        check_filling(store, "logged");
    };
    check(&store);
    // The vault now has all of it, and both segments are rewritten.
    for scope in ["new", "newer"] {
        fill_a_segment(&store, scope, Duration::from_secs(1));
    }
    let killed = disk.after_kill();
    store.close().expect("the store closes");
    for disk in [killed, disk] {
        let store = builder(&clock()).open_on(disk).expect("the store opens");
        check(&store);
        check_filling(&store, "new");
        check_filling(&store, "newer");
    }
}

/// A migration that is cut off anywhere is repeated.
#[test]
fn a_kill_while_an_older_store_is_opened_costs_nothing() {
    for (version, check) in [(V1, check_version_1 as fn(&Store)), (V2, check_version_2)] {
        let stages = Arc::new(Mutex::new(Vec::new()));
        let disk = disk_of(version);
        let kept = Arc::clone(&stages);
        disk.observe(move |disk| {
            let stage = [disk.after_kill(), disk.after_power_cut(|_| 0)];
            kept.lock().expect("no observer panics").push(stage);
        });
        drop(builder(&clock()).open_on(disk.clone()).expect("the store opens"));
        disk.ignore();
        let stages = std::mem::take(&mut *stages.lock().expect("no observer panics"));
        assert!(5 < stages.len(), "it was hardly written");
        for disk in stages.into_iter().flatten() {
            check(&builder(&clock()).open_on(disk).expect("the store opens"));
        }
    }
}

/// Writes the fixture of the current version. Run it once for each new version of anything stored,
/// and under a new name:
/// `cargo test --test it format::write_fixture -- --ignored`.
#[test]
#[ignore = "writes the committed fixture"]
fn write_fixture() {
    let disk = SimDisk::new();
    // Completing it late changes its place.
    let clock = ManualClock::new(Timestamp::from_unix_ms(EARLY_MS));
    let store = builder(&clock).log_bytes(3 << 20).open_on(disk.clone()).expect("the store opens");
    // The first segment grows by results that aren't kept.
    fill_a_segment(&store, "not kept", Duration::from_millis(1));
    store.settle().expect("it settles");
    let late = ["settled", "logged"].map(|place| begin(&store, place, "late").started());
    store.settle().expect("it settles");
    clock.set(Timestamp::from_unix_ms(MADE_AT_MS));
    while 0 < store.sweep().expect("it sweeps") {}
    store.compact().expect("there is room for a smaller one");
    let [settled, logged] = late;
    settled.complete("late").expect("it completes");
    // Later changes begin in the shorter segment.
    store.settle().expect("it settles");
    make(&store);
    logged.complete("late").expect("it completes");
    // Frames of both segments are unsettled.
    fill_a_segment(&store, "logged", Duration::from_secs(1));
    fs::create_dir_all(fixture(GROWN)).expect("there is room for a directory");
    for (name, bytes) in disk.after_kill().bytes() {
        fs::write(fixture(GROWN).join(name), bytes).expect("there is room for a file");
    }
}
