//! A table of failures: each public error, provoked with secrets wherever one can be passed.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{
    Bound, CompleteError, CopyError, Effect, Error, Execution, FinishError, Key, KeyError,
    OpenError, RunError, Store, Timestamp,
};

use super::canary::MARK;
use super::shown::Shown;
use super::tour::{Reason, begin, request, secret_key, too_long};
use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, SimDisk, Started, builder, more_than_a_page};

pub fn errors(shown: &mut Shown) {
    keys(shown);
    opens(shown);
    opens_of_files(shown);
    shown.error(&OpenError::DiskFull { needed: 1 });
    stores(shown);
    failed_disks(shown);
    damage(shown);
    completions(shown);
    runs(shown);
    finishes(shown);
    copies(shown);
    #[cfg(feature = "transaction")]
    transactions(shown);
    #[cfg(feature = "typed")]
    no_encoding(shown);
}

fn fails(on: Op) -> Fault {
    Fault { on, after: 0, for_good: true, kind: ErrorKind::Other }
}

fn keys(shown: &mut Shown) {
    let mut refused = |key: Result<Key, KeyError>| shown.error(&key.expect_err("it is no key"));
    refused(Key::scoped(MARK, ""));
    refused(Key::new(MARK.repeat(30)));
    refused(Key::scoped(MARK.repeat(30), MARK));
}

/// A store with secrets in its log and in its vault.
fn filled() -> Bench {
    let bench = Bench::new();
    for name in ["settled", "in the log"] {
        begin(&bench.store, name).fresh().complete(MARK.repeat(100)).expect("it completes");
        if name == "settled" {
            bench.store.settle().expect("it settles");
        }
    }
    bench
}

fn opens(shown: &mut Shown) {
    let bench = filled();
    let open = |disk: SimDisk| builder(&bench.clock).open_on(disk);
    let mut refused = |disk: SimDisk| shown.error(&open(disk).expect_err("it does not open"));
    refused(bench.disk.clone());
    let crashed = bench.disk.after_kill();
    let failing = |fault: Fault| {
        let disk = crashed.after_kill();
        disk.fail(fault);
        disk
    };
    refused(failing(fails(Op::Read)));
    refused(failing(Fault { kind: ErrorKind::PermissionDenied, ..fails(Op::Write) }));
    let read_only = SimDisk::new();
    read_only.fail(Fault { kind: ErrorKind::PermissionDenied, ..fails(Op::Write) });
    refused(read_only);
    let damaged = |name: &str, find: fn(&[u8]) -> usize| {
        let disk = crashed.after_kill();
        disk.damage(name, |bytes| {
            let at = find(bytes);
            bytes[at] ^= 1;
        });
        disk
    };
    refused(damaged("log-0", |_| 0));
    refused(damaged("log-0", |_| 8));
    refused(damaged("log-1", |_| 13));
    refused(damaged("vault.redb", |_| 0));
    refused(damaged("vault.redb", |bytes| {
        let secret = bytes.windows(MARK.len()).position(|bytes| bytes == MARK.as_bytes());
        secret.expect("it is stored")
    }));
    // The first syncs of an open are redb's, and the others are the store's.
    for after in 0.. {
        match open(failing(Fault { after, ..fails(Op::VaultSync) })) {
            Ok(_) => break,
            Err(error) => shown.error(&error),
        }
    }
    shown.error(&Store::builder().log_bytes(1).open_on(SimDisk::new()).expect_err("too few"));
    bench.clock.advance(Duration::from_secs(1));
    let strict = builder(&bench.clock).clock_jump_max(Duration::ZERO);
    shown.error(&strict.open_on(crashed.after_kill()).expect_err("the clock has moved"));
    let permit = begin(&bench.store, "at the end of time").fresh();
    bench.clock.set(Timestamp::MAX);
    shown.error(&open(crashed.after_kill()).expect_err("it is the end of time"));
    shown.error(&permit.start().expect_err("it is the end of time"));
    shown.error(&Error::OtherProcess);
}

