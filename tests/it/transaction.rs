//! The caller's own tables in the store's file: what a transaction writes and the result that it
//! gives are stored together, or nothing of them is.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use idemstore::redb::{
    self, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{
    Begin, CompleteError, Completed, CopyError, Error, Fingerprint, FinishError, ManualClock,
    Permit, Status, Store, Timestamp, Transaction, TransactionError,
};

use crate::support::disk::{Fault, Op};
use crate::support::model::splitmix;
use crate::support::{
    Answers, Bench, RETENTION_MS, START_MS, SimDisk, Started, builder, key, size,
};

const RESULT_LEN_MAX: usize = 16 * 1024;
/// Longer than any test takes: a wait that reaches it has failed.
const LONG: Duration = Duration::from_secs(60);

/// What the tests write beside their results: a row for each operation, and how many there are.
const ROWS: TableDefinition<&str, &str> = TableDefinition::new("rows");
const COUNTS: TableDefinition<&str, u64> = TableDefinition::new("counts");

/// Writes a row that was not there, and counts it.
fn write_row(transaction: &Transaction<'_>, name: &str, row: &str) -> Result<(), redb::Error> {
    transaction.open_table(ROWS)?.insert(name, row)?;
    let mut counts = transaction.open_table(COUNTS)?;
    let count = counts.get("rows")?.map_or(0, |count| count.value());
    counts.insert("rows", count + 1)?;
    Ok(())
}

fn put(transaction: &Transaction<'_>, name: &str, row: &str) {
    write_row(transaction, name, row).expect("redb works");
}

/// Completes an operation whose row says the same as its result.
fn complete_with_row(permit: Permit, name: &str, result: &str) -> Completed {
    permit
        .complete_with(|transaction| {
            put(transaction, name, result);
            Ok::<_, Infallible>(result)
        })
        .expect("it is committed")
}

/// All rows, once their number is compared with how often one was written.
#[track_caller]
fn rows(store: &Store) -> BTreeMap<String, String> {
    let transaction = store.read_transaction().expect("the store is open");
    let table = match transaction.open_table(ROWS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return BTreeMap::new(),
        Err(error) => panic!("{error}"),
    };
    let rows: BTreeMap<_, _> = table
        .iter()
        .expect("redb works")
        .map(|row| row.expect("redb works"))
        .map(|(name, row)| (name.value().to_owned(), row.value().to_owned()))
        .collect();
    let counts = transaction.open_table(COUNTS).expect("it is made with the rows");
    let count = counts.get("rows").expect("redb works").expect("it is written with the rows");
    assert_eq!(count.value(), rows.len() as u64, "a row was written twice, or not counted");
    rows
}

fn row(store: &Store, name: &str) -> Option<String> {
    rows(store).remove(name)
}

/// Runs this within a transaction, and checks that the transaction is committed all the same.
#[track_caller]
fn inside<T>(bench: &Bench, call: impl FnOnce() -> T) -> T {
    let mut answer = None;
    let permit = bench.begin("outer", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "outer", "before");
        answer = Some(call());
        Ok::<_, Infallible>("result")
    });
    completed.expect("it is committed");
    assert_eq!(row(&bench.store, "outer").as_deref(), Some("before"));
    assert_eq!(bench.begin("outer", "request").replay().result(), b"result");
    answer.expect("the closure has run")
}

fn fault(on: Op) -> Fault {
    Fault { on, after: 0, for_good: false, kind: ErrorKind::Other }
}

/// The key is free and without a row, and both can be made now.
#[track_caller]
fn check_nothing_stored(bench: &Bench, name: &str) {
    assert_eq!(row(&bench.store, name), None);
    assert_eq!(bench.store.stats().in_flight, 0);
    let image = Bench::on(bench.disk.after_kill(), bench.clock.clone());
    assert_eq!(row(&image.store, name), None);
    image.begin(name, "another").fresh();
    bench.store.settle().expect("it settles");
    bench.store.sweep().expect("it sweeps");
    complete_with_row(bench.begin(name, "another").fresh(), name, "now");
    assert_eq!(row(&bench.store, name).as_deref(), Some("now"));
    assert_eq!(bench.begin(name, "another").replay().result(), b"now");
}

// What is stored together.

#[test]
fn a_row_and_a_result_are_stored_together() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    bench.tick(5);
    let completed = complete_with_row(permit, "k", "result");
    assert_eq!(completed.result(), b"result");
    assert_eq!(completed.attempt(), 1);
    assert_eq!(completed.begun_at().as_unix_ms(), START_MS);
    assert_eq!(completed.completed_at().as_unix_ms(), START_MS + 5);
    assert_eq!(completed.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
    for restart in [Bench::reopen, Bench::kill, |bench: Bench| bench.cut(|_| 0)] {
        // What was not synced is gone, and that is nothing of it.
        let image = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        let image = restart(image);
        assert_eq!(row(&image.store, "k").as_deref(), Some("result"));
        let replay = image.begin("k", "request").replay();
        assert_eq!(replay.result(), b"result");
        assert_eq!(replay.completed_at(), completed.completed_at());
        assert_eq!(replay.expires_at(), completed.expires_at());
        assert!(image.begin("k", "another").mismatches());
    }
}

#[test]
fn a_transaction_is_settled_at_once() {
    let bench = Bench::new();
    let before = bench.store.stats();
    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
    let after = bench.store.stats();
    assert_eq!((after.unsettled_changes, after.in_flight), (0, 0));
    assert_eq!((after.records, after.live, after.interrupted), (1, 1, 0));
    // It went past the log.
    assert_eq!((after.batches, after.changes), (before.batches, before.changes));
}

#[test]
fn results_of_every_length_come_back_byte_for_byte() {
    let lens = [0, 1, 511, 512, 513, RESULT_LEN_MAX - 1, RESULT_LEN_MAX];
    let mut bench = Bench::new();
    let result = |len: usize| (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    for len in lens {
        let permit = bench.begin(&format!("{len}"), "request").fresh();
        let completed = permit.complete_with(|_| Ok::<_, Infallible>(result(len)));
        assert_eq!(completed.expect("it is committed").result(), result(len));
    }
    for _ in 0..2 {
        for len in lens {
            let replay = bench.begin(&format!("{len}"), "request").replay();
            assert_eq!(replay.result(), result(len), "{len} bytes");
        }
        bench = bench.reopen();
    }
}

#[test]
fn a_retention_of_its_own_counts() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh().with_retention(Duration::from_millis(7));
    complete_with_row(permit, "k", "result");
    bench.tick(6);
    bench.begin("k", "request").replay();
    bench.tick(1);
    bench.begin("k", "request").fresh();
}

#[test]
fn multimaps_and_deleted_tables_are_part_of_it() {
    const TAGS: MultimapTableDefinition<&str, &str> = MultimapTableDefinition::new("tags");
    let bench = Bench::new();
    let write = |refuse: bool| {
        bench.store.transaction(|transaction| {
            let mut tags = transaction.open_multimap_table(TAGS).expect("it opens");
            let tag = if refuse { "refused" } else { "taken" };
            tags.insert("k", tag).expect("it is written");
            drop(tags);
            // Of a table that is not there nothing is deleted, and of one that is, all.
            let deleted = transaction.delete_table(ROWS).expect("redb works");
            if refuse { Err("refused") } else { Ok(deleted) }
        })
    };
    assert!(!write(false).expect("it is committed"));
    bench
        .store
        .transaction(|transaction| {
            put(transaction, "k", "row");
            Ok::<_, Infallible>(())
        })
        .expect("it is committed");
    write(true).expect_err("it is refused");
    let reading = bench.store.read_transaction().expect("the store is open");
    let tags = reading.open_multimap_table(TAGS).expect("it is there");
    let tags: Vec<_> = tags
        .get("k")
        .expect("redb works")
        .map(|tag| tag.expect("redb works").value().to_owned())
        .collect();
    assert_eq!(tags, ["taken"]);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("row"));
    assert!(write(false).expect("it is committed"));
    let reading = bench.store.read_transaction().expect("the store is open");
    assert!(matches!(reading.open_table(ROWS), Err(TableError::TableDoesNotExist(_))));
}

