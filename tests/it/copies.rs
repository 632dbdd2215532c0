//! Backup and compact: the copy is a whole store, and the original continues.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{CopyError, Error, Store};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, SimDisk, Started, builder, key, write_from_many_threads};

/// Opens what a backup has written.
fn open(bench: &Bench, backup: &SimDisk) -> Bench {
    // After an immediate power cut: all of the backup is durable.
    Bench::on(backup.after_power_cut(|_| 0), bench.clock.clone())
}

#[test]
fn a_backup_has_all_that_was_acknowledged_before() {
    let bench = Bench::new();
    bench.complete("settled", "request", "result");
    bench.begin("long", "request").fresh().complete([7; 9_000]).expect("it completes");
    bench.store.settle().expect("it settles");
    bench.complete("in the log", "request", "result");
    let mut execution = bench.begin("executing", "request").started();
    execution.checkpoint("half way").expect("it is stored");
    let backup = SimDisk::new();
    bench.store.backup_on(backup.clone()).expect("it is backed up");

    // The store continues, and the backup doesn't see its changes.
    execution.complete("result").expect("it completes");
    bench.complete("later", "request", "result");
    let copy = open(&bench, &backup);
    for name in ["settled", "in the log"] {
        assert_eq!(copy.begin(name, "request").replay().result(), b"result");
    }
    assert_eq!(copy.begin("long", "request").replay().result(), [7; 9_000]);
    let interrupted = copy.begin("executing", "request").interrupted();
    assert_eq!(interrupted.last_checkpoint(), Some(&b"half way"[..]));
    copy.begin("later", "request").fresh();
    // From now on they are separate stores.
    copy.complete("only here", "request", "result");
    copy.reopen().begin("only here", "request").replay();
    let bench = bench.reopen();
    bench.begin("executing", "request").replay();
    bench.begin("only here", "request").fresh();
}

#[test]
fn the_key_for_a_callee_is_the_same_in_every_attempt_and_in_every_copy() {
    let bench = Bench::new();
    let first = bench.begin("k", "request").started();
    let charge = first.downstream_key("charge");
    drop(first);
    let backup = SimDisk::new();
    bench.store.backup_on(backup.clone()).expect("it is backed up");
    for copy in [open(&bench, &backup), bench.reopen()] {
        let interrupted = copy.begin("k", "request").interrupted();
        assert_eq!(interrupted.downstream_key("charge"), charge);
        assert_eq!(interrupted.retry().expect("it starts").downstream_key("charge"), charge);
        // Another key or another store has a different one.
        assert_ne!(copy.begin("other", "request").started().downstream_key("charge"), charge);
    }
    assert_ne!(Bench::new().begin("k", "request").started().downstream_key("charge"), charge);
}

#[test]
fn a_backup_of_a_busy_store_is_whole() {
    for round in 0..10 {
        let bench = Bench::new();
        let backup = SimDisk::new();
        let acknowledged = write_from_many_threads(&bench, || {
            let before: Vec<_> = (0..20).map(|name| format!("{round} before {name}")).collect();
            for name in &before {
                bench.complete(name, "request", name);
            }
            bench.store.backup_on(backup.clone()).expect("it is backed up");
            let copy = open(&bench, &backup);
            for name in &before {
                assert_eq!(copy.begin(name, "request").replay().result(), name.as_bytes());
            }
            // What was written meanwhile may or may not be there, and is intact if it is.
            let listed = copy.store.keys().map(|info| info.expect("it can be read"));
            for info in listed {
                let completed = info.completed().expect("all of them are");
                assert_eq!(completed.result(), info.key().as_bytes());
            }
            bench.store.clone().close().expect("the store closes");
        });
        let bench = Bench::on(bench.disk.after_kill(), bench.clock);
        for name in acknowledged {
            bench.begin(&name, "request").replay();
        }
    }
}

#[test]
fn a_backup_overwrites_no_store_and_no_other_file() {
    let bench = Bench::new();
    let other = Bench::new();
    other.complete("k", "request", "result");
    // An open one, and one that is closed.
    let error = bench.store.backup_on(other.disk.clone()).expect_err("there is a store");
    assert!(matches!(error, CopyError::Exists), "{error}");
    let (disk, clock) = (other.disk.clone(), other.clock.clone());
    drop(other);
    let error = bench.store.backup_on(disk.clone()).expect_err("there is a store");
    assert!(matches!(error, CopyError::Exists), "{error}");
    Bench::on(disk, clock).begin("k", "request").replay();

    let directory = tempfile::tempdir().expect("there is room");
    let ours = directory.path().join("log-0");
    std::fs::write(&ours, vec![1; 10_000]).expect("there is room");
    let error = bench.store.backup(directory.path()).expect_err("there is a file");
    assert!(matches!(error, CopyError::Exists), "{error}");
    assert_eq!(std::fs::read(&ours).expect("it is there"), vec![1; 10_000]);
}

#[test]
fn a_backup_on_the_file_system_opens() {
    let directory = tempfile::tempdir().expect("there is room");
    let store = Store::open(directory.path().join("store")).expect("the store opens");
    let begin = store.begin(&key("k"), idemstore::Fingerprint::NONE).expect("begin answers");
    begin.fresh().complete("result").expect("it completes");
    let path = directory.path().join("backups/monday");
    store.backup(&path).expect("it is backed up");
    let copy = Store::open(path).expect("the backup opens");
    let begin = copy.begin(&key("k"), idemstore::Fingerprint::NONE).expect("begin answers");
    assert_eq!(begin.replay().result(), b"result");
}