/// The path is a secret too: it may contain the name of a customer.
fn opens_of_files(shown: &mut Shown) {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let path = directory.path().join(MARK);
    fs::write(&path, MARK).expect("there is room for a file");
    shown.error(&Store::open(&path).expect_err("it is a file"));
    shown.error(&Store::open(path.join(MARK)).expect_err("it is below a file"));
    fs::remove_file(&path).expect("it is ours");
    fs::create_dir(&path).expect("there is room for a directory");
    fs::write(path.join("vault.redb"), MARK.repeat(1_000)).expect("there is room for a file");
    shown.error(&Store::open(&path).expect_err("it is no vault"));
    fs::remove_file(path.join("vault.redb")).expect("it is ours");
    fs::write(path.join(MARK), MARK).expect("there is room for a file");
    shown.error(&Store::open(&path).expect_err("it is full of other files"));
    fs::remove_file(path.join(MARK)).expect("it is ours");
    let old = Store::builder().create(false);
    shown.error(&old.open(&path).expect_err("it is not there"));
    let store = Store::open(&path).expect("it opens");
    let at_once = Store::builder().wait_for_lock(Duration::ZERO);
    shown.error(&at_once.open(&path).expect_err("it is open already"));
    let new = Store::builder().create_new(true);
    shown.error(&new.open(&path).expect_err("it is there already"));
    shown.error(&store.backup(&path).expect_err("it is here"));
    shown.error(&store.backup(path.join("log-0")).expect_err("it is a file"));
}

fn stores(shown: &mut Shown) {
    let (bench, other) = (filled(), Bench::new());
    let full = builder(&bench.clock).keys_max(0).open_on(SimDisk::new()).expect("it opens");
    shown.error(&full.begin(&secret_key("k"), request()).expect_err("there is no room"));
    let permit = begin(&other.store, "k").fresh();
    let started = bench.store.start_many([permit]).pop().expect("there is an answer");
    shown.error(&started.expect_err("it is another's"));
    bench.store.clone().close().expect("it closes");
    shown.error(&bench.store.begin(&secret_key("k"), request()).expect_err("it is closed"));
    shown.error(&bench.store.keys().next().expect("there is an answer").expect_err("it is closed"));
}

fn failed_disks(shown: &mut Shown) {
    let bench = filled();
    let permits = ["k", "l"].map(|name| begin(&bench.store, name).fresh());
    bench.disk.fail(fails(Op::Sync));
    for permit in permits {
        shown.error(&permit.start().expect_err("the disk has failed"));
    }
    let ended = bench.store.settle().expect_err("it has ended");
    shown.error(&ended);
    let Error::Poisoned(below) = ended else { panic!("{ended:?}") };
    shown.error(&below);
    shown.error(&bench.store.begin(&secret_key("m"), request()).expect_err("it has ended"));
    // Without a cache redb has to read.
    let bench = filled();
    more_than_a_page(&bench);
    let Bench { disk, clock, .. } = bench;
    let disk = disk.after_kill();
    let store = builder(&clock).cache_bytes(0).open_on(disk.clone()).expect("it opens");
    disk.fail(fails(Op::Read));
    shown.error(&store.begin(&secret_key("settled"), request()).expect_err("it cannot be read"));
}

/// A row that is intact to redb, and not to us: it belongs to another result.
fn damage(shown: &mut Shown) {
    const RESULTS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("results");
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = Store::open(directory.path()).expect("it opens");
    let permit = begin(&store, "k").fresh();
    permit.complete(MARK.repeat(100)).expect("it completes");
    store.close().expect("it closes");
    let database = redb::Database::open(directory.path().join("vault.redb")).expect("redb works");
    let transaction = database.begin_write().expect("redb works");
    let mut results = transaction.open_table(RESULTS).expect("redb works");
    let other = [MARK.repeat(99).as_str(), &MARK.to_lowercase()].concat();
    results.insert(0, other.as_bytes()).expect("redb works");
    drop(results);
    transaction.commit().expect("redb works");
    drop(database);
    let store = Store::open(directory.path()).expect("it opens");
    let error = store.begin(&secret_key("k"), request()).expect_err("it is damaged");
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    shown.error(&error);
}

fn completions(shown: &mut Shown) {
    let (bench, other) = (Bench::new(), Bench::new());
    let start = |name| begin(&bench.store, name).started();
    let error = begin(&bench.store, "k").fresh().complete(too_long()).expect_err("it is too long");
    shown.error(&error);
    let permit = error.into_handle().expect("it is given back");
    let mut execution = permit.start().expect("it starts");
    shown.error(&execution.checkpoint(too_long()).expect_err("it is too long"));
    let foreign = other.store.complete_many([(execution, MARK)]).pop();
    shown.error(&foreign.expect("there is an answer").expect_err("it is another's"));
    // A queue is full only when many threads wait, and a transaction exists only with its feature.
    let bounds = [
        Bound::Keys { max: 1 },
        Bound::Bytes { max: 1 },
        Bound::ScopeBytes { max: 1 },
        Bound::Starts { max: 1 },
        Bound::StartBytes { max: 1 },
        Bound::ScopeShare,
        Bound::Disk { needed: 1 },
        Bound::Serials { max: 1 },
    ];
    for bound in &bounds {
        shown.error(bound);
    }
    let handle = start("overloaded");
    shown.error(&CompleteError::Overloaded { bound: Bound::Keys { max: 1 }, handle });
    let handle = start("in a transaction");
    shown.error(&CompleteError::InTransaction { handle });
    shown.error(&Error::InTransaction);
    let thread = std::io::Error::other("there are too many");
    shown.error(&Error::Thread(thread.into()));
    let mut execution = start("on a failed disk");
    bench.disk.fail(fails(Op::Sync));
    shown.error(&execution.checkpoint(MARK).expect_err("the disk has failed"));
    shown.error(&execution.complete(MARK).expect_err("the disk has failed"));
}