#[test]
fn what_is_written_without_a_key_is_stored_or_not() {
    let bench = Bench::new();
    let written = bench.store.transaction(|transaction| {
        put(transaction, "a", "row");
        Ok::<_, Infallible>(17)
    });
    assert_eq!(written.expect("it is committed"), 17);
    let refused = bench.store.transaction(|transaction| {
        put(transaction, "b", "row");
        Err::<(), _>("refused")
    });
    assert!(matches!(refused, Err(TransactionError::Operation("refused"))), "{refused:?}");
    assert_eq!(bench.store.stats().records, 0);
    let bench = bench.cut(|_| 0);
    assert_eq!(rows(&bench.store).into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn the_last_handle_of_a_store_completes_and_closes_it() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let Bench { disk, clock, store, .. } = bench;
    drop(store);
    complete_with_row(permit, "k", "result");
    // The directory is no longer locked.
    let bench = Bench::on(disk, clock);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("result"));
    bench.begin("k", "request").replay();
}

#[test]
fn backup_and_compact_keep_rows_and_results() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(500));
    }
    let backup = SimDisk::new();
    bench.store.backup_on(backup.clone()).expect("it is backed up");
    bench.store.compact().expect("it is compacted");
    complete_with_row(bench.begin("later", "request").fresh(), "later", "result");
    let copy = Bench::on(backup, bench.clock.clone());
    assert_eq!((rows(&copy.store).len(), rows(&bench.store).len()), (20, 21));
    let bench = bench.cut(|_| 0);
    for step in 0..20 {
        let name = format!("{step}");
        for bench in [&copy, &bench] {
            assert_eq!(row(&bench.store, &name), Some(name.repeat(500)));
            let replay = bench.begin(&name, "request").replay();
            assert_eq!(replay.result(), name.repeat(500).as_bytes());
        }
    }
    bench.begin("later", "request").replay();
    copy.begin("later", "request").fresh();
}

// What is not stored.

#[test]
fn a_closure_that_fails_stores_nothing() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let refused = permit.complete_with(|transaction| {
        put(transaction, "k", "row");
        Err::<Vec<u8>, _>(String::from("too little money"))
    });
    match refused {
        Err(TransactionError::Operation(error)) => assert_eq!(error, "too little money"),
        other => panic!("{other:?}"),
    }
    check_nothing_stored(&bench, "k");
}

#[test]
fn a_closure_that_panics_stores_nothing() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        permit.complete_with(|transaction| -> Result<&str, Infallible> {
            // One table is open when it panics, and one is closed.
            let _rows = transaction.open_table(ROWS).expect("it opens");
            transaction.open_table(COUNTS).expect("it opens").insert("rows", 1).expect("it is");
            panic!("17 is no number")
        })
    }));
    let panic = panicked.expect_err("the caller is told");
    assert_eq!(panic.downcast_ref(), Some(&"17 is no number"));
    check_nothing_stored(&bench, "k");
    bench.begin("l", "request").started().complete("result").expect("it completes");
    let bench = bench.reopen();
    bench.begin("l", "request").replay();
}

#[test]
fn a_transaction_can_be_made_while_its_thread_panics() {
    struct Last<'b>(&'b Bench, Option<Permit>);

    impl Drop for Last<'_> {
        fn drop(&mut self) {
            let permit = self.1.take().expect("it is dropped once");
            complete_with_row(permit, "k", "last words");
            let refused = self.0.store.transaction(|_| Err::<(), _>("refused"));
            assert!(matches!(refused, Err(TransactionError::Operation("refused"))));
        }
    }

    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _last = Last(&bench, Some(permit));
        panic!("17 is no number");
    }));
    assert!(panicked.is_err());
    let bench = bench.cut(|_| 0);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("last words"));
    assert_eq!(bench.begin("k", "request").replay().result(), b"last words");
}

#[test]
fn a_panic_in_a_write_without_a_key_stores_nothing() {
    let bench = Bench::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        bench.store.transaction(|transaction| -> Result<(), Infallible> {
            put(transaction, "k", "row");
            panic!("17 is no number")
        })
    }));
    assert!(panicked.is_err());
    check_nothing_stored(&bench, "k");
}

#[test]
fn what_is_not_committed_takes_no_room() {
    let bench = Bench::new();
    let refuse = |panics: bool| {
        let refused = catch_unwind(AssertUnwindSafe(|| {
            bench.begin("k", "request").fresh().complete_with(|transaction| {
                put(transaction, "k", &"row".repeat(20_000));
                assert!(!panics, "17 is no number");
                Err::<&str, _>("refused")
            })
        }));
        assert_eq!(refused.is_err(), panics);
    };
    refuse(false);
    let before = bench.store.stats().file_bytes;
    for step in 0..200 {
        refuse(step % 2 == 0);
    }
    assert_eq!(bench.store.stats().file_bytes, before);
}

#[test]
fn a_result_that_is_too_long_stores_nothing() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let refused = permit.complete_with(|transaction| {
        put(transaction, "k", "row");
        Ok::<_, Infallible>(vec![7; RESULT_LEN_MAX + 1])
    });
    let Err(TransactionError::TooLarge { len, max }) = refused else { panic!("{refused:?}") };
    assert_eq!((len, max), (RESULT_LEN_MAX + 1, RESULT_LEN_MAX));
    check_nothing_stored(&bench, "k");
}

/// One of the ways to ask for a table of the store's.
type AskReserved = fn(&Transaction<'_>, &str) -> Result<(), TableError>;

const ASK_RESERVED: [AskReserved; 3] = [
    |transaction, name| transaction.open_table(TableDefinition::<&str, &str>::new(name)).map(drop),
    |transaction, name| {
        let table = MultimapTableDefinition::<&str, &str>::new(name);
        transaction.open_multimap_table(table).map(drop)
    },
    |transaction, name| {
        transaction.delete_table(TableDefinition::<&str, &str>::new(name)).map(drop)
    },
];

#[test]
fn the_tables_of_the_store_are_its_own() {
    for name in ["records", "results", "meta"] {
        for ask in ASK_RESERVED {
            for ignore in [false, true] {
                let bench = Bench::new();
                bench.complete("completed", "request", "result");
                let operation = |transaction: &Transaction<'_>| {
                    put(transaction, "k", "row");
                    let asked = ask(transaction, name);
                    let refused = matches!(&asked, Err(TableError::TableAlreadyOpen(table, _)) if table == name);
                    assert!(refused, "{asked:?}");
                    put(transaction, "l", "row");
                    if ignore { Ok("result") } else { asked.map(|()| "result") }
                };
                let permit = bench.begin("k", "request").fresh();
                let refused = permit.complete_with(operation);
                assert!(matches!(refused, Err(TransactionError::ReservedTable)), "{refused:?}");
                let refused = bench.store.transaction(operation);
                assert!(matches!(refused, Err(TransactionError::ReservedTable)), "{refused:?}");
                check_nothing_stored(&bench, "k");
                assert_eq!(row(&bench.store, "l"), None);
                bench.begin("completed", "request").replay();
            }
        }
    }
}

