//! Maintenance of the vault beside callers: it changes no answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use idemstore::Begin;
use idemstore::sim::{BackupOn, OpenOn};
use shuttle::thread;

use super::support::{Answers, Bench, RETENTION_MS, SimDisk, Started, key};
use super::{ask, call, explore};

/// Keys that are completed, interrupted or abandoned, all in the vault.
fn some(bench: &Bench) {
    bench.complete("completed", "request", "completed");
    drop(bench.begin("interrupted", "request").started());
}

#[test]
fn a_sweep_beside_a_caller_of_the_same_key_takes_nothing_that_counts() {
    explore(some, |bench| {
        let effects = AtomicUsize::new(0);
        bench.tick(RETENTION_MS);
        thread::scope(|scope| {
            for name in ["completed", "interrupted"] {
                let (bench, effects) = (&bench, &effects);
                scope.spawn(move || {
                    assert_eq!(call(bench, name, effects).result(), name.as_bytes());
                });
            }
            scope.spawn(|| {
                bench.store.sweep().expect("it sweeps");
                bench.store.settle().expect("it settles");
                bench.store.sweep().expect("it sweeps");
            });
        });
        // Both were free again, and both have a new record.
        assert_eq!(effects.into_inner(), 2);
        let bench = bench.reopen();
        for name in ["completed", "interrupted"] {
            assert_eq!(ask(&bench, name).replay().result(), name.as_bytes());
        }
    });
}

#[test]
fn a_key_that_expires_in_hand_is_its_holders_until_it_ends() {
    explore(some, |bench| {
        let interrupted = ask(&bench, "interrupted").interrupted();
        thread::scope(|scope| {
            scope.spawn(|| bench.tick(RETENTION_MS));
            scope.spawn(|| {
                bench.store.sweep().expect("it sweeps");
                bench.store.settle().expect("it settles");
                bench.store.sweep().expect("it sweeps");
            });
            scope.spawn(|| drop(ask(&bench, "interrupted").in_flight()));
        });
        // The other key's record may be gone, but never this key's.
        assert!(bench.store.stats().swept <= 1);
        let execution = interrupted.retry().expect("its holder goes on");
        assert_eq!(execution.attempt(), 2);
        ask(&bench, "interrupted").in_flight();
        execution.complete("late").expect("it completes");
    });
}

#[test]
fn a_key_that_was_free_for_one_caller_is_not_interrupted_for_another() {
    explore(some, |bench| {
        let was_free = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| bench.tick(RETENTION_MS));
            for _ in 0..3 {
                scope.spawn(|| match ask(&bench, "interrupted") {
                    Begin::Fresh(permit) => {
                        was_free.store(true, Ordering::Relaxed);
                        permit.complete("new").expect("it completes");
                        bench.store.settle().expect("it settles");
                    }
                    // A thread that has read the clock before it was moved may act on that late.
                    Begin::Interrupted(_) => assert!(!was_free.load(Ordering::Relaxed)),
                    Begin::InFlight(_) => {}
                    begin => assert_eq!(begin.replay().result(), b"new"),
                });
            }
        });
    });
}

#[test]
fn a_settle_beside_callers_changes_no_answer() {
    explore(some, |bench| {
        let effects = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let execution = ask(&bench, "new").started();
                bench.store.settle().expect("it settles");
                ask(&bench, "new").in_flight();
                execution.complete("new").expect("it completes");
                assert_eq!(ask(&bench, "new").replay().result(), b"new");
            });
            scope.spawn(|| bench.store.settle().expect("it settles"));
            scope.spawn(|| {
                assert_eq!(ask(&bench, "completed").replay().result(), b"completed");
                call(&bench, "interrupted", &effects);
                assert_eq!(ask(&bench, "interrupted").replay().result(), b"interrupted");
            });
        });
        assert_eq!(bench.store.stats().records, 3);
    });
}