#[test]
fn a_backup_that_fails_harms_nothing_and_can_be_tried_again() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let mut failures = 0;
    for after in 0.. {
        let backup = SimDisk::new();
        let kind = ErrorKind::StorageFull;
        backup.fail(Fault { on: Op::Any, after, for_good: true, kind });
        let backed_up = bench.store.backup_on(backup.clone());
        backup.heal();
        match backed_up {
            Err(CopyError::Io(_) | CopyError::Storage(_)) => failures += 1,
            Err(error) => panic!("{error}"),
            Ok(()) => break,
        }
        bench.complete(&format!("{after}"), "request", "the store goes on");
        match bench.store.backup_on(backup.clone()) {
            // Only the last sync failed: the copy is complete.
            Err(CopyError::Exists) => {}
            backed_up => backed_up.expect("it is backed up"),
        }
        Bench::on(backup.after_kill(), bench.clock.clone()).begin("k", "request").replay();
    }
    assert!(10 < failures, "the disk was hardly used");
}

#[test]
fn a_closed_store_is_not_copied() {
    let bench = Bench::new();
    bench.store.clone().close().expect("the store closes");
    let error = bench.store.backup_on(SimDisk::new()).expect_err("it is closed");
    assert!(matches!(error, CopyError::Store(Error::Closed)), "{error}");
    let error = bench.store.compact().expect_err("it is closed");
    assert!(matches!(error, CopyError::Store(Error::Closed)), "{error}");
}

/// A store with much free room in its file, and one live key.
fn with_free_room() -> Bench {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let names: Vec<_> = (0..100).map(|step| format!("{step}")).collect();
    for name in &names {
        bench.begin(name, "request").fresh().complete(vec![1; 15_000]).expect("it completes");
    }
    bench.store.settle().expect("it settles");
    for name in &names {
        assert!(bench.store.forget(&key(name)).expect("forget answers"));
    }
    bench.store.settle().expect("it settles");
    bench
}

#[test]
fn compacting_gives_room_back_and_keeps_everything() {
    let bench = with_free_room();
    bench.complete("in the log", "request", "result");
    let _execution = bench.begin("executing", "request").started();
    let before = bench.store.stats().file_bytes;
    let saved = bench.store.compact().expect("it compacts");
    assert!(0 < saved);
    assert_eq!(bench.store.stats().file_bytes, before - saved);
    let check = |bench: &Bench| {
        for name in ["k", "in the log"] {
            assert_eq!(bench.begin(name, "request").replay().result(), b"result");
        }
    };
    check(&bench);
    bench.begin("executing", "request").in_flight();
    // It works like any store, and is intact after a power cut.
    bench.complete("later", "request", "result");
    bench.store.settle().expect("it settles");
    let bench = bench.cut(|_| 0);
    check(&bench);
    bench.begin("later", "request").replay();
    bench.begin("executing", "request").interrupted();
    // There is little left to save.
    assert!(bench.store.compact().expect("it compacts") < saved / 4);
}

#[test]
fn replays_and_writes_go_on_while_it_compacts() {
    let bench = with_free_room();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5 {
                bench.store.compact().expect("it compacts");
            }
            done.store(true, Ordering::Release);
        });
        for step in 0.. {
            assert_eq!(bench.begin("k", "request").replay().result(), b"result");
            bench.complete(&format!("{step}"), "request", "result");
            if done.load(Ordering::Acquire) {
                break;
            }
        }
    });
}

#[test]
fn backups_and_compactions_wait_for_each_other() {
    let bench = with_free_room();
    thread::scope(|scope| {
        for copier in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                for _ in 0..5 {
                    if copier % 2 == 0 {
                        bench.store.compact().expect("it compacts");
                    } else {
                        let backup = SimDisk::new();
                        bench.store.backup_on(backup.clone()).expect("it is backed up");
                        open(bench, &backup).begin("k", "request").replay();
                    }
                }
            });
        }
        for step in 0..200 {
            bench.complete(&format!("{step}"), "request", "result");
        }
    });
}

#[test]
fn a_failure_while_it_compacts_loses_nothing() {
    let prepared = with_free_room();
    let mut failures = 0;
    for after in 0.. {
        let bench = Bench::on(prepared.disk.after_kill(), prepared.clock.clone());
        let kind = ErrorKind::StorageFull;
        bench.disk.fail(Fault { on: Op::Any, after, for_good: true, kind });
        let compacted = bench.store.compact();
        bench.disk.heal();
        if compacted.is_ok() {
            break;
        }
        failures += 1;
        assert_eq!(bench.begin("k", "request").replay().result(), b"result");
        // Whichever of the two files a kill or a power cut leaves, it is the whole store.
        for disk in [bench.disk.after_kill(), bench.disk.after_power_cut(|_| 0)] {
            let clock = bench.clock.clone();
            Bench::on(disk, clock).begin("k", "request").replay();
        }
    }
    assert!(10 < failures, "the disk was hardly used");
}

#[test]
fn a_compaction_that_finds_no_room_leaves_the_store_open() {
    let bench = with_free_room();
    // The log is settled, so the first write belongs to the copy.
    let kind = ErrorKind::StorageFull;
    bench.disk.fail(Fault { on: Op::Write, after: 0, for_good: false, kind });
    let error = bench.store.compact().expect_err("there is no room");
    assert!(matches!(error, CopyError::Io(_)), "{error}");
    bench.complete("later", "request", "result");
    assert!(0 < bench.store.compact().expect("there is room now"));
}

#[test]
fn what_a_compaction_that_was_killed_has_left_counts_for_nothing() {
    let bench = with_free_room();
    let disk = bench.disk.after_kill();
    disk.put("vault.redb.new", vec![1; 5_000]);
    let store = builder(&bench.clock).open_on(disk.clone()).expect("the store opens");
    store.compact().expect("it compacts");
    store.close().expect("the store closes");
    assert!(!disk.bytes().contains_key("vault.redb.new"));
}
