//! Which of the bytes that a caller passes in end up in a file, and which never do.

use idemstore::sim::BackupOn;
use idemstore::{Fingerprint, Key};

use crate::support::{Answers, Bench, SimDisk, Started};

/// A text that says what it was passed in as, and that occurs nowhere else.
fn mark(role: &str) -> String {
    blake3::hash(role.as_bytes()).to_hex().chars().take(24).collect()
}

/// What is stored. It is stored unchanged.
const STORED: [&str; 6] =
    ["scope", "key", "checkpoint", "result", "long result", "long checkpoint"];
/// What the store sees but has no need to keep.
const NOT_STORED: [&str; 7] = [
    "request",
    "another request",
    "key of a permit",
    "key of a look",
    "refused result",
    "refused checkpoint",
    "tombstone",
];

fn has(disk: &SimDisk, bytes: &[u8]) -> bool {
    disk.bytes().values().any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

fn key(role: &str) -> Key {
    Key::scoped(mark("scope"), mark(role)).expect("it is a key")
}

fn request() -> Fingerprint {
    Fingerprint::of(mark("request").repeat(10))
}

/// Runs through everything that writes, with a different mark in each place.
fn write(bench: &Bench) {
    let begin = |role| bench.store.begin(&key(role), request()).expect("begin answers");
    let too_long = |role| mark(role).repeat(1_000);
    let mut execution = begin("key").started();
    execution.checkpoint(too_long("refused checkpoint")).expect_err("it is too long");
    execution.checkpoint(mark("long checkpoint").repeat(50)).expect("it is stored");
    execution.checkpoint(mark("checkpoint")).expect("it is stored");
    let refused = execution.complete(too_long("refused result")).expect_err("it is too long");
    let execution = refused.into_handle().expect("it is given back");
    execution.complete(mark("result")).expect("it completes");
    begin("long").fresh().complete(mark("long result").repeat(50)).expect("it completes");
    let buried = begin("buried").fresh().complete_digest(too_long("tombstone"));
    buried.expect("it completes");
    begin("key of a permit").fresh().release();
    assert!(bench.store.get(&key("key of a look")).expect("it answers").is_none());
    let another = Fingerprint::of(mark("another request"));
    assert!(bench.store.begin(&key("key"), another).expect("begin answers").mismatches());
}

/// Only the fingerprint of a request's parts is stored.
fn check(disk: &SimDisk, when: &str) {
    for role in NOT_STORED {
        let mark = mark(role);
        // No part of it either.
        for part in mark.as_bytes().windows(8) {
            assert!(!has(disk, part), "{role} is in a file {when}");
        }
    }
    for role in STORED {
        assert!(has(disk, mark(role).as_bytes()), "{role} is in no file {when}");
    }
    let mut hasher = blake3::Hasher::new_derive_key("idemstore 2026-11-24 request fingerprint v1");
    let request = mark("request").repeat(10);
    hasher.update(&(request.len() as u64).to_le_bytes()).update(request.as_bytes());
    assert!(has(disk, hasher.finalize().as_bytes()), "the fingerprint is in no file {when}");
}

#[test]
fn of_a_request_its_fingerprint_alone_is_stored() {
    let bench = Bench::new();
    write(&bench);
    check(&bench.disk, "before it is settled");
    bench.store.settle().expect("it settles");
    check(&bench.disk, "once it is settled");
    bench.store.compact().expect("it is made smaller");
    check(&bench.disk, "once it is made smaller");
    let bench = bench.reopen();
    check(&bench.disk, "once it is opened again");
}

/// A copy consists of the vault alone, without what the log has received meanwhile.
#[test]
fn a_copy_has_no_more_of_it() {
    let (bench, disk) = (Bench::new(), SimDisk::new());
    write(&bench);
    bench.store.backup_on(disk.clone()).expect("it is copied");
    for role in NOT_STORED {
        assert!(!has(&disk, mark(role).as_bytes()), "{role} is in the copy");
    }
    for role in ["scope", "key", "result", "long result"] {
        assert!(has(&disk, mark(role).as_bytes()), "{role} is not in the copy");
    }
}
