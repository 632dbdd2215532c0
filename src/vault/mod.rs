//! The vault: where records live, in redb. The only folder that names redb.
//!
//! Three tables (`docs/FORMAT.md`): `records` by expiry and serial number, so that new records go
//! in at the right edge and expired ones are cut off at the left; `results` by serial number, for
//! those too long to stand in their record; `meta`. Every commit is redb's safest: two-phase, so
//! that a failed fsync never costs the file, and quick-repair, so that a kill costs no walk
//! through it. Both are dear for a single call, and cheap for the thousands that one settle takes.

mod backend;
mod meta;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

use crate::clock::Timestamp;
use crate::codec::{self, Row};
use crate::disk::Disk;
use crate::error::{Error, OpenError, StorageError};
use crate::record::{Record, RecordId};
use crate::sync::RwLock;
use backend::Backend;
pub(crate) use meta::Meta;

/// Name of the vault's file.
pub(crate) const NAME: &str = "vault.redb";
const NAME_NEW: &str = "vault.redb.new";

/// Expiry in Unix milliseconds, and serial number.
type RowKey = (u64, u64);
const RECORDS: TableDefinition<RowKey, &[u8]> = TableDefinition::new("records");
const RESULTS: TableDefinition<u64, &[u8]> = TableDefinition::new("results");

pub(crate) struct Vault {
    /// `None` once closed.
    database: RwLock<Option<Database>>,
}

/// An expired record, as a sweep meets it.
pub(crate) struct Expired {
    pub(crate) id: RecordId,
    /// Whether its result has a row of its own.
    apart: bool,
}