#[test]
fn a_closure_that_leaks_a_table_stores_nothing_and_ends_the_store() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    let permit = bench.begin("k", "request").fresh();
    let refused = permit.complete_with(|transaction| {
        let table = transaction.open_table(TableDefinition::<&str, &str>::new("leaked"));
        std::mem::forget(table.expect("it is the caller's"));
        put(transaction, "k", "row");
        Ok::<_, Infallible>("result")
    });
    assert!(matches!(refused, Err(TransactionError::Unfinished)), "{refused:?}");
    // redb would let nobody write any more, so nobody may ask it to.
    let poisoned = bench.store.transaction(|_| Ok::<_, Infallible>(()));
    let poisoned = matches!(poisoned, Err(TransactionError::Store(Error::Poisoned(_))));
    assert!(poisoned && matches!(bench.store.settle(), Err(Error::Poisoned(_))));
    bench.begin("completed", "request").replay();
    let bench = bench.kill();
    assert_eq!(row(&bench.store, "k"), None);
    bench.begin("completed", "request").replay();
    bench.begin("k", "another").fresh();
}

#[test]
fn a_panic_reaches_the_caller_though_the_disk_fails_too() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        permit.complete_with(|transaction| -> Result<&str, Infallible> {
            bench.disk.fail(Fault { for_good: true, ..fault(Op::Any) });
            let definition = TableDefinition::<u64, &[u8]>::new("large");
            let mut table = transaction.open_table(definition).expect("it is the caller's");
            // More than redb keeps in memory.
            for row in 0..20 {
                drop(table.insert(row, &*vec![7; 900_000]));
            }
            panic!("the closure's own");
        })
    }));
    let panic = panicked.expect_err("the closure has panicked");
    assert_eq!(panic.downcast_ref(), Some(&"the closure's own"));
}

#[test]
fn a_handle_that_is_completed_inside_still_works_outside() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    bench.begin("detached", "request").started().detach();
    let mut given_back = None;
    inside(&bench, || {
        let error = execution.complete("result").expect_err("it would wait for itself");
        given_back = error.into_handle();
        is_refused(bench.store.complete(&key("detached"), "result"));
        is_refused(bench.store.abandon(&key("detached")));
    });
    given_back.expect("the handle comes back").complete("result").expect("it completes");
    bench.begin("detached", "request").in_flight();
    bench.store.complete(&key("detached"), "result").expect("it completes");
}

#[test]
fn a_panic_goes_before_a_table_of_the_store() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        permit.complete_with(|transaction| -> Result<&str, Infallible> {
            let asked = transaction.open_table(TableDefinition::<u64, &[u8]>::new("results"));
            asked.expect("it is not for the caller");
            Ok("result")
        })
    }));
    assert!(panicked.is_err());
    check_nothing_stored(&bench, "k");
}

#[test]
fn names_like_those_of_the_store_are_the_callers() {
    let bench = Bench::new();
    for name in ["Records", "record", "meta2", "results ", "rows"] {
        let table = TableDefinition::<&str, &str>::new(name);
        let written = bench.store.transaction(|transaction| {
            transaction.open_table(table)?.insert("k", name)?;
            Ok::<_, redb::Error>(())
        });
        written.expect("it is committed");
    }
}

// Calls from within a closure.

/// Whether an error says that the call comes from within a transaction.
trait Refusal: Debug {
    fn is_refusal(&self) -> bool;
}

impl Refusal for Error {
    fn is_refusal(&self) -> bool {
        matches!(self, Error::InTransaction)
    }
}

impl Refusal for CopyError {
    fn is_refusal(&self) -> bool {
        matches!(self, CopyError::Store(Error::InTransaction))
    }
}

impl<H: Debug> Refusal for CompleteError<H> {
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            CompleteError::InTransaction { .. } | CompleteError::Store(Error::InTransaction)
        )
    }
}

impl Refusal for FinishError {
    fn is_refusal(&self) -> bool {
        matches!(self, FinishError::Store(error) if error.is_refusal())
    }
}

impl<E: Debug> Refusal for TransactionError<E> {
    fn is_refusal(&self) -> bool {
        matches!(self, TransactionError::Store(Error::InTransaction))
    }
}

#[track_caller]
fn is_refused<T: Debug, E: Refusal>(answer: Result<T, E>) {
    let error = answer.expect_err("it would wait for itself");
    assert!(error.is_refusal(), "{error:?}");
}

#[test]
fn a_closure_that_starts_or_completes_is_refused() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    let others = bench.begin("many", "request").started();
    bench.begin("detached", "request").started().detach();
    drop(bench.begin("interrupted", "request").started());
    drop(bench.begin("retried", "request").started());
    bench.complete("completed", "request", "result");
    let store = &bench.store;
    let before = store.stats().changes;
    inside(&bench, || {
        is_refused(bench.begin("start", "request").fresh().start());
        is_refused(bench.begin("complete", "request").fresh().complete("result"));
        is_refused(execution.complete("result"));
        is_refused(bench.begin("retried", "request").interrupted().retry());
        is_refused(bench.begin("interrupted", "request").interrupted().resolve("it"));
        is_refused(bench.begin("interrupted", "request").interrupted().abandon());
        is_refused(store.forget(&key("completed")));
        is_refused(store.complete(&key("detached"), "result"));
        let permits = ["a", "b"].map(|name| bench.begin(name, "request").fresh());
        store.start_many(permits).into_iter().for_each(is_refused);
        store.complete_many([(others, "result")]).into_iter().for_each(is_refused);
    });
    assert_eq!(store.stats().changes, before);
    // What had not started is free again, and nothing of what had started has become so.
    for name in ["start", "complete", "a", "b"] {
        bench.begin(name, "request").fresh();
    }
    for name in ["executing", "many", "detached", "interrupted", "retried"] {
        let status = store.get(&key(name)).expect("it can be looked at").map(|info| info.status());
        let held = matches!(status, Some(Status::Executing | Status::Interrupted));
        assert!(held, "{name}: {status:?}");
    }
    bench.begin("completed", "request").replay();
    // And all of it can be done now.
    bench.begin("retried", "request").interrupted().retry().expect("it starts").detach();
    store.abandon(&key("retried")).expect("it is abandoned");
    store.complete(&key("interrupted"), "result").expect("it completes");
    assert!(store.forget(&key("completed")).expect("it is forgotten"));
}

#[test]
fn a_closure_that_opens_a_transaction_of_the_same_store_is_refused() {
    let never = |_: &Transaction<'_>| -> Result<&str, Infallible> { panic!("it runs") };
    let bench = Bench::new();
    inside(&bench, || {
        is_refused(bench.store.transaction(never));
        is_refused(bench.begin("inner", "request").fresh().complete_with(never));
        bench.begin("inner", "another").fresh();
    });
    complete_with_row(bench.begin("inner", "request").fresh(), "inner", "result");
}

#[test]
fn a_closure_that_looks_after_the_store_is_refused() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let backup = SimDisk::new();
    let names = || bench.disk.bytes().into_keys().collect::<Vec<_>>();
    let before = names();
    inside(&bench, || {
        is_refused(bench.store.settle());
        is_refused(bench.store.sweep());
        is_refused(bench.store.clone().close());
        // A listing settles first, so that what is in the log is listed too.
        is_refused(bench.store.keys().next().expect("it says so"));
        is_refused(bench.store.compact());
        is_refused(bench.store.backup_on(backup.clone()));
    });
    assert_eq!(names(), before);
    assert!(backup.bytes().is_empty(), "a backup that is refused has left something");
    bench.store.backup_on(backup.clone()).expect("it is backed up");
    bench.store.compact().expect("it is compacted");
    bench.store.settle().expect("it settles");
    bench.store.sweep().expect("it sweeps");
    bench.reopen().begin("outer", "request").replay();
}

#[test]
fn a_closure_that_writes_through_a_clone_is_refused() {
    let bench = Bench::new();
    let clone = bench.store.clone();
    inside(&bench, || is_refused(clone.settle()));
    clone.settle().expect("it settles");
}

