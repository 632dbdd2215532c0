//! A redb transaction that the store shares with its caller.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

use redb::{
    Key, MultimapTable, MultimapTableDefinition, MultimapTableHandle, ReadTransaction,
    ReadableDatabase, Table, TableDefinition, TableError, TableHandle, Value, WriteTransaction,
};

use super::{DOUBTS, Failure, Meta, RECORDS, RESULTS, Vault, contained, meta, place, safest};
use crate::error::{Error, StorageError};
use crate::local::change::{ChangeKind, RecordId};
use crate::rules::record::Record;

/// A write transaction of the store's own redb file, for the caller's own tables.
///
/// [`Permit::complete_with`](crate::Permit::complete_with) and
/// [`Store::transaction`](crate::Store::transaction) pass it to a closure, and commit it when the
/// closure returns `Ok`. The tables `records`, `results`, `idemstore-doubts` and `meta` belong to
/// the store, and cannot be opened or deleted.
pub struct Transaction<'t> {
    inner: &'t WriteTransaction,
    /// Whether the caller asked for one of the store's own tables.
    reserved: Cell<bool>,
}

impl Transaction<'_> {
    /// Opens a table, and creates it if it doesn't exist.
    ///
    /// # Errors
    ///
    /// Any error of redb. For one of the store's own tables it is `TableAlreadyOpen`, and the
    /// transaction isn't committed then, whatever the closure returns.
    #[track_caller]
    pub fn open_table<'txn, K: Key + 'static, V: Value + 'static>(
        &'txn self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Table<'txn, K, V>, TableError> {
        self.check(definition.name())?;
        self.inner.open_table(definition)
    }

    /// Opens a multimap table, and creates it if it doesn't exist.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open_table`].
    #[track_caller]
    pub fn open_multimap_table<'txn, K: Key + 'static, V: Key + 'static>(
        &'txn self,
        definition: MultimapTableDefinition<'_, K, V>,
    ) -> Result<MultimapTable<'txn, K, V>, TableError> {
        self.check(definition.name())?;
        self.inner.open_multimap_table(definition)
    }

    /// Deletes a table, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open_table`].
    #[track_caller]
    pub fn delete_table(&self, definition: impl TableHandle) -> Result<bool, TableError> {
        self.check(definition.name())?;
        self.inner.delete_table(definition)
    }

    /// Deletes a multimap table, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open_table`].
    #[track_caller]
    pub fn delete_multimap_table(
        &self,
        definition: impl MultimapTableHandle,
    ) -> Result<bool, TableError> {
        self.check(definition.name())?;
        self.inner.delete_multimap_table(definition)
    }

    #[track_caller]
    fn check(&self, name: &str) -> Result<(), TableError> {
        let own = [RECORDS.name(), RESULTS.name(), DOUBTS.name(), meta::META.name()];
        if own.contains(&name) {
            self.reserved.set(true);
            return Err(TableError::TableAlreadyOpen(name.to_owned(), Location::caller()));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// Why a shared transaction was not committed.
pub(crate) enum Uncommitted<E> {
    /// The caller returned an error.
    Caller(E),
    /// The caller asked for one of the store's own tables.
    Reserved,
    /// The caller left a table open, or continued after a call to redb had failed.
    Unfinished,
    /// redb failed before the commit.
    Failed(StorageError),
    /// redb failed during the commit, so it's unknown whether the transaction is durable.
    Unknown(StorageError),
}

impl<E> From<Failure> for Uncommitted<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}

impl Vault {
    /// A transaction for reading the caller's own tables.
    pub(crate) fn read_transaction(&self) -> Result<ReadTransaction, Error> {
        Ok(self.with(|open| Ok(open.database.begin_read()?))?)
    }

    /// Settles these changes, what `own` writes into the caller's tables, and the caller's own
    /// change, in one transaction, or none of it.
    ///
    /// If redb fails, `poison` is called before anything of the caller's is dropped: a key that
    /// this releases must not be given out as if nothing were known of it.
    pub(crate) fn settle_with<'r, R, E>(
        &self,
        changes: impl IntoIterator<Item = (RecordId, Option<&'r Record>)>,
        meta: impl FnOnce() -> Meta,
        own: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
        own_change: impl FnOnce(&R) -> Option<&ChangeKind>,
        poison: impl Fn(&StorageError),
    ) -> Result<R, Uncommitted<E>> {
        let open = self.open.read();
        let open = open.as_ref().ok_or(Failure::Closed)?;
        let poisoned = |failure: Failure| -> StorageError {
            let error = failure.into();
            poison(&error);
            error
        };
        let transaction = contained(|| safest(&open.database))
            .map_err(|failure| Uncommitted::Failed(poisoned(failure)))?;
        let written = match run(&transaction, own) {
            Ok(written) => written,
            Err(refusal) => {
                // Don't leave this to a drop, which leaks the transaction's pages while a panic
                // unwinds.
                let aborted = contained(|| Ok(transaction.abort()?)).map_err(poisoned);
                return Err(match refusal {
                    Refusal::Panic(panic) => resume_unwind(panic),
                    Refusal::Caller(error) => Uncommitted::Caller(error),
                    Refusal::Reserved => {
                        aborted.map_or_else(Uncommitted::Failed, |()| Uncommitted::Reserved)
                    }
                });
            }
        };
        let committed = contained(|| {
            let mut records = transaction.open_table(RECORDS)?;
            let mut results = transaction.open_table(RESULTS)?;
            for (id, record) in changes {
                place(&mut records, &mut results, id, record)?;
            }
            for (id, record) in own_change(&written).into_iter().flat_map(ChangeKind::places) {
                place(&mut records, &mut results, id, record)?;
            }
            drop((records, results));
            open.commit(transaction, &meta())
        });
        match committed {
            Ok(()) => Ok(written),
            // redb has rolled the transaction back. A leaked table holds the write lock for good,
            // so nobody may ask for that lock again.
            Err(failure @ Failure::Redb(redb::Error::TransactionPoisoned)) => {
                poisoned(failure);
                Err(Uncommitted::Unfinished)
            }
            Err(failure) => Err(Uncommitted::Unknown(poisoned(failure))),
        }
    }
}

/// Why the caller's part of a transaction must not be committed.
enum Refusal<E> {
    Caller(E),
    Reserved,
    Panic(Box<dyn Any + Send>),
}

/// Runs the caller's part.
fn run<R, E>(
    transaction: &WriteTransaction,
    own: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
) -> Result<R, Refusal<E>> {
    let shared = Transaction { inner: transaction, reserved: Cell::new(false) };
    match catch_unwind(AssertUnwindSafe(|| own(&shared))) {
        Err(panic) => Err(Refusal::Panic(panic)),
        Ok(_) if shared.reserved.get() => Err(Refusal::Reserved),
        Ok(Err(error)) => Err(Refusal::Caller(error)),
        Ok(Ok(written)) => Ok(written),
    }
}
