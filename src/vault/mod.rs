//! The vault: where records live, in redb. The only folder that names redb.
//!
//! Three tables (`docs/FORMAT.md`): `records` by expiry and serial number, so that new records go
//! in at the right edge and expired ones are cut off at the left; `results` by serial number, for
//! those too long to stand in their record; `meta`. Every commit is redb's safest: two-phase, so
//! that a failed fsync never costs the file, and quick-repair, so that a kill costs no walk
//! through it. Both are dear for a single call, and cheap for the thousands that one settle takes.

mod backend;
mod copy;
mod meta;
#[cfg(feature = "transaction")]
mod transaction;

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};

use crate::canary;
use crate::clock::Timestamp;
use crate::codec::{self, Malformed, Row, Scanned};
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, OpenError, StorageError};
use crate::key::Key;
use crate::limits::PACKED_BITS;
use crate::record::{Record, RecordId};
use crate::sync::{Arc, Mutex, RwLock};
use backend::Backend;
pub(crate) use copy::{Compacted, Copying};
pub(crate) use meta::Meta;
#[cfg(feature = "transaction")]
pub use transaction::Transaction;
#[cfg(feature = "transaction")]
pub(crate) use transaction::Uncommitted;

/// Name of the vault's file.
pub(crate) const NAME: &str = "vault.redb";
const NAME_NEW: &str = "vault.redb.new";

/// The last serial number that there is.
const PACKED_MAX: u64 = (1 << PACKED_BITS) - 1;

/// Expiry in Unix milliseconds, and serial number.
type RowKey = (u64, u64);
const RECORDS: TableDefinition<RowKey, &[u8]> = TableDefinition::new("records");
const RESULTS: TableDefinition<u64, &[u8]> = TableDefinition::new("results");

pub(crate) struct Vault {
    /// `None` once closed.
    open: RwLock<Option<Open>>,
    /// Held by whoever copies the file.
    copying: Mutex<()>,
    cache: usize,
}

struct Open {
    /// The tables as they were last committed, once somebody has asked for them. A commit takes
    /// them away before it is told of, so that whoever asks after it sees what it has changed.
    tables: Mutex<Option<Arc<Tables>>>,
    database: Database,
    backend: Backend,
}

/// The tables as of one commit. To open them takes as long as to read a record from them.
struct Tables {
    records: ReadOnlyTable<RowKey, &'static [u8]>,
    results: ReadOnlyTable<u64, &'static [u8]>,
}

/// A record at rest, as a listing meets it.
pub(crate) struct Listed {
    pub(crate) id: RecordId,
    pub(crate) key: Key,
    pub(crate) begun_at: Timestamp,
    /// Whether it was started and not completed when the vault got it.
    pub(crate) started: bool,
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
        let create = || -> Result<(), redb::Error> {
            let mut builder = redb::Builder::new();
            let builder = builder.set_cache_size(cache);
            let database = builder.create_with_backend(Backend::new(Arc::clone(&file)))?;
            let transaction = safest(&database)?;
            transaction.open_table(RECORDS)?;
            transaction.open_table(RESULTS)?;
            meta.write(&transaction)?;
            transaction.commit()?;
            database.close()?;
            Ok(())
        };
        contained(create)?;
        let named = || -> io::Result<()> {
            file.sync()?;
            disk.rename(NAME_NEW, NAME)?;
            if canary::sings("leaves the directory unsynced") {
                return Ok(());
            }
            disk.sync_names()
        };
        named().map_err(|error| OpenError::io("create the vault", error))
    }

    /// Opens the vault, once redb has read the whole file and found each page as it was written.
    ///
    /// A missing record would mean a second execution, and only a check of the whole file can
    /// tell that nothing is missing (`docs/ARCHITECTURE.md` has the measurement).
    pub(crate) fn open(disk: &dyn Disk, cache: usize) -> Result<(Self, Meta), OpenError> {
        let file = disk.open(NAME).map_err(open_failed)?;
        // redb would make a new database of an empty file.
        if file.is_empty().map_err(open_failed)? {
            return Err(corrupt("it is empty"));
        }
        let open = contained(|| Open::new(file, cache))?;
        let meta = Meta::read(&open.database)?;
        Ok((Self { open: RwLock::new(Some(open)), copying: Mutex::new(()), cache }, meta))
    }

    /// Records that the vault has.
    pub(crate) fn records(&self) -> Result<usize, OpenError> {
        let records = self.look(|tables| Ok(tables.records.len()?));
        Ok(usize::try_from(records?).unwrap_or(usize::MAX))
    }

    /// Shows every record to `each`.
    pub(crate) fn scan(
        &self,
        mut each: impl FnMut(RecordId, Scanned<'_>),
    ) -> Result<(), OpenError> {
        let scanned = self.look(|tables| {
            let mut places = Places::after(None);
            for row in tables.records.iter()? {
                let (key, value) = row?;
                let (id, row) = places.scan(key.value(), value.value())?;
                each(id, row);
            }
            Ok(())
        });
        Ok(scanned?)
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

    /// The first expired records for which `choose` says yes, oldest first.
    pub(crate) fn expired(
        &self,
        now: Timestamp,
        max: usize,
        mut choose: impl FnMut(RecordId, &Scanned<'_>) -> bool,
    ) -> Result<Vec<Expired>, StorageError> {
        let expired = self.look(|tables| {
            let (mut expired, mut places) = (Vec::new(), Places::after(None));
            for row in tables.records.range(..=(now.as_unix_ms(), u64::MAX))? {
                let (key, value) = row?;
                let (id, row) = places.scan(key.value(), value.value())?;
                if choose(id, &row) {
                    expired.push(Expired { id, apart: row.apart });
                }
                if expired.len() == max {
                    break;
                }
            }
            Ok(expired)
        });
        Ok(expired?)
    }

    /// The first records behind this place.
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
                    started: row.started,
                });
            }
            Ok(listed)
        });
        Ok(listed?)
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
        let expiry = self.look(|tables| {
            let row = tables.records.range((now.as_unix_ms() + 1, 0)..)?.next().transpose()?;
            Ok(row.map(|(key, _)| from_row_key(key.value()).expires_at))
        });
        Ok(expiry?)
    }

    /// Lets go of the file. What is durable stays so, whatever this says.
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