#[test]
fn a_closure_may_read_the_store() {
    let bench = Bench::new();
    complete_with_row(bench.begin("settled", "request").fresh(), "settled", "result");
    bench.complete("in the log", "request", "result");
    let _execution = bench.begin("executing", "request").started();
    let store = &bench.store;
    inside(&bench, || {
        bench.begin("settled", "request").replay();
        bench.begin("in the log", "request").replay();
        assert!(bench.begin("settled", "another").mismatches());
        bench.begin("executing", "request").in_flight();
        bench.begin("new", "request").fresh().release();
        let in_flight = bench.begin("outer", "request").in_flight();
        in_flight.wait(Duration::ZERO).expect("wait answers").in_flight();
        let status = |name| {
            let info = store.get(&key(name)).expect("it can be looked at");
            info.map(|info| info.status())
        };
        assert_eq!(status("settled"), Some(Status::Completed));
        assert_eq!(status("outer"), Some(Status::Reserved));
        assert_eq!(status("new"), None);
        assert_eq!(store.stats().in_flight, 2);
        // Its own row is not committed yet.
        assert_eq!(rows(store).into_keys().collect::<Vec<_>>(), ["settled"]);
    });
}

#[test]
fn a_permit_that_a_closure_was_given_can_be_used_after_it() {
    let bench = Bench::new();
    let permit = inside(&bench, || bench.begin("inner", "request").fresh());
    bench.begin("inner", "request").in_flight();
    complete_with_row(permit, "inner", "result");
    bench.begin("inner", "request").replay();
}

#[test]
fn a_closure_may_write_another_store() {
    let (bench, other) = (Bench::new(), Bench::new());
    inside(&bench, || {
        other.complete("k", "request", "result");
        inside(&other, || {
            is_refused(bench.store.settle());
            is_refused(other.store.settle());
        });
        // The innermost transaction is over, and this one is not.
        other.store.settle().expect("it settles");
        is_refused(bench.store.settle());
        let third = Bench::new();
        third.complete("k", "request", "result");
        drop(third);
    });
    bench.store.settle().expect("it settles");
}

#[test]
fn other_threads_start_and_complete_while_a_closure_runs() {
    let bench = Bench::new();
    inside(&bench, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0..20 {
                    bench.complete(&format!("{step}"), "request", "result");
                }
                bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
            });
        });
    });
    // The log has them, since the transaction had begun before.
    assert_eq!(bench.store.stats().unsettled_changes, 42);
    let bench = bench.kill();
    for step in 0..20 {
        bench.begin(&format!("{step}"), "request").replay();
    }
    bench.begin("abandoned", "request").fresh();
    assert_eq!(row(&bench.store, "outer").as_deref(), Some("before"));
}

#[test]
fn other_threads_that_need_the_vault_wait_for_a_closure() {
    let bench = Bench::new();
    let (began, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = inside(&bench, || {
            let threads = [
                scope.spawn(|| {
                    began.clone().send(()).expect("the test waits");
                    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
                }),
                scope.spawn(|| {
                    began.clone().send(()).expect("the test waits");
                    bench.store.settle().expect("it settles");
                    bench.store.sweep().expect("it sweeps");
                }),
                scope.spawn(|| {
                    began.clone().send(()).expect("the test waits");
                    // More than the log has room for.
                    for step in 0..100 {
                        let permit = bench.begin(&format!("{step}"), "request").fresh();
                        permit.complete([7; 1_000]).expect("it completes");
                    }
                }),
            ];
            (0..3).for_each(|_| has_begun.recv().expect("the threads run"));
            bench.begin("inside", "request").fresh().release();
            threads
        });
        waiting.map(|thread| thread.join().expect("the thread ends"));
    });
    let bench = bench.kill();
    assert_eq!(row(&bench.store, "k").as_deref(), Some("result"));
    for step in 0..100 {
        assert_eq!(bench.begin(&format!("{step}"), "request").replay().result(), [7; 1_000]);
    }
}

#[test]
fn a_close_waits_for_a_closure() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let closed = thread::scope(|scope| {
        let mut closing = None;
        let completed = permit.complete_with(|transaction| {
            put(transaction, "k", "row");
            closing = Some(scope.spawn(|| bench.store.clone().close()));
            // Until the close has begun, most likely. More than this the log has no room for.
            let others = scope.spawn(|| {
                for step in 0..100 {
                    let name = format!("{step}");
                    let permit = match bench.store.begin(&key(&name), Fingerprint::of("request")) {
                        Ok(begin) => begin.fresh(),
                        Err(Error::Closed) => return,
                        Err(error) => panic!("{error}"),
                    };
                    match permit.complete("") {
                        Ok(_) => thread::yield_now(),
                        Err(CompleteError::Store(Error::Closed)) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            others.join().expect("the thread ends");
            Ok::<_, Infallible>("result")
        });
        completed.expect("it is committed");
        closing.expect("the closure has run").join().expect("the thread ends")
    });
    closed.expect("the store closes");
    let bench = Bench::on(bench.disk, bench.clock);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("row"));
    bench.begin("k", "request").replay();
}

// The log beside it.

#[test]
fn what_the_log_holds_is_settled_with_it() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    let execution = bench.begin("executing", "request").started();
    bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
    bench.complete("forgotten", "request", "result");
    bench.store.forget(&key("forgotten")).expect("it is forgotten");
    assert_eq!(bench.store.stats().unsettled_changes, 8);
    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
    let stats = bench.store.stats();
    assert_eq!((stats.unsettled_changes, stats.log_bytes), (0, 0));
    assert_eq!((stats.records, stats.settles), (3, 1));
    // Without the log all of it is there.
    let check = |bench: &Bench| {
        assert_eq!(bench.begin("completed", "request").replay().result(), b"result");
        bench.begin("abandoned", "another").fresh();
        bench.begin("forgotten", "another").fresh();
        bench.begin("k", "request").replay();
    };
    check(&bench);
    bench.begin("executing", "request").in_flight();
    let bench = bench.kill();
    check(&bench);
    bench.begin("executing", "request").interrupted();
    drop(execution);
}

#[test]
fn both_segments_are_settled_with_it() {
    let bench = Bench::new();
    let mut step = 0;
    // Until one segment is sealed and the other one in use.
    while bench.store.stats().unsettled_changes < 40 {
        let permit = bench.begin(&format!("{step}"), "request").fresh();
        permit.complete([step; 1_000]).expect("it completes");
        step += 1;
    }
    assert!(bench.store.stats().log_bytes < 32 * 1024);
    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
    assert_eq!(bench.store.stats().unsettled_changes, 0);
    let bench = bench.cut(|_| 0);
    for step in 0..step {
        let replay = bench.begin(&format!("{step}"), "request").replay();
        assert_eq!(replay.result(), [step; 1_000]);
    }
    bench.begin("k", "request").replay();
}

#[test]
fn a_closure_that_fails_leaves_the_log_as_it_is() {
    for panics in [false, true] {
        let bench = Bench::new();
        bench.complete("completed", "request", "result");
        bench.begin("executing", "request").started().detach();
        let refused = catch_unwind(AssertUnwindSafe(|| {
            bench.begin("k", "request").fresh().complete_with(|_| {
                assert!(!panics, "17 is no number");
                Err::<&str, _>("refused")
            })
        }));
        assert_eq!(refused.is_err(), panics);
        assert_eq!(bench.store.stats().unsettled_changes, 3);
        let image = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        image.begin("completed", "request").replay();
        image.begin("executing", "request").interrupted();
        // The segment that was sealed for it is settled by the next caller.
        bench.store.complete(&key("executing"), "result").expect("it completes");
        complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
        assert_eq!(bench.store.stats().unsettled_changes, 0);
        let bench = bench.reopen();
        bench.begin("completed", "request").replay();
        bench.begin("executing", "request").replay();
    }
}

#[test]
fn nothing_is_lost_while_log_and_transactions_take_turns() {
    let mut bench = Bench::with(SimDisk::new(), manual_clock(), 0);
    let mut expected = BTreeSet::new();
    for step in 0..120 {
        let name = format!("{step}");
        let permit = bench.begin(&name, "request").fresh();
        match step % 4 {
            0 => drop(complete_with_row(permit, &name, &name)),
            1 => drop(permit.start().expect("it starts").complete(&name).expect("it completes")),
            2 => drop(permit.complete(&name).expect("it completes")),
            _ => {
                permit.start().expect("it starts").abandon().expect("it is abandoned");
                continue;
            }
        }
        expected.insert(name);
        if step % 17 == 0 {
            bench = bench.kill();
        }
    }
    for bench in [bench.reopen()] {
        for step in 0..120 {
            let name = format!("{step}");
            match bench.begin(&name, "request") {
                Begin::Replay(completed) => {
                    assert_eq!(completed.result(), name.as_bytes());
                    assert!(expected.remove(&name));
                }
                begin => drop(begin.fresh()),
            }
            assert_eq!(row(&bench.store, &name).is_some(), step % 4 == 0);
        }
        assert!(expected.is_empty(), "{expected:?} are lost");
    }
}

// The states of a key.

#[test]
fn a_key_is_in_flight_while_its_closure_runs() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|_| {
        bench.begin("k", "request").in_flight();
        // Nothing has started, so there is nothing to differ from.
        bench.begin("k", "another").in_flight();
        thread::scope(|scope| {
            scope.spawn(|| drop(bench.begin("k", "request").in_flight()));
        });
        Ok::<_, Infallible>("result")
    });
    completed.expect("it is committed");
    for settle in [false, true] {
        bench.begin("k", "request").replay();
        assert!(bench.begin("k", "another").mismatches());
        if settle {
            bench.store.settle().expect("it settles");
        }
    }
}

