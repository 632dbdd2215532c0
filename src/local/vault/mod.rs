//! The vault: where records live, in redb. The only module that calls redb.
//!
//! It has four tables (`docs/FORMAT.md`): `records` by expiry and serial number, so that new
//! records go in at the right edge and expired ones are cut off at the left; `results` by serial
//! number, for those too long to be stored in their record; `meta`; and one that a later version
//! will fill. Every commit is redb's safest: two-phase, so that a failed fsync never costs the
//! file, and with quick-repair, so that a kill doesn't cost a walk through it. That is expensive
//! for a single call, but cheap for the thousands of changes that one settle takes.

mod backend;
mod copy;
mod header;
mod meta;
mod open;
mod sweep;
#[cfg(feature = "transaction")]
mod transaction;

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{
    Database, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};

use crate::clock::Timestamp;
use crate::error::{Error, OpenError, StorageError};
use crate::key::Key;
use crate::limits::PACKED_BITS;
use crate::local::change::RecordId;
use crate::local::codec::{self, Malformed, Row, Scanned};
use crate::local::disk::Disk;
use crate::local::files::Temporary;
use crate::local::files::VAULT;
use crate::local::origin::Origin;
use crate::local::room::Stage;
use crate::rules::record::Record;
use crate::sync::{Arc, Mutex, RwLock};
use backend::Backend;
pub(crate) use copy::{Compacted, Copying};
pub(crate) use meta::{Meta, Secrets};
use open::{Open, Tables};
#[cfg(feature = "transaction")]
pub use transaction::Transaction;
#[cfg(feature = "transaction")]
pub(crate) use transaction::Uncommitted;

/// The greatest serial number.
const PACKED_MAX: u64 = (1 << PACKED_BITS) - 1;

/// Expiry in Unix milliseconds, and serial number.
type RowKey = (u64, u64);
const RECORDS: TableDefinition<RowKey, &[u8]> = TableDefinition::new("records");
const RESULTS: TableDefinition<u64, &[u8]> = TableDefinition::new("results");
/// Records that are kept past their retention. Nothing is stored there yet. Its name is long
/// because callers could create tables before it existed, under any short name.
const DOUBTS: TableDefinition<RowKey, &[u8]> = TableDefinition::new("idemstore-doubts");

/// The fewest bytes that a record takes up in the file, including its place.
const RECORD_LEN_MIN: u64 = 64;

pub(crate) struct Vault {
    /// `None` once closed.
    open: RwLock<Option<Open>>,
    /// Held while the file is being copied.
    copying: Mutex<()>,
    cache: usize,
    origin: Origin,
}

impl Drop for Vault {
    fn drop(&mut self) {
        if self.origin.is_elsewhere() {
            // redb would write when it is dropped. A forked child has nothing to write.
            std::mem::forget(self.open.get_mut().take());
        }
    }
}

/// A record at rest, as returned by a listing.
pub(crate) struct Listed {
    pub(crate) id: RecordId,
    pub(crate) key: Key,
    pub(crate) begun_at: Timestamp,
    /// Whether it was started and not completed when it was settled.
    pub(crate) started: bool,
}

impl Vault {
    /// Creates an empty vault, which gets its final name last, when the whole store is durable.
    pub(crate) fn create(
        disk: &dyn Disk,
        names: Temporary,
        cache: usize,
        meta: &Meta,
    ) -> Result<(), OpenError> {
        let file = disk.create(&names.of(VAULT)).map_err(open_failed)?;
        let create = || -> Result<(), redb::Error> {
            let mut builder = redb::Builder::new();
            let builder = builder.set_cache_size(cache);
            let database = builder.create_with_backend(Backend::new(Arc::clone(&file)))?;
            let transaction = safest(&database)?;
            make_tables(&transaction)?;
            meta.write(&transaction)?;
            transaction.commit()?;
            database.close()?;
            Ok(())
        };
        contained(create)?;
        file.sync().map_err(|error| OpenError::io("create the vault", error))
    }

    /// Opens the vault, after redb has read the whole file and verified every page. Nothing is
    /// written to the file before [`Vault::let_through`].
    ///
    /// A missing record would mean a second execution, and only a check of the whole file can tell
    /// that nothing is missing (`docs/ARCHITECTURE.md` has the measurement).
    pub(crate) fn open(disk: &dyn Disk, cache: usize) -> Result<(Self, Meta), OpenError> {
        let file = disk.open(VAULT).map_err(open_failed)?;
        // redb would create a new database in an empty file.
        if file.is_empty().map_err(open_failed)? {
            return Err(corrupt("it is empty"));
        }
        if !header::is_within(&*file).map_err(open_failed)? {
            return Err(corrupt("its first page points outside the file"));
        }
        let backend = Backend::new(file);
        backend.hold();
        let open = contained(|| Open::checked(backend, cache))?;
        let meta = Meta::read(&open.database)?;
        open.check_tables(&meta)?;
        let vault = Self {
            open: RwLock::new(Some(open)),
            copying: Mutex::new(()),
            cache,
            origin: Origin::here(),
        };
        Ok((vault, meta))
    }

