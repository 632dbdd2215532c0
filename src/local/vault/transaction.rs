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
/// [`Store::transaction`](crate::Store::transaction) give it to a closure, and commit it when the closure
/// returns `Ok`. The tables `records`, `results`,
/// `idemstore-doubts` and `meta` are the store's, and are refused.
pub struct Transaction<'t> {
    inner: &'t WriteTransaction,
    /// Whether one of the store's own tables was asked for.
    reserved: Cell<bool>,
}

impl Transaction<'_> {
    /// Opens a table, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// As redb says. A table of the store's is already open to it, and fails as such; the
    /// transaction is not committed then, whatever the closure returns.
    #[track_caller]
    pub fn open_table<'txn, K: Key + 'static, V: Value + 'static>(
        &'txn self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Table<'txn, K, V>, TableError> {
        self.check(definition.name())?;
        self.inner.open_table(definition)
    }

    /// Opens a multimap table, and makes it if it is not there.
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

    /// Deletes a table, and says whether there was one.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open_table`].
    #[track_caller]
    pub fn delete_table(&self, definition: impl TableHandle) -> Result<bool, TableError> {
        self.check(definition.name())?;
        self.inner.delete_table(definition)
    }

    /// Deletes a multimap table, and says whether there was one.
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
    /// The caller said so.
    Caller(E),
    /// The caller asked for a table of the store's.
    Reserved,
    /// The caller left a table open, or went on after redb had failed it.
    Unfinished,
    /// redb failed before.
    Failed(StorageError),
    /// redb failed while it was committed: whether it is durable is not known.
    Unknown(StorageError),
}

impl<E> From<Failure> for Uncommitted<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}

impl Vault {
    /// A transaction to read the caller's own tables with.
    pub(crate) fn read_transaction(&self) -> Result<ReadTransaction, Error> {
        Ok(self.with(|open| Ok(open.database.begin_read()?))?)
    }

    /// Settles these changes, what `own` writes into the caller's tables, and the change that it
    /// gives, in one transaction, or nothing of it.
    ///
    /// If redb fails, `poison` is called before anything of the caller's is dropped: what that
    /// lets go of must not be given out as if nothing were known of it.
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
                // Not left to a drop, which leaks the transaction's pages while a panic unwinds.
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
            // redb has rolled it back. A table that was leaked still holds the right to write, for
            // good, so nobody must ask for that again.
            Err(failure @ Failure::Redb(redb::Error::TransactionPoisoned)) => {
                poisoned(failure);
                Err(Uncommitted::Unfinished)
            }
            Err(failure) => Err(Uncommitted::Unknown(poisoned(failure))),
        }
    }
}

/// Why the caller's part of a transaction is not to be committed.
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