/// Waits for `k` in another thread while a closure of its transaction runs, and lets that end so.
fn wait_while<R: AsRef<[u8]>>(
    bench: &Bench,
    end: impl FnOnce() -> Result<R, &'static str>,
) -> Result<Begin, Error> {
    let permit = bench.begin("k", "request").fresh();
    let in_flight = bench.begin("k", "request").in_flight();
    let waiter = thread::spawn(move || in_flight.wait(LONG));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        drop(permit.complete_with(|transaction| {
            put(transaction, "k", "row");
            while bench.store.stats().waited_for == 0 {
                thread::yield_now();
            }
            end()
        }));
    }));
    drop(unwound);
    waiter.join().expect("the thread ends")
}

#[test]
fn a_waiter_replays_the_result() {
    let bench = Bench::new();
    let answer = wait_while(&bench, || Ok("result"));
    assert_eq!(answer.expect("wait answers").replay().result(), b"result");
    assert_eq!(bench.store.stats().waited_for, 0);
}

#[test]
fn a_waiter_replays_a_result_whose_retention_is_over() {
    let bench = Bench::new();
    let answer = wait_while(&bench, || {
        bench.tick(RETENTION_MS);
        Ok("late")
    });
    assert_eq!(answer.expect("wait answers").replay().result(), b"late");
    bench.begin("k", "request").replay();
    bench.tick(RETENTION_MS);
    bench.begin("k", "request").fresh();
}

#[test]
fn a_waiter_gets_the_key_of_a_closure_that_stores_nothing() {
    let check = |end: fn() -> Result<Vec<u8>, &'static str>| {
        let bench = Bench::new();
        let permit = wait_while(&bench, end).expect("wait answers").fresh();
        complete_with_row(permit, "k", "second");
        assert_eq!(row(&bench.store, "k").as_deref(), Some("second"));
    };
    check(|| Err("refused"));
    check(|| panic!("17 is no number"));
    check(|| Ok(vec![7; RESULT_LEN_MAX + 1]));
}

#[test]
fn of_many_callers_on_one_key_one_writes() {
    let bench = Bench::new();
    let ran = AtomicUsize::new(0);
    for round in 0..20 {
        let name = format!("{round}");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let begin = match bench.begin(&name, "request") {
                        Begin::InFlight(in_flight) => in_flight.wait(LONG).expect("wait answers"),
                        begin => begin,
                    };
                    let completed = match begin {
                        Begin::Fresh(permit) => {
                            ran.fetch_add(1, Ordering::Relaxed);
                            complete_with_row(permit, &name, &name)
                        }
                        begin => begin.replay(),
                    };
                    assert_eq!(completed.result(), name.as_bytes());
                });
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), round + 1);
    }
    assert_eq!(rows(&bench.store).len(), 20);
}

#[test]
fn of_many_callers_one_at_a_time_is_refused_until_one_writes() {
    const REFUSALS: usize = 7;
    let bench = Bench::new();
    let ran = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..=REFUSALS {
            scope.spawn(|| {
                loop {
                    let begin = match bench.begin("k", "request") {
                        Begin::InFlight(in_flight) => in_flight.wait(LONG).expect("wait answers"),
                        begin => begin,
                    };
                    let Begin::Fresh(permit) = begin else {
                        assert_eq!(begin.replay().result(), b"result");
                        return;
                    };
                    let completed = permit.complete_with(|transaction| {
                        put(transaction, "k", "row");
                        let is_last = ran.fetch_add(1, Ordering::Relaxed) == REFUSALS;
                        if is_last { Ok("result") } else { Err("refused") }
                    });
                    match completed {
                        Ok(_) => return,
                        Err(error) => {
                            assert!(matches!(error, TransactionError::Operation("refused")));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), REFUSALS + 1);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("row"));
}

#[test]
fn an_expired_key_is_used_again() {
    for (settle, sweep, first_in_log) in
        [(false, false, false), (false, false, true), (true, false, true), (true, true, false)]
    {
        let bench = Bench::new();
        let permit = bench.begin("k", "request").fresh();
        if first_in_log {
            permit.complete("first").expect("it completes");
        } else {
            complete_with_row(permit, "first", "first");
        }
        if settle {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS);
        if sweep {
            assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
        }
        complete_with_row(bench.begin("k", "another").fresh(), "second", "second");
        let check = |bench: &Bench| {
            assert_eq!(bench.begin("k", "another").replay().result(), b"second");
            assert!(bench.begin("k", "request").mismatches());
            assert_eq!(row(&bench.store, "second").as_deref(), Some("second"));
        };
        check(&bench);
        // The first record, if it is still there, is the sweeper's, and the second is not.
        bench.store.sweep().expect("it sweeps");
        assert_eq!(bench.store.stats().records, 1);
        check(&bench);
        let image = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        check(&image);
        check(&bench.reopen());
    }
}

#[test]
fn an_interrupted_key_that_expires_is_used_again() {
    for settle in [false, true] {
        let bench = Bench::new();
        drop(bench.begin("k", "request").started());
        if settle {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS);
        complete_with_row(bench.begin("k", "another").fresh(), "k", "second");
        bench.store.sweep().expect("it sweeps");
        let stats = bench.store.stats();
        assert_eq!((stats.records, stats.interrupted), (1, 0));
        let bench = bench.kill();
        assert_eq!(bench.begin("k", "another").replay().result(), b"second");
        assert_eq!(bench.store.stats().interrupted, 0);
    }
}

#[test]
fn a_key_that_expires_while_its_closure_runs_begins_a_new_retention() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "first", "row");
        bench.tick(RETENTION_MS);
        Ok::<_, Infallible>("late")
    });
    // It was over when it was completed, so that it begins a new one.
    assert_eq!(completed.expect("it is committed").result(), b"late");
    bench.tick(RETENTION_MS - 1);
    bench.begin("k", "request").replay();
    bench.tick(1);
    complete_with_row(bench.begin("k", "another").fresh(), "second", "second");
    assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
    let bench = bench.reopen();
    assert_eq!(bench.begin("k", "another").replay().result(), b"second");
    assert_eq!(rows(&bench.store).len(), 2);
}