    /// From now on the file is written, beginning with what redb wrote while opening it.
    pub(crate) fn let_through(&self) -> Result<(), StorageError> {
        Ok(self.with(|open| Ok(open.backend.let_through()?))?)
    }

    /// The number of records that the vault claims to have, if its file is long enough for them.
    pub(crate) fn records(&self) -> Result<usize, OpenError> {
        let records = self.look(|tables| Ok(tables.records.len()?))?;
        let room = self.with(|open| Ok(open.backend.file_len()?))? / RECORD_LEN_MIN;
        if room < records {
            return Err(corrupt("it claims to have more records than it has room for"));
        }
        Ok(usize::try_from(records).unwrap_or(usize::MAX))
    }

    /// Calls `each` with every record.
    pub(crate) fn scan(
        &self,
        mut each: impl FnMut(RecordId, Scanned<'_>),
    ) -> Result<(), OpenError> {
        let scanned = self.look(|tables| {
            let (mut places, mut seen) = (Places::after(None), 0);
            for row in tables.records.iter()? {
                let (key, value) = row?;
                let (id, row) = places.scan(key.value(), value.value())?;
                each(id, row);
                seen += 1;
            }
            if seen == tables.records.len()? {
                Ok(())
            } else {
                Err(damaged("it does not have the number of records that it claims"))
            }
        });
        Ok(scanned?)
    }

    /// Calls `look` with the record at this place, if there is one.
    pub(crate) fn with_row(
        &self,
        id: RecordId,
        look: impl FnOnce(Scanned<'_>),
    ) -> Result<(), OpenError> {
        let looked = self.look(|tables| {
            if let Some(row) = tables.records.get(row_key(id))? {
                look(codec::scan_row(id, row.value()).map_err(malformed)?);
            }
            Ok(())
        });
        Ok(looked?)
    }

    /// The record at this place, if there is one.
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>, Error> {
        let read = self.look(|tables| {
            let Some(row) = tables.records.get(row_key(id))? else { return Ok(None) };
            match codec::decode_row(id, row.value()).map_err(malformed)? {
                Row::Whole(record) => Ok(Some(record)),
                Row::Apart(apart) => {
                    let result = tables.results.get(id.serial)?;
                    let result = result.ok_or_else(|| damaged("its result is missing"))?;
                    Ok(Some(apart.join(result.value()).map_err(malformed)?))
                }
            }
        });
        Ok(read?)
    }

    /// Makes these changes durable in one transaction: the record of each place, or none.
    pub(crate) fn settle<'r>(
        &self,
        changes: impl IntoIterator<Item = (RecordId, Option<&'r Record>)>,
        meta: &Meta,
    ) -> Result<(), StorageError> {
        self.write(meta, |records, results| {
            changes.into_iter().try_for_each(|(id, record)| place(records, results, id, record))
        })
    }

    /// The first records after this place.
    pub(crate) fn list(&self, after: Option<RecordId>, max: usize) -> Result<Vec<Listed>, Error> {
        let listed = self.look(|tables| {
            let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(row_key(id)));
            let (mut listed, mut places) = (Vec::new(), Places::after(after));
            for row in tables.records.range((start, Bound::Unbounded))?.take(max) {
                let (key, value) = row?;
                let (id, row) = places.scan(key.value(), value.value())?;
                let framed_key = Key::from_framed(row.framed_key);
                listed.push(Listed {
                    id,
                    key: framed_key.ok_or_else(|| malformed(Malformed))?,
                    begun_at: row.begun_at,
                    started: row.stage == Stage::Started,
                });
            }
            Ok(listed)
        });
        Ok(listed?)
    }

    /// Closes the file. What is durable stays durable, whatever this returns.
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        let open = self.open.write().take();
        let closed = contained(|| open.map_or(Ok(()), Open::close));
        Ok(closed?)
    }

