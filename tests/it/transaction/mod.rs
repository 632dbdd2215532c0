//! The caller's own tables in the store's file: a transaction's writes and the result that it
//! returns are stored together, or not at all.

mod crashes;
mod faults;
mod inside;
mod log;
mod reading;
mod refused;
mod states;
mod together;

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

/// What the tests write besides their results: a row for each operation, and the number of rows.
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

/// Completes an operation whose row has the same contents as its result.
fn complete_with_row(permit: Permit, name: &str, result: &str) -> Completed {
    permit
        .complete_with(|transaction| {
            put(transaction, name, result);
            Ok::<_, Infallible>(result)
        })
        .expect("it is committed")
}

/// All rows, after comparing their number with the count of writes.
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

/// The key is free and without a row, and both can be created now.
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

/// Reads everything that a transaction can still show. It may fail, and must not panic.
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

fn manual_clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(START_MS))
}
