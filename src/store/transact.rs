//! The caller's own tables, in the store's redb file.

use super::Store;
use crate::error::{Error, TransactionError};
use crate::local::vault::Transaction;

impl Store {
    /// Writes tables of the caller's own in one transaction of the store's redb file, without any
    /// key. It is for what is written beside the operations, such as the first content of a table;
    /// an operation's own data belongs in
    /// [`Permit::complete_with`](crate::Permit::complete_with), whose rules hold here too.
    ///
    /// Returns once it is durable.
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
    /// [`TransactionError`]. Unless the outcome is unknown, nothing of it is stored.
    #[doc(alias = "write")]
    pub fn transaction<T, E>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        self.engine.journal.transact(&[], |transaction| {
            Ok((write(transaction).map_err(TransactionError::Operation)?, None))
        })
    }

    /// A snapshot of the store's redb file, to read tables of the caller's own with.
    ///
    /// **Drop it soon: while it lives, the file grows** with each settle and each sweep, since the room
    /// of what is deleted cannot be used again. One that was kept open made a file eight times as
    /// large within six rounds of new keys for old ones. When
    /// the store is closed or compacted, it can read no more, and a store that is closed cannot be
    /// opened again before its last reader is gone.
    ///
    /// # Errors
    ///
    /// `Closed`, `Storage` and `Corrupt` of [`Error`].
    pub fn read_transaction(&self) -> Result<redb::ReadTransaction, Error> {
        self.engine.journal.read_transaction()
    }
}