#[test]
fn a_list_beside_callers_has_each_key_that_was_there_all_the_time() {
    explore(some, |bench| {
        let effects = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| drop(call(&bench, "interrupted", &effects)));
            scope.spawn(|| drop(bench.store.settle()));
            scope.spawn(|| {
                let listed: Vec<_> =
                    bench.store.keys().map(|info| info.expect("it reads")).collect();
                let count = |name| listed.iter().filter(|info| *info.key() == key(name)).count();
                assert_eq!([count("completed"), count("interrupted")], [1, 1]);
            });
        });
    });
}

#[test]
fn a_backup_and_a_compaction_beside_writers_have_all_and_lose_nothing() {
    explore(some, |bench| {
        let copy = SimDisk::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                for name in ["one", "two"] {
                    ask(&bench, name).fresh().complete(name).expect("it completes");
                    assert_eq!(ask(&bench, name).replay().result(), name.as_bytes());
                }
            });
            scope.spawn(|| bench.store.backup_on(copy.clone()).expect("it is copied"));
            scope.spawn(|| bench.store.compact().expect("it is made smaller"));
        });
        let copied = Bench::on(copy, bench.clock.clone());
        assert_eq!(ask(&copied, "completed").replay().result(), b"completed");
        let bench = bench.reopen();
        for name in ["one", "two", "completed"] {
            assert_eq!(ask(&bench, name).replay().result(), name.as_bytes());
        }
    });
}

#[test]
fn the_background_thread_beside_callers_and_a_close_changes_no_answer() {
    explore(some, |bench| {
        let Bench { disk, clock, store, .. } = bench;
        store.close().expect("the store closes");
        let builder = super::support::builder(&clock).background_thread(true);
        let store = builder.open_on(disk.clone()).expect("the store opens");
        thread::scope(|scope| {
            for name in ["completed", "new"] {
                let store = &store;
                scope.spawn(move || {
                    let request = idemstore::Fingerprint::of("request");
                    match store.begin(&key(name), request) {
                        Ok(Begin::Fresh(permit)) => {
                            drop(permit.complete(name));
                        }
                        Ok(Begin::Replay(completed)) => {
                            assert_eq!(completed.result(), b"completed");
                        }
                        Err(idemstore::Error::Closed) => {}
                        other => panic!("{other:?}"),
                    }
                });
            }
            let store = store.clone();
            scope.spawn(move || store.close().expect("the store closes"));
        });
        drop(store);
        let bench = Bench::on(disk, clock);
        assert_eq!(ask(&bench, "completed").replay().result(), b"completed");
    });
}

#[cfg(feature = "transaction")]
#[test]
fn a_transaction_beside_callers_is_all_or_nothing() {
    use redb::{ReadableTable, TableDefinition, TableError};
    const ROWS: TableDefinition<&str, u64> = TableDefinition::new("rows");

    explore(some, |bench| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| match ask(&bench, "own") {
                    Begin::Fresh(permit) => {
                        let done = permit.complete_with(|transaction| {
                            let mut rows = transaction.open_table(ROWS)?;
                            let before = rows.get("own")?.map_or(0, |row| row.value());
                            rows.insert("own", before + 1)?;
                            Ok::<_, redb::Error>("done")
                        });
                        assert_eq!(done.expect("it commits").result(), b"done");
                    }
                    Begin::InFlight(_) => {}
                    begin => assert_eq!(begin.replay().result(), b"done"),
                });
            }
            scope.spawn(|| bench.store.settle().expect("it settles"));
            scope.spawn(|| {
                let transaction = bench.store.read_transaction().expect("it begins");
                match transaction.open_table(ROWS) {
                    Ok(rows) => {
                        assert_eq!(
                            rows.get("own").expect("it reads").map(|row| row.value()),
                            Some(1)
                        );
                        match ask(&bench, "own") {
                            // It is committed, and its caller has no answer yet.
                            Begin::InFlight(_) => {}
                            begin => assert_eq!(begin.replay().result(), b"done"),
                        }
                    }
                    Err(TableError::TableDoesNotExist(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            });
        });
        let bench = bench.reopen();
        assert_eq!(ask(&bench, "own").replay().result(), b"done");
    });
}
