//! Transactions that the store shares with its caller.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use idemstore::redb::{ReadableTable, TableDefinition, TableError};
use idemstore::{Error, Store, Transaction, TransactionError};

use super::{Bench, Handle, World, fits, result};
use crate::support::ops::{Len, Shared, SharedEnd};

/// The caller's own table.
const ROWS: TableDefinition<u8, u8> = TableDefinition::new("rows");
/// One of the store's.
const RESERVED: TableDefinition<u64, &[u8]> = TableDefinition::new("results");

#[derive(Debug)]
struct Refused;

impl World {
    pub(super) fn complete_with(&mut self, key: u8, handle: Handle, len: Len, shared: Shared) {
        let Handle::Permit(permit, known) = handle else {
            return self.handles.push((key, handle));
        };
        let (store, result) = (self.bench().store.clone(), result(key, len));
        let answer = catch_unwind(AssertUnwindSafe(|| {
            permit.complete_with(|transaction| {
                operate(&store, transaction, shared).map(|()| result.clone())
            })
        }));
        match (answer, shared.end) {
            (Ok(Ok(completed)), SharedEnd::Commit) => {
                self.rows.insert(shared.row, shared.value);
                self.completed(key, *known, result, &completed);
            }
            (Ok(Err(TransactionError::TooLarge { .. })), SharedEnd::Commit) => {
                assert!(!fits(&result));
                self.free(key);
            }
            (Ok(Err(error)), end) if is_end(&error, end) => self.free(key),
            (Err(_), SharedEnd::Panic) => self.free(key),
            (answer, end) => panic!("{answer:?} in place of {end:?}"),
        }
    }

    pub(super) fn write(&mut self, shared: Shared) {
        let store = self.bench().store.clone();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            store.write(|transaction| operate(&store, transaction, shared))
        }));
        match (answer, shared.end) {
            (Ok(Ok(())), SharedEnd::Commit) => {
                self.rows.insert(shared.row, shared.value);
            }
            (Ok(Err(error)), end) if is_end(&error, end) => {}
            (Err(_), SharedEnd::Panic) => {}
            (answer, end) => panic!("{answer:?} in place of {end:?}"),
        }
    }

    pub(super) fn check_rows(&self) {
        let rows = rows(self.bench());
        assert!(rows.iter().copied().eq(self.rows.iter().map(|(row, value)| (*row, *value))));
    }
}

/// The caller's part of the transaction.
fn operate(store: &Store, transaction: &Transaction<'_>, shared: Shared) -> Result<(), Refused> {
    let mut rows = transaction.open_table(ROWS).expect("the table opens");
    rows.insert(shared.row, shared.value).expect("the row is written");
    // A call that would wait for this very transaction is refused.
    assert!(matches!(store.settle(), Err(Error::InTransaction)));
    match shared.end {
        SharedEnd::Commit => Ok(()),
        SharedEnd::Refuse => Err(Refused),
        SharedEnd::Panic => resume_unwind(Box::new("the operation panics")),
        SharedEnd::Reserved => {
            assert!(transaction.open_table(RESERVED).is_err());
            Ok(())
        }
    }
}

fn is_end(error: &TransactionError<Refused>, end: SharedEnd) -> bool {
    matches!(
        (error, end),
        (TransactionError::Operation(Refused), SharedEnd::Refuse)
            | (TransactionError::ReservedTable, SharedEnd::Reserved)
    )
}

/// The caller's own table as the store has it.
fn rows(bench: &Bench) -> Vec<(u8, u8)> {
    let transaction = bench.store.read_transaction().expect("it can be read");
    let table = match transaction.open_table(ROWS) {
        Err(TableError::TableDoesNotExist(_)) => return Vec::new(),
        table => table.expect("the table opens"),
    };
    table
        .iter()
        .expect("it can be read")
        .map(|row| {
            let (row, value) = row.expect("it can be read");
            (row.value(), value.value())
        })
        .collect()
}