fn runs(shown: &mut Shown) {
    let bench = Bench::new();
    let mut run = |name: &str, operation: &dyn Fn(&mut Execution) -> Effect<String, Reason>| {
        let ran = bench.store.run(&secret_key(name), request(), operation);
        let error: RunError<String, Reason> = ran.expect_err("it has no outcome");
        shown.error(&error);
    };
    run("k", &|_| Effect::Done(too_long()));
    run("l", &|_| {
        bench.disk.fail(fails(Op::Sync));
        Effect::DidNotHappen(Reason(MARK))
    });
    run("m", &|_| Effect::Unknown(Reason(MARK)));
}

fn finishes(shown: &mut Shown) {
    let bench = Bench::new();
    let mut refused = |name: &str| {
        let finished = bench.store.complete(&secret_key(name), too_long());
        shown.error::<FinishError>(&finished.expect_err("it is not finished"));
    };
    refused("new");
    let execution = begin(&bench.store, "held").started();
    refused("held");
    execution.detach();
    refused("held");
    let closed = bench.store.clone();
    bench.store.clone().close().expect("it closes");
    shown.error(&closed.complete(&secret_key("held"), MARK).expect_err("it is closed"));
}

fn copies(shown: &mut Shown) {
    let bench = filled();
    let mut refused = |disk: SimDisk| {
        shown.error::<CopyError>(&bench.store.backup_on(disk).expect_err("it is not copied"));
    };
    refused(bench.disk.clone());
    for on in [Op::Write, Op::Read] {
        let disk = SimDisk::new();
        disk.fail(fails(on));
        refused(disk);
    }
    bench.store.clone().close().expect("it closes");
    refused(SimDisk::new());
}

#[cfg(feature = "transaction")]
fn transactions(shown: &mut Shown) {
    use idemstore::redb::TableDefinition;
    use idemstore::{Transaction, TransactionError};
    const ROWS: TableDefinition<&str, &str> = TableDefinition::new("rows");
    let bench = filled();
    let mut run = |name: &str, operation: &dyn Fn(&Transaction<'_>) -> Result<String, Reason>| {
        let completed = begin(&bench.store, name).fresh().complete_with(operation);
        let error: TransactionError<Reason> = completed.expect_err("it is not committed");
        shown.error(&error);
    };
    run("refused", &|_| Err(Reason(MARK)));
    run("too long", &|_| Ok(too_long()));
    run("reserved", &|transaction| {
        let meta = TableDefinition::<&str, &[u8]>::new("meta");
        drop(transaction.open_table(meta).expect_err("it is the store's"));
        Ok(MARK.to_owned())
    });
    let permit = begin(&bench.store, "another").fresh();
    let inside = bench.store.transaction(|_| {
        let again = bench.store.transaction(|_| Ok::<_, Reason>(()));
        shown.error(&again.expect_err("it would wait for itself"));
        shown.error(&permit.complete(MARK).expect_err("it would wait for itself"));
        Ok::<_, Reason>(())
    });
    inside.expect("it is committed");
    let leaked = begin(&bench.store, "leaked").fresh().complete_with(|transaction| {
        let mut rows = transaction.open_table(ROWS).expect("it is the caller's");
        rows.insert(MARK, MARK).expect("it is written");
        std::mem::forget(rows);
        Ok::<_, Reason>(MARK)
    });
    shown.error(&leaked.expect_err("it is not committed"));
}

#[cfg(feature = "typed")]
fn no_encoding(shown: &mut Shown) {
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom(MARK))
        }
    }
    let bench = Bench::new();
    shown.error(&idemstore::typed::encode(&Refuses).expect_err("it has no encoding"));
    let permit = begin(&bench.store, "k").fresh();
    shown.error(&permit.complete_as(&Refuses).expect_err("it has no encoding"));
}