    fn write(
        &self,
        meta: &Meta,
        change: impl FnOnce(&mut Records<'_>, &mut Results<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), StorageError> {
        let written = self.with(|open| {
            let transaction = safest(&open.database)?;
            if !meta.is_current {
                make_tables(&transaction)?;
            }
            change(&mut transaction.open_table(RECORDS)?, &mut transaction.open_table(RESULTS)?)?;
            open.commit(transaction, meta)
        });
        Ok(written?)
    }

    fn look<T>(&self, call: impl FnOnce(&Tables) -> Result<T, redb::Error>) -> Result<T, Failure> {
        self.with(|open| call(&*open.tables()?))
    }

    fn with<T>(&self, call: impl FnOnce(&Open) -> Result<T, redb::Error>) -> Result<T, Failure> {
        let open = self.open.read();
        let open = open.as_ref().ok_or(Failure::Closed)?;
        contained(|| call(open))
    }
}

/// Why a call to the vault failed.
enum Failure {
    Closed,
    Redb(redb::Error),
}

/// Runs a call into redb. A panic in it is treated as what it most likely is, a damaged file, and
/// never reaches the store's caller.
fn contained<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(damaged("redb has panicked")))
        .map_err(Failure::Redb)
}

fn damaged(detail: &str) -> redb::Error {
    redb::Error::Corrupted(detail.to_owned())
}

fn malformed(_: Malformed) -> redb::Error {
    damaged("a record is not as it was written")
}

type Records<'t> = Table<'t, RowKey, &'static [u8]>;
type Results<'t> = Table<'t, u64, &'static [u8]>;

/// Stores this record at a place, or removes what is there.
fn place(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    id: RecordId,
    record: Option<&Record>,
) -> Result<(), redb::Error> {
    let Some(record) = record else {
        if records.remove(row_key(id))?.is_some_and(|row| is_apart(id, row.value())) {
            results.remove(id.serial)?;
        }
        return Ok(());
    };
    put(records, results, record)
}

fn put(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    record: &Record,
) -> Result<(), redb::Error> {
    let (row, apart) = codec::encode_row(record).map_err(malformed)?;
    let replaced = records.insert(row_key(RecordId::of(record)), row.as_slice())?;
    let replaced_apart = replaced.is_some_and(|row| is_apart(RecordId::of(record), row.value()));
    if let Some(bytes) = apart {
        results.insert(record.serial, bytes)?;
    } else if replaced_apart {
        results.remove(record.serial)?;
    }
    Ok(())
}

fn is_apart(id: RecordId, row: &[u8]) -> bool {
    codec::scan_row(id, row).is_ok_and(|row| row.apart.is_some())
}

/// Checks the places of a table's rows: each comes after the one before it, unless a misplaced page
/// leads back.
struct Places {
    last: Option<RowKey>,
}

impl Places {
    fn after(id: Option<RecordId>) -> Self {
        Self { last: id.map(row_key) }
    }

    /// The next row, if it is intact and at a place where a record can be.
    fn scan<'r>(
        &mut self,
        place: RowKey,
        row: &'r [u8],
    ) -> Result<(RecordId, Scanned<'r>), redb::Error> {
        let id = from_row_key(place);
        let is_behind = self.last.replace(place).is_none_or(|last| last < place);
        if !is_behind || row_key(id) != place || PACKED_MAX < id.serial {
            return Err(malformed(Malformed));
        }
        Ok((id, codec::scan_row(id, row).map_err(malformed)?))
    }
}

/// Creates the tables that each store has from the beginning.
fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(RESULTS)?;
    transaction.open_table(DOUBTS)?;
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
    OpenError::Corrupt { file: VAULT, detail: detail.to_owned() }
}

fn open_failed(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::InvalidInput => OpenError::NotAStore { file: VAULT },
        _ => OpenError::io("open the vault", error),
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Redb(redb::Error::DatabaseAlreadyOpen) => Self::Locked,
            Failure::Redb(redb::Error::Corrupted(detail)) => Self::Corrupt { file: VAULT, detail },
            // redb's error for a file that doesn't begin like one of its own.
            Failure::Redb(redb::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Self::NotAStore { file: VAULT }
            }
            Failure::Redb(redb::Error::Io(error)) => Self::io("use the vault", error),
            other => Self::Storage { file: VAULT, source: other.into() },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => Self::Closed,
            Failure::Redb(redb::Error::Corrupted(detail)) => Self::Corrupt { detail },
            failure @ Failure::Redb(_) => Self::Storage(failure.into()),
        }
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => Self::new(Error::Closed),
            Failure::Redb(redb::Error::Io(error)) => Self::new(error),
            Failure::Redb(error) => Self::new(error),
        }
    }
}
