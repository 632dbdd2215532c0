//! Transactions that the store shares with its caller.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use idemstore::redb::{AccessGuard, ReadableTable, TableDefinition, TableError};
use idemstore::{Error, Store, Transaction, TransactionError};

use super::unsaid::{Unsaid, is_unknown};
use super::{Bench, Done, Handle, Known, World, fits, result};
use crate::support::ops::{Len, Shared, SharedEnd};

/// The caller's own table.
const ROWS: TableDefinition<u8, u8> = TableDefinition::new("rows");
/// One of the store's own tables.
const RESERVED: TableDefinition<u64, &[u8]> = TableDefinition::new("results");

/// Why the caller's part was not done.
#[derive(Debug)]
enum Refused {
    Asked,
    Failed,
}

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
            (Ok(Err(failure)), _) => {
                let done = self.finished(*known, Done::Result(result));
                self.transaction_failed(Some((key, Some(done))), shared, &failure);
                self.let_go(key);
            }
            (answer, end) => panic!("{answer:?} instead of {end:?}"),
        }
    }

    pub(super) fn write(&mut self, shared: Shared) {
        let store = self.bench().store.clone();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            store.transaction(|transaction| operate(&store, transaction, shared))
        }));
        match (answer, shared.end) {
            (Ok(Ok(())), SharedEnd::Commit) => {
                self.rows.insert(shared.row, shared.value);
            }
            (Ok(Err(error)), end) if is_end(&error, end) => {}
            (Err(_), SharedEnd::Panic) => {}
            (Ok(Err(failure)), _) => self.transaction_failed(None, shared, &failure),
            (answer, end) => panic!("{answer:?} instead of {end:?}"),
        }
    }

    /// A transaction was not committed because the disk has failed.
    fn transaction_failed(
        &mut self,
        key: Option<(u8, Option<Known>)>,
        shared: Shared,
        failure: &TransactionError<Refused>,
    ) {
        if let TransactionError::Operation(Refused::Failed) | TransactionError::Unfinished = failure
        {
            return assert!(self.disk_has_failed(), "{failure:?}");
        }
        assert!(self.has_failed(failure), "{failure:?}");
        if is_unknown(failure) {
            assert!(matches!(shared.end, SharedEnd::Commit), "{failure:?}");
            self.unsaid.push(Unsaid { key, row: Some((shared.row, shared.value)) });
        }
    }

    pub(super) fn check_rows(&self) {
        match rows(self.bench()) {
            Ok(rows) => {
                let expected = self.rows.iter().map(|(row, value)| (*row, *value));
                assert!(rows.iter().copied().eq(expected), "{rows:?}");
            }
            Err(error) => assert!(self.disk_has_failed(), "{error}"),
        }
    }

    /// Whether the row has its new value or its old one; `None` if these are the same.
    pub(super) fn decide_row(&self, (row, next): (u8, u8)) -> Option<bool> {
        let rows: BTreeMap<_, _> =
            rows(self.bench()).expect("it can be read").into_iter().collect();
        let (found, before) = (rows.get(&row), self.rows.get(&row));
        assert!(found == before || found == Some(&next), "{found:?} instead of {before:?}");
        (before != Some(&next)).then(|| found == Some(&next))
    }
}

/// The caller's part of the transaction.
fn operate(store: &Store, transaction: &Transaction<'_>, shared: Shared) -> Result<(), Refused> {
    let mut rows = transaction.open_table(ROWS).map_err(|_| Refused::Failed)?;
    rows.insert(shared.row, shared.value).map_err(|_| Refused::Failed)?;
    // A call that would wait for this very transaction is refused.
    assert!(matches!(store.settle(), Err(Error::InTransaction)));
    match shared.end {
        SharedEnd::Commit => Ok(()),
        SharedEnd::Refuse => Err(Refused::Asked),
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
        (TransactionError::Operation(Refused::Asked), SharedEnd::Refuse)
            | (TransactionError::ReservedTable, SharedEnd::Reserved)
    )
}

/// The caller's own table, as the store has it.
fn rows(bench: &Bench) -> Result<Vec<(u8, u8)>, Box<dyn std::error::Error>> {
    let table = match bench.store.read_transaction()?.open_table(ROWS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let row = |row: Result<(AccessGuard<'_, u8>, AccessGuard<'_, u8>), _>| {
        let (row, value) = row?;
        Ok((row.value(), value.value()))
    };
    table.iter()?.map(row).collect()
}
