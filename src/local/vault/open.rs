//! The vault's file while it is open.

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, TableError, WriteTransaction,
};

use super::{Backend, DOUBTS, Meta, RECORDS, RESULTS, RowKey, contained, corrupt, damaged};
use crate::error::OpenError;
use crate::sync::{Arc, Mutex};

pub(super) struct Open {
    /// The tables as they were last committed, cached at the first read. A commit clears this
    /// before its caller returns, so that later reads see the change.
    tables: Mutex<Option<Arc<Tables>>>,
    pub(super) database: Database,
    pub(super) backend: Backend,
}

/// The tables as of one commit. Opening them takes as long as reading a record from them.
pub(super) struct Tables {
    pub(super) records: ReadOnlyTable<RowKey, &'static [u8]>,
    pub(super) results: ReadOnlyTable<u64, &'static [u8]>,
}

impl Open {
    /// Opens the vault in this file, which redb reads as a whole to check it.
    pub(super) fn checked(backend: Backend, cache: usize) -> Result<Self, redb::Error> {
        Self::new(redb::Builder::new().set_check_integrity_on_open(true), backend, cache)
    }

    /// Opens the vault in a file that was just checked, and that only this process has written
    /// since.
    pub(super) fn trusted(backend: Backend, cache: usize) -> Result<Self, redb::Error> {
        Self::new(&mut redb::Builder::new(), backend, cache)
    }

    fn new(
        builder: &mut redb::Builder,
        backend: Backend,
        cache: usize,
    ) -> Result<Self, redb::Error> {
        let database = builder.set_cache_size(cache).create_with_backend(backend.clone())?;
        Ok(Self { tables: Mutex::new(None), database, backend })
    }

    /// Checks that all tables of a store exist. A missing table would be created again, empty, and
    /// every key would be free.
    pub(super) fn check_tables(&self, meta: &Meta) -> Result<(), OpenError> {
        let looked = contained(|| {
            let transaction = self.database.begin_read()?;
            let missing = |error: TableError| match error {
                TableError::Storage(error) => redb::Error::from(error),
                _ => damaged("one of its tables is missing, or has other types"),
            };
            transaction.open_table(RECORDS).map_err(missing)?;
            transaction.open_table(RESULTS).map_err(missing)?;
            if !meta.is_current {
                return Ok(0);
            }
            Ok(transaction.open_table(DOUBTS).map_err(missing)?.len()?)
        });
        if 0 < looked? {
            Err(corrupt("it has doubts, which need a later version of idemstore"))
        } else {
            Ok(())
        }
    }

    pub(super) fn close(self) -> Result<(), redb::Error> {
        let Self { tables, database, .. } = self;
        drop(tables);
        Ok(database.close()?)
    }

    pub(super) fn tables(&self) -> Result<Arc<Tables>, redb::Error> {
        let mut latest = self.tables.lock();
        if let Some(tables) = &*latest {
            return Ok(Arc::clone(tables));
        }
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let results = transaction.open_table(RESULTS)?;
        Ok(Arc::clone(latest.insert(Arc::new(Tables { records, results }))))
    }

    pub(super) fn commit(
        &self,
        transaction: WriteTransaction,
        meta: &Meta,
    ) -> Result<(), redb::Error> {
        meta.write(&transaction)?;
        let committed = transaction.commit();
        self.tables.lock().take();
        Ok(committed?)
    }
}