impl Vault {
    /// Whether the directory has a vault.
    pub(crate) fn exists(disk: &dyn Disk) -> Result<bool, OpenError> {
        match disk.open(NAME) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(open_failed(error)),
        }
    }

    /// Makes an empty vault. It gets its name last, when all of the store is durable: a directory
    /// with this file in it is a whole store.
    pub(crate) fn create(disk: &dyn Disk, cache: usize, meta: &Meta) -> Result<(), OpenError> {
        let file = disk.create(NAME_NEW).map_err(open_failed)?;
        let database = redb::Builder::new()
            .set_cache_size(cache)
            .create_with_backend(Backend(file))
            .map_err(database_failed)?;
        let write = || -> Result<(), redb::Error> {
            let transaction = safest(&database)?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(RESULTS)?;
            meta.write(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        write().map_err(storage_failed)?;
        database.close().map_err(database_failed)?;
        let named = || -> io::Result<()> {
            disk.rename(NAME_NEW, NAME)?;
            disk.sync_names()
        };
        named().map_err(|error| OpenError::io("create the vault", error))
    }

    /// Opens the vault, once redb has read the whole file and found each page as it was written.
    ///
    /// A missing record would mean a second execution, and only a check of the whole file can
    /// tell that nothing is missing (`docs/RELIABILITY.md` has the measurement).
    pub(crate) fn open(disk: &dyn Disk, cache: usize) -> Result<(Self, Meta), OpenError> {
        let file = disk.open(NAME).map_err(open_failed)?;
        // redb would make a new database of an empty file.
        if file.is_empty().map_err(open_failed)? {
            return Err(corrupt("it is empty"));
        }
        let checked = catch_unwind(AssertUnwindSafe(|| {
            redb::Builder::new()
                .set_cache_size(cache)
                .set_check_integrity_on_open(true)
                .create_with_backend(Backend(file))
        }));
        let database = checked.map_err(|_| corrupt("redb could not read it"))?;
        let database = database.map_err(database_failed)?;
        let meta = Meta::read(&database)?;
        Ok((Self { database: RwLock::new(Some(database)) }, meta))
    }

    /// Shows every record to `each`, with its key in framed form.
    pub(crate) fn scan(&self, mut each: impl FnMut(&[u8], RecordId)) -> Result<(), OpenError> {
        let database = self.database.read();
        let Some(database) = &*database else { return Ok(()) };
        let mut scan = || -> Result<bool, redb::Error> {
            let records = database.begin_read()?.open_table(RECORDS)?;
            for row in records.iter()? {
                let (key, value) = row?;
                let Ok(row) = codec::scan_row(value.value()) else { return Ok(false) };
                each(row.framed_key, from_row_key(key.value()));
            }
            Ok(true)
        };
        if scan().map_err(storage_failed)? {
            Ok(())
        } else {
            Err(corrupt("a record cannot be decoded"))
        }
    }

    /// The record at this place, if there is one.
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>, Error> {
        let database = self.database.read();
        let Some(database) = &*database else { return Err(Error::Closed) };
        let damaged = |_| Error::Corrupt { detail: "its checksum is wrong" };
        let failed = |error: redb::Error| Error::Storage(StorageError::new(error));
        let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
        let records = transaction.open_table(RECORDS).map_err(|error| failed(error.into()))?;
        let row = records.get(row_key(id)).map_err(|error| failed(error.into()))?;
        let Some(row) = row else { return Ok(None) };
        match codec::decode_row(id, row.value()).map_err(damaged)? {
            Row::Whole(record) => Ok(Some(record)),
            Row::Apart(apart) => {
                let results =
                    transaction.open_table(RESULTS).map_err(|error| failed(error.into()))?;
                let result = results.get(id.serial).map_err(|error| failed(error.into()))?;
                let result = result.ok_or(Error::Corrupt { detail: "its result is missing" })?;
                apart.join(result.value()).map(Some).map_err(damaged)
            }
        }
    }

    /// Makes these changes durable in one transaction: the record of each place, or none.
    pub(crate) fn settle<'r>(
        &self,
        changes: impl IntoIterator<Item = (RecordId, Option<&'r Record>)>,
        meta: &Meta,
    ) -> Result<(), StorageError> {
        self.write(meta, |records, results| {
            for (id, record) in changes {
                match record {
                    Some(record) => put(records, results, record)?,
                    None => remove(records, results, id)?,
                }
            }
            Ok(())
        })
    }

    /// The first expired records for which `choose` says yes, which is shown their keys in framed
    /// form, oldest first.
    pub(crate) fn expired(
        &self,
        now: Timestamp,
        max: usize,
        mut choose: impl FnMut(&[u8], RecordId) -> bool,
    ) -> Result<Vec<Expired>, StorageError> {
        let database = self.database.read();
        let Some(database) = &*database else { return Ok(Vec::new()) };
        let mut scan = || -> Result<Vec<Expired>, redb::Error> {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut expired = Vec::new();
            for row in records.range(..=(now.as_unix_ms(), u64::MAX))? {
                let (key, value) = row?;
                let id = from_row_key(key.value());
                let row = codec::scan_row(value.value())
                    .map_err(|_| redb::Error::Corrupted("a record cannot be decoded".into()))?;
                if choose(row.framed_key, id) {
                    expired.push(Expired { id, apart: row.apart });
                }
                if expired.len() == max {
                    break;
                }
            }
            Ok(expired)
        };
        scan().map_err(StorageError::new)
    }

    /// Deletes these records in one transaction. They must be in order.
    pub(crate) fn delete(&self, expired: &[Expired], meta: &Meta) -> Result<(), StorageError> {
        let (Some(first), Some(last)) = (expired.first(), expired.last()) else { return Ok(()) };
        let range = row_key(first.id)..=row_key(last.id);
        self.write(meta, |records, results| {
            // Both run in the same order, so that one step of each decides about a row. Cutting a
            // range is several times faster than to look for its rows one by one.
            let mut next = expired.iter().map(|expired| row_key(expired.id)).peekable();
            records.retain_in(range, |key, _| next.next_if_eq(&key).is_none())?;
            for expired in expired.iter().filter(|expired| expired.apart) {
                results.remove(expired.id.serial)?;
            }
            Ok(())
        })
    }

    /// When the first record expires that has not done so yet.
    pub(crate) fn next_expiry(&self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let database = self.database.read();
        let Some(database) = &*database else { return Ok(None) };
        let first = || -> Result<Option<Timestamp>, redb::Error> {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let row = records.range((now.as_unix_ms() + 1, 0)..)?.next().transpose()?;
            Ok(row.map(|(key, _)| from_row_key(key.value()).expires_at))
        };
        first().map_err(StorageError::new)
    }

    /// Lets go of the file. What is durable stays so, whatever this says.
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        match self.database.write().take() {
            Some(database) => database.close().map_err(StorageError::new),
            None => Ok(()),
        }
    }

    fn write(
        &self,
        meta: &Meta,
        change: impl FnOnce(&mut Records<'_>, &mut Results<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), StorageError> {
        let database = self.database.read();
        let Some(database) = &*database else { return Err(StorageError::new(Error::Closed)) };
        let commit = || -> Result<(), redb::Error> {
            let transaction = safest(database)?;
            {
                let mut records = transaction.open_table(RECORDS)?;
                let mut results = transaction.open_table(RESULTS)?;
                change(&mut records, &mut results)?;
            }
            meta.write(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        commit().map_err(StorageError::new)
    }
}

type Records<'t> = Table<'t, RowKey, &'static [u8]>;
type Results<'t> = Table<'t, u64, &'static [u8]>;

fn put(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    record: &Record,
) -> Result<(), redb::Error> {
    // A result is bounded long before it is a record, so that encoding cannot fail.
    let (row, apart) = codec::encode_row(record)
        .map_err(|_| redb::Error::Corrupted("a record cannot be encoded".into()))?;
    if let Some(result) = apart {
        results.insert(record.id.serial, result)?;
    }
    records.insert(row_key(record.id), row.as_slice())?;
    Ok(())
}

fn remove(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    id: RecordId,
) -> Result<(), redb::Error> {
    let apart = match records.remove(row_key(id))? {
        Some(row) => codec::scan_row(row.value()).is_ok_and(|row| row.apart),
        None => false,
    };
    if apart {
        results.remove(id.serial)?;
    }
    Ok(())
}

fn safest(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn row_key(id: RecordId) -> RowKey {
    (id.expires_at.as_unix_ms(), id.serial)
}

fn from_row_key((expires_at, serial): RowKey) -> RecordId {
    RecordId { expires_at: Timestamp::from_unix_ms(expires_at), serial }
}

fn corrupt(detail: &str) -> OpenError {
    OpenError::Corrupt { file: NAME, detail: detail.to_owned() }
}

fn open_failed(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::InvalidInput => OpenError::NotAStore { file: NAME },
        _ => OpenError::io("open the vault", error),
    }
}

fn database_failed(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked,
        DatabaseError::Storage(error) => storage_failed(error.into()),
        other => OpenError::Storage { file: NAME, source: StorageError::new(other) },
    }
}

fn storage_failed(error: redb::Error) -> OpenError {
    match error {
        redb::Error::Corrupted(detail) => OpenError::Corrupt { file: NAME, detail },
        // What redb says of a file that does not start as its own do.
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            OpenError::NotAStore { file: NAME }
        }
        redb::Error::Io(error) => OpenError::io("read the vault", error),
        other => OpenError::Storage { file: NAME, source: StorageError::new(other) },
    }
}