#[test]
fn a_forgotten_key_is_used_again() {
    let bench = Bench::new();
    complete_with_row(bench.begin("k", "request").fresh(), "first", "first");
    assert!(bench.store.forget(&key("k")).expect("it is forgotten"));
    // The row is the caller's, and stays.
    complete_with_row(bench.begin("k", "another").fresh(), "second", "second");
    let bench = bench.kill();
    assert_eq!(bench.begin("k", "another").replay().result(), b"second");
    assert_eq!(rows(&bench.store).len(), 2);
    assert_eq!(bench.store.stats().records, 1);
}

#[test]
fn keys_that_collide_are_kept_apart() {
    let bench = Bench::with(SimDisk::new(), manual_clock(), 0);
    for step in 0..10 {
        let name = format!("{step}");
        bench.begin(&format!("log {step}"), "request").started().detach();
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name);
    }
    let bench = bench.kill();
    for step in 0..10 {
        let name = format!("{step}");
        assert_eq!(bench.begin(&name, "request").replay().result(), name.as_bytes());
        bench.begin(&format!("log {step}"), "request").interrupted();
    }
}

fn manual_clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(START_MS))
}

// Reading.

#[test]
fn a_reader_sees_what_is_committed_and_nothing_else() {
    let bench = Bench::new();
    complete_with_row(bench.begin("first", "request").fresh(), "first", "row");
    let before = bench.store.read_transaction().expect("the store is open");
    let has = |transaction: &redb::ReadTransaction, name| {
        let rows = transaction.open_table(ROWS).expect("it is there");
        rows.get(name).expect("redb works").is_some()
    };
    let mut during = None;
    let permit = bench.begin("second", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "second", "row");
        during = Some(bench.store.read_transaction().expect("the store is open"));
        Ok::<_, Infallible>("result")
    });
    completed.expect("it is committed");
    let after = bench.store.read_transaction().expect("the store is open");
    let during = during.expect("the closure has run");
    assert!(has(&before, "first") && has(&during, "first") && has(&after, "first"));
    assert!(!has(&before, "second") && !has(&during, "second") && has(&after, "second"));
    // A long read holds up nobody, and sees the same all the time.
    for step in 0..50 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
        bench.store.settle().expect("it settles");
    }
    assert!(has(&before, "first") && !has(&before, "second"));
    let rows = before.open_table(ROWS).expect("it is there");
    assert_eq!(rows.iter().expect("redb works").count(), 1);
}

/// Reads all that a transaction can still show. It may fail, and must not panic.
fn read_on(reading: &redb::ReadTransaction) -> Result<usize, redb::Error> {
    let rows = reading.open_table(ROWS)?;
    let mut count = 0;
    for row in rows.iter()? {
        let (name, row) = row?;
        assert_eq!(row.value(), name.value().repeat(1_000));
        count += 1;
    }
    Ok(count)
}

#[test]
fn a_store_that_is_closed_cannot_be_read() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
    }
    let reading = bench.store.read_transaction().expect("the store is open");
    let table = reading.open_table(ROWS).expect("it is there");
    assert_eq!(read_on(&reading).expect("it is open"), 20);
    bench.store.clone().close().expect("the store closes");
    assert!(matches!(bench.store.read_transaction(), Err(Error::Closed)));
    read_on(&reading).expect_err("the store is closed");
    table.get("1").map(drop).expect_err("the store is closed");
    drop((table, reading));
    let bench = Bench::on(bench.disk, bench.clock);
    assert_eq!(rows(&bench.store).len(), 20);
}

#[test]
fn a_store_whose_last_reader_is_gone_is_opened_again() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let open = || Store::builder().log_bytes(64 * 1024).result_len_max(1024).open(directory.path());
    let store = open().expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    complete_with_row(begin.fresh(), "k", "result");
    let reading = store.read_transaction().expect("the store is open");
    store.close().expect("the store closes");
    read_on(&reading).expect_err("the store is closed");
    drop(reading);
    let store = open().expect("the store opens again");
    assert_eq!(row(&store, "k").as_deref(), Some("result"));
}

#[test]
fn a_reader_of_a_vault_that_is_compacted_reads_no_wrong_rows() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
    }
    let reading = bench.store.read_transaction().expect("the store is open");
    bench.store.compact().expect("it is compacted");
    if let Ok(count) = read_on(&reading) {
        assert_eq!(count, 20);
    }
    complete_with_row(bench.begin("later", "request").fresh(), "later", "row");
    assert_eq!(rows(&bench.store).len(), 21);
}

// Disks that fail.

#[test]
fn an_ended_store_runs_no_closure() {
    let never = |_: &Transaction<'_>| -> Result<&str, Infallible> { panic!("it runs") };
    let bench = Bench::new();
    let permits = ["a", "b"].map(|name| bench.begin(name, "request").fresh());
    let failing = bench.begin("failing", "request").fresh();
    bench.disk.fail(fault(Op::Sync));
    assert!(matches!(failing.start(), Err(Error::OutcomeUnknown(_))));
    for permit in permits {
        let refused = permit.complete_with(never);
        let poisoned = matches!(refused, Err(TransactionError::Store(Error::Poisoned(_))));
        assert!(poisoned, "{refused:?}");
    }
    let refused = bench.store.transaction(never);
    assert!(matches!(refused, Err(TransactionError::Store(Error::Poisoned(_)))), "{refused:?}");

    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    bench.store.clone().close().expect("the store closes");
    let refused = permit.complete_with(never);
    assert!(matches!(refused, Err(TransactionError::Store(Error::Closed))), "{refused:?}");
    let refused = bench.store.transaction(never);
    assert!(matches!(refused, Err(TransactionError::Store(Error::Closed))), "{refused:?}");
    Bench::on(bench.disk, bench.clock).begin("k", "request").fresh();
}

#[test]
fn a_commit_that_fails_has_an_unknown_outcome() {
    for on in [Op::Write, Op::VaultSync] {
        let bench = Bench::new();
        bench.complete("in the log", "request", "result");
        complete_with_row(bench.begin("settled", "request").fresh(), "settled", "result");
        let in_flight = {
            let permit = bench.begin("k", "request").fresh();
            let in_flight = bench.begin("k", "request").in_flight();
            bench.disk.fail(fault(on));
            let failed = permit.complete_with(|transaction| {
                put(transaction, "k", "row");
                Ok::<_, Infallible>("row")
            });
            let error = failed.expect_err("the disk has failed");
            let unknown = matches!(error, TransactionError::Store(Error::OutcomeUnknown(_)));
            assert!(unknown, "{error:?}");
            in_flight
        };
        // Nobody is told that the key is free: that is not known.
        let waited = in_flight.wait(LONG);
        assert!(matches!(waited, Err(Error::Poisoned(_))), "{waited:?}");
        let begin = bench.store.begin(&key("k"), Fingerprint::of("request"));
        assert!(matches!(begin, Err(Error::Poisoned(_))), "{begin:?}");
        let bench = bench.kill();
        bench.begin("in the log", "request").replay();
        bench.begin("settled", "request").replay();
        match bench.begin("k", "request") {
            Begin::Replay(completed) => assert_eq!(completed.result(), b"row"),
            begin => drop(begin.fresh()),
        }
        let replays = matches!(bench.begin("k", "request"), Begin::Replay(_));
        assert_eq!(row(&bench.store, "k").is_some(), replays);
    }
}