impl Open {
    /// Opens the vault in this file, which redb reads as a whole to check it.
    fn new(file: Arc<dyn DiskFile>, cache: usize) -> Result<Self, redb::Error> {
        let backend = Backend::new(file);
        let mut builder = redb::Builder::new();
        let builder = builder.set_cache_size(cache).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend.clone())?;
        Ok(Self { tables: Mutex::new(None), database, backend })
    }

    fn close(self) -> Result<(), redb::Error> {
        let Self { tables, database, .. } = self;
        drop(tables);
        Ok(database.close()?)
    }

    fn tables(&self) -> Result<Arc<Tables>, redb::Error> {
        let mut latest = self.tables.lock();
        if let Some(tables) = &*latest {
            return Ok(Arc::clone(tables));
        }
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let results = transaction.open_table(RESULTS)?;
        Ok(Arc::clone(latest.insert(Arc::new(Tables { records, results }))))
    }

    fn commit(&self, transaction: WriteTransaction, meta: &Meta) -> Result<(), redb::Error> {
        meta.write(&transaction)?;
        let committed = transaction.commit();
        self.tables.lock().take();
        Ok(committed?)
    }
}

/// Why the vault did not do what it was asked.
enum Failure {
    Closed,
    Redb(redb::Error),
}

/// Runs a call into redb. A panic in it is taken for what it most likely is, a damaged file, and
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
    damaged("a record is not what was written")
}

type Records<'t> = Table<'t, RowKey, &'static [u8]>;
type Results<'t> = Table<'t, u64, &'static [u8]>;

/// Makes a place hold this record, or none.
fn place(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    id: RecordId,
    record: Option<&Record>,
) -> Result<(), redb::Error> {
    match record {
        Some(record) => put(records, results, record),
        None => remove(records, results, id),
    }
}

fn put(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    record: &Record,
) -> Result<(), redb::Error> {
    let (row, apart) = codec::encode_row(record).map_err(malformed)?;
    let replaced = records.insert(row_key(record.id), row.as_slice())?;
    let replaced_apart = replaced.is_some_and(|row| is_apart(record.id, row.value()));
    if let Some(bytes) = apart {
        results.insert(record.id.serial, bytes)?;
    } else if replaced_apart {
        results.remove(record.id.serial)?;
    }
    Ok(())
}

fn remove(
    records: &mut Records<'_>,
    results: &mut Results<'_>,
    id: RecordId,
) -> Result<(), redb::Error> {
    let apart = records.remove(row_key(id))?.is_some_and(|row| is_apart(id, row.value()));
    if apart {
        results.remove(id.serial)?;
    }
    Ok(())
}

fn is_apart(id: RecordId, row: &[u8]) -> bool {
    codec::scan_row(id, row).is_ok_and(|row| row.apart)
}

/// Where the rows of a table stand: each behind the one before it, unless a page of it has strayed
/// and leads back.
struct Places {
    last: Option<RowKey>,
}

impl Places {
    fn after(id: Option<RecordId>) -> Self {
        Self { last: id.map(row_key) }
    }

    /// The next row, if it is whole and stands where a record can.
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

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Redb(redb::Error::DatabaseAlreadyOpen) => Self::Locked,
            Failure::Redb(redb::Error::Corrupted(detail)) => Self::Corrupt { file: NAME, detail },
            // What redb says of a file that does not start as its own do.
            Failure::Redb(redb::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Self::NotAStore { file: NAME }
            }
            Failure::Redb(redb::Error::Io(error)) => Self::io("use the vault", error),
            other => Self::Storage { file: NAME, source: other.into() },
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
            Failure::Redb(error) => Self::new(error),
        }
    }
}
