//! The caller's own tables, in the store's redb file.

use super::Store;
use crate::error::{Error, TransactionError};
use crate::local::vault::Transaction;

impl Store {
    /// Writes the caller's own tables in one transaction of the store's redb file, without any key.
    /// Use it for data that isn't part of an operation, such as the initial content of a table. The
    /// data of an operation belongs in [`Permit::complete_with`](crate::Permit::complete_with),
    /// whose rules apply here too.
    ///
    /// Returns once the transaction is durable.
    ///
    /// ```
    /// use idemstore::redb::{ReadableTable, TableDefinition};
    /// # use idemstore::Store;
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    ///
    /// const STOCK: TableDefinition<&str, u64> = TableDefinition::new("stock");
    ///
    /// store.transaction(|transaction| {
    ///     let mut stock = transaction.open_table(STOCK)?;
    ///     if stock.get("apples")?.is_none() {
    ///         stock.insert("apples", 10)?;
    ///     }
    ///     Ok::<_, idemstore::redb::Error>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TransactionError`]. Unless the outcome is unknown, nothing of the transaction is stored.
    #[doc(alias = "write")]
    pub fn transaction<T, E>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        self.engine.journal.transact(&[], |transaction| {
            Ok((write(transaction).map_err(TransactionError::Operation)?, None))
        })
    }

    /// Returns a snapshot of the store's redb file, for reading the caller's own tables.
    ///
    /// **Drop it soon: while it's alive, the file grows** with each settle and each sweep, because
    /// the room of deleted records can't be reused. A snapshot that was kept open made a file eight
    /// times as large within six rounds of replacing all keys. After the store is closed or
    /// compacted, the snapshot can't read any more; and a closed store can't be opened again until
    /// its last reader is gone.
    ///
    /// # Errors
    ///
    /// `Closed`, `Storage` or `Corrupt` of [`Error`].
    pub fn read_transaction(&self) -> Result<redb::ReadTransaction, Error> {
        self.engine.journal.read_transaction()
    }
}