/// The commit may be durable: a caller that got the key then would run the operation once more.
#[test]
fn a_key_whose_outcome_is_unknown_is_given_to_nobody() {
    let (mut given, mut failed) = (0, 0);
    for round in 0..800 {
        let bench = Bench::new();
        let permit = bench.begin("k", "request").fresh();
        let ask = || {
            // Until the store is poisoned, or until the result is there.
            loop {
                match bench.store.begin(&key("k"), Fingerprint::of("request")) {
                    Ok(Begin::InFlight(_)) => {}
                    answer => return matches!(answer, Ok(Begin::Fresh(_))),
                }
            }
        };
        thread::scope(|scope| {
            let asking = [(); 4].map(|()| scope.spawn(ask));
            let completed = permit.complete_with(|transaction| {
                put(transaction, "k", "row");
                let after = round % 3;
                bench.disk.fail(Fault { after, for_good: true, ..fault(Op::VaultSync) });
                Ok::<_, Infallible>("row")
            });
            failed += usize::from(completed.is_err());
            for asked in asking {
                given += usize::from(asked.join().expect("the thread ends"));
            }
        });
    }
    assert!(400 < failed, "only {failed} commits have failed");
    assert_eq!(given, 0);
}

#[test]
fn a_log_that_fails_under_a_closure_costs_nothing_that_is_acknowledged() {
    let bench = Bench::new();
    bench.complete("before", "request", "result");
    let other = bench.begin("other", "request").fresh();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "k", "row");
        bench.disk.fail(fault(Op::Sync));
        let failed = thread::scope(|scope| scope.spawn(|| other.start()).join());
        let failed = failed.expect("the thread ends");
        assert!(matches!(failed, Err(Error::OutcomeUnknown(_))), "{failed:?}");
        Ok::<_, Infallible>("row")
    });
    // The vault is well, so either answer would do, as long as it is true.
    let acknowledged = completed.is_ok();
    let bench = bench.cut(|_| 0);
    bench.begin("before", "request").replay();
    bench.begin("other", "request").fresh();
    let replays = matches!(bench.begin("k", "request"), Begin::Replay(_));
    assert_eq!(row(&bench.store, "k").is_some(), replays);
    assert!(replays || !acknowledged);
}

#[test]
fn a_closure_that_passes_over_a_failed_disk_is_not_committed() {
    let bench = Bench::new();
    let large = "row".repeat(100_000);
    complete_with_row(bench.begin("settled", "request").fresh(), "settled", "result");
    // A page cache that is empty, so that the closure has to read.
    let bench = bench.reopen();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        bench.disk.fail(Fault { for_good: true, ..fault(Op::Any) });
        // Whatever this says. It is more than redb keeps in memory before it writes.
        for step in 0..20 {
            drop(write_row(transaction, &format!("{step}"), &large));
        }
        Ok::<_, Infallible>("result")
    });
    assert!(completed.is_err());
    bench.disk.heal();
    let bench = bench.kill();
    bench.begin("settled", "request").replay();
    bench.begin("k", "request").fresh();
    assert_eq!(rows(&bench.store).len(), 1);
}

#[test]
fn a_reader_finds_a_failed_disk_out_by_an_error() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
    }
    let bench = bench.reopen();
    let reading = bench.store.read_transaction().expect("the store is open");
    bench.disk.fail(Fault { for_good: true, ..fault(Op::Read) });
    if let Ok(count) = read_on(&reading) {
        assert_eq!(count, 20);
    }
}

// Crashes.

/// What a step of the crash tests does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Row and result, in one transaction.
    Row,
    /// A transaction that writes its row, and then fails.
    Refused,
    /// Row only, in a transaction without a key.
    Written,
    /// Started and completed by the log.
    Logged,
    Abandoned,
    /// Started, and left so.
    Left,
}

const STEPS: [Step; 16] = [
    Step::Row,
    Step::Logged,
    Step::Refused,
    Step::Row,
    Step::Abandoned,
    Step::Left,
    Step::Row,
    Step::Logged,
    Step::Row,
    Step::Refused,
    Step::Written,
    Step::Logged,
    Step::Abandoned,
    Step::Row,
    Step::Left,
    Step::Row,
];

fn name(step: usize) -> String {
    format!("key {step}")
}

/// Of every length: beside its record as well as within it.
fn result(step: usize) -> String {
    name(step).repeat(1 + step * 20)
}

/// The steps that were begun, and whether they were acknowledged.
type Progress = BTreeMap<usize, bool>;

/// Takes all steps until the disk fails, and notes what was acknowledged.
fn work(store: &Store, progress: &mut Progress) -> Result<(), Box<dyn std::error::Error>> {
    for (step, kind) in STEPS.into_iter().enumerate() {
        progress.insert(step, false);
        take(store, step, kind)?;
        progress.insert(step, true);
        if step == 8 {
            store.settle()?;
        }
    }
    Ok(())
}

fn take(store: &Store, step: usize, kind: Step) -> Result<(), Box<dyn std::error::Error>> {
    let (name, result) = (name(step), result(step));
    let write = |transaction: &Transaction<'_>| -> Result<String, redb::Error> {
        write_row(transaction, &name, &result)?;
        Ok(result.clone())
    };
    if kind == Step::Written {
        store.transaction(write)?;
        return Ok(());
    }
    let Begin::Fresh(permit) = store.begin(&key(&name), Fingerprint::of(&name))? else {
        return Err("it is not fresh".into());
    };
    match kind {
        Step::Row => drop(permit.complete_with(write)?),
        Step::Refused => {
            let refused = permit.complete_with(|transaction| match write(transaction) {
                Ok(_) => Err::<&str, _>(None),
                Err(error) => Err(Some(error)),
            });
            match refused {
                Err(TransactionError::Operation(None)) => {}
                Err(error) => return Err(format!("{error:?}").into()),
                Ok(_) => panic!("it is refused"),
            }
        }
        Step::Logged => drop(permit.start()?.complete(&result).map_err(|error| error.to_string())?),
        Step::Abandoned => permit.start()?.abandon()?,
        Step::Left | Step::Written => drop(permit.start()?),
    }
    Ok(())
}

/// What each step must have left, and that it can be finished now, once.
fn check(disk: SimDisk, clock: &ManualClock, progress: &Progress) {
    let store = builder(clock).open_on(disk).expect("the store opens after every crash");
    let rows = rows(&store);
    for (step, kind) in STEPS.into_iter().enumerate() {
        let name = name(step);
        let (asked, done) = (progress.contains_key(&step), progress.get(&step) == Some(&true));
        let row = rows.get(&name).map(String::as_str);
        let begin = store.begin(&key(&name), Fingerprint::of(&name)).expect("begin answers");
        let result_is_there = match &begin {
            Begin::Replay(completed) => {
                assert_eq!(completed.result(), result(step).as_bytes(), "{name}");
                asked
            }
            _ => false,
        };
        let right = match (kind, &begin) {
            // The one is there if the other is.
            (Step::Row, Begin::Replay(_)) => result_is_there && row == Some(&*result(step)),
            (Step::Written, Begin::Fresh(_)) => match row {
                Some(row) => asked && row == result(step),
                None => !done,
            },
            (Step::Logged, Begin::Replay(_)) => result_is_there && row.is_none(),
            // A start that was not acknowledged may have become durable all the same.
            (Step::Row | Step::Logged | Step::Left, Begin::Fresh(_))
            | (Step::Logged | Step::Abandoned, Begin::Interrupted(_)) => !done && row.is_none(),
            (Step::Refused | Step::Abandoned, Begin::Fresh(_)) => row.is_none(),
            (Step::Left, Begin::Interrupted(_)) => asked && row.is_none(),
            _ => false,
        };
        assert!(right, "{kind:?}, step {step} of {progress:?}: {begin:?} and {row:?}");
        if kind == Step::Row
            && let Begin::Fresh(permit) = begin
        {
            complete_with_row(permit, &name, &result(step));
        }
    }
    let rows_of = |rows: &BTreeMap<String, String>, kind| {
        STEPS
            .iter()
            .enumerate()
            .filter(|(step, is)| **is == kind && rows.contains_key(&name(*step)))
            .count()
    };
    let written = rows_of(&rows, Step::Written);
    let rows = self::rows(&store);
    assert_eq!((rows_of(&rows, Step::Row), rows.len()), (6, 6 + written));
    store.close().expect("the store closes");
}

/// Takes all steps until the disk fails so. Returns whether it failed at all.
fn crash(fault: Fault, images: impl Fn(&SimDisk) -> Vec<SimDisk>) -> bool {
    let disk = SimDisk::new();
    let clock = manual_clock();
    let mut progress = Progress::new();
    disk.fail(fault);
    let worked = match builder(&clock).open_on(disk.clone()) {
        Ok(store) => {
            let worked = work(&store, &mut progress).is_ok();
            store.close().is_ok() && worked
        }
        Err(_) => false,
    };
    for image in images(&disk) {
        check(image, &clock, &progress);
    }
    !worked
}

fn cuts(disk: &SimDisk) -> Vec<SimDisk> {
    (0..size("CRASH_IMAGES", 6))
        .map(|image| {
            let mut seed = splitmix(image);
            disk.after_power_cut(|below| {
                seed = splitmix(seed);
                seed % below
            })
        })
        .collect()
}

#[test]
fn rows_and_results_agree_after_a_kill_at_every_write() {
    let mut writes = 0;
    let fault = |after| Fault { after, for_good: true, ..fault(Op::Any) };
    while crash(fault(writes), |disk| vec![disk.after_kill()]) {
        writes += 1;
    }
    assert!(100 < writes, "only {writes} writes");
}

#[test]
fn rows_and_results_agree_after_a_power_cut_at_every_write() {
    let mut writes = 0;
    let fault = |after| Fault { after, for_good: true, ..fault(Op::Any) };
    while crash(fault(writes), cuts) {
        writes += 1;
    }
    assert!(100 < writes, "only {writes} writes");
}

#[test]
fn rows_and_results_agree_after_every_failed_operation() {
    for on in [Op::Any, Op::Read, Op::Sync, Op::VaultSync, Op::SetLen] {
        for after in 0.. {
            let failed = crash(Fault { after, ..fault(on) }, |disk| {
                // The disk is well again, and what was written is there.
                disk.heal();
                vec![disk.clone()]
            });
            if !failed {
                assert!(on != Op::Any || 100 < after, "only {after} operations");
                break;
            }
        }
    }
}

#[test]
fn rows_and_results_agree_after_a_power_cut_during_recovery() {
    let (disk, clock) = (SimDisk::new(), manual_clock());
    let mut progress = Progress::new();
    let store = builder(&clock).open_on(disk.clone()).expect("the store opens");
    work(&store, &mut progress).expect("the disk is well");
    let crashed = disk.after_kill();
    for after in 0.. {
        let again = crashed.after_kill();
        again.fail(Fault { after, for_good: true, ..fault(Op::Any) });
        let opened = builder(&clock).open_on(again.clone()).is_ok();
        for image in cuts(&again) {
            check(image, &clock, &progress);
        }
        if opened {
            assert!(5 < after, "only {after} writes");
            break;
        }
    }
}

#[test]
fn rows_and_results_agree_with_many_threads_on_a_disk_that_fails() {
    let mut all = 0;
    for after in (0..200).step_by(4) {
        let bench = Bench::new();
        bench.disk.fail(Fault { after, for_good: true, ..fault(Op::Sync) });
        let acknowledged = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for thread in 0..6 {
                let (bench, acknowledged) = (&bench, &acknowledged);
                scope.spawn(move || {
                    for step in 0.. {
                        let name = format!("{thread} {step}");
                        let begin = bench.store.begin(&key(&name), Fingerprint::of("request"));
                        let Ok(Begin::Fresh(permit)) = begin else { return };
                        let done = if thread % 2 == 0 {
                            let write = |transaction: &Transaction<'_>| {
                                write_row(transaction, &name, &name).map(|()| &name)
                            };
                            permit.complete_with(write).is_ok()
                        } else {
                            permit.complete(&name).is_ok()
                        };
                        if !done {
                            return;
                        }
                        acknowledged.lock().expect("no thread panics").push(name);
                    }
                });
            }
        });
        let bench = bench.cut(|_| 0);
        let rows = rows(&bench.store);
        let acknowledged = acknowledged.into_inner().expect("no thread panics");
        for name in &acknowledged {
            assert_eq!(bench.begin(name, "request").replay().result(), name.as_bytes());
            let has_row = ["0", "2", "4"].contains(&&name[..1]);
            assert_eq!(rows.contains_key(name), has_row, "{name}");
        }
        for name in rows.keys() {
            bench.begin(name, "request").replay();
        }
        all += acknowledged.len();
    }
    assert!(200 < all, "only {all} were acknowledged");
}

const ACCOUNTS: TableDefinition<u64, u64> = TableDefinition::new("accounts");

/// Moves money from one account to the next; `None` if there is too little, once it has written.
fn transfer(transaction: &Transaction<'_>, seed: u64) -> Result<Option<String>, redb::Error> {
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    let (to, from, cents) = (seed % 4, (seed + 1) % 4, seed % 60);
    let balance = accounts.get(to)?.map_or(0, |balance| balance.value()) + cents;
    accounts.insert(to, balance)?;
    let balance = accounts.get(from)?.map_or(0, |balance| balance.value());
    let Some(balance) = balance.checked_sub(cents) else { return Ok(None) };
    accounts.insert(from, balance)?;
    Ok(Some(format!("{balance}")))
}

#[test]
fn money_is_conserved_among_threads_with_a_background_thread() {
    let builder = Store::builder().log_bytes(64 * 1024).result_len_max(1024);
    let store = builder.open_on(SimDisk::new()).expect("the store opens");
    let fill = |transaction: &Transaction<'_>| -> Result<(), redb::Error> {
        let mut accounts = transaction.open_table(ACCOUNTS)?;
        (0..4).try_for_each(|account| accounts.insert(account, 100).map(drop))?;
        Ok(())
    };
    store.transaction(fill).expect("it is committed");
    let (applied, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = |thread: u64| {
        for step in 0..100 {
            // Two threads have the same keys.
            let name = key(&format!("{} {step}", thread % 2));
            if let Begin::Fresh(permit) = begin(&store, &name) {
                let seed = splitmix(step);
                let completed =
                    permit.complete_with(|transaction| match transfer(transaction, seed) {
                        Ok(receipt) => receipt.ok_or(None),
                        Err(error) => Err(Some(error)),
                    });
                let count = match completed {
                    Ok(_) => &applied,
                    Err(TransactionError::Operation(None)) => &refused,
                    Err(error) => panic!("{error:?}"),
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
            let execution = begin(&store, &key(&format!("log {thread} {step}"))).started();
            execution.complete([7; 300]).expect("it completes");
        }
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || client(thread));
        }
    });
    assert!(applied.into_inner() <= 200);
    assert!(0 < refused.into_inner(), "there was always enough money");
    let reading = store.read_transaction().expect("the store is open");
    let accounts = reading.open_table(ACCOUNTS).expect("it is there");
    let balances = accounts.iter().expect("redb works");
    let balances = balances.map(|row| row.expect("redb works").1.value());
    assert_eq!(balances.sum::<u64>(), 400);
}

fn begin(store: &Store, key: &idemstore::Key) -> Begin {
    store.begin(key, Fingerprint::NONE).expect("begin answers")
}

/// The file is redb's, and any program that has redb can read the caller's tables.
#[test]
fn the_rows_are_in_a_file_of_redb() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = Store::open(directory.path()).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    complete_with_row(begin.fresh(), "k", "result");
    store.close().expect("the store closes");
    let database = redb::Database::open(directory.path().join("vault.redb")).expect("redb works");
    let reading = database.begin_read().expect("redb works");
    let rows = reading.open_table(ROWS).expect("it is there");
    assert_eq!(rows.get("k").expect("redb works").expect("it is there").value(), "result");
}
