//! What the vault knows of the whole store, written with each of its transactions.

use std::io;

use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::{contained, corrupt};
use crate::clock::{Stamp, Timestamp};
use crate::error::OpenError;
use crate::local::files::VAULT;
use crate::local::log::frame::FrameNumber;
use crate::local::log::segment::StoreSecret;
use crate::local::secret;

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const FIELDS: [&str; 5] = ["format", "key", "settled", "high_water", "next_serial"];
/// The fields that format 3 added.
const FIELDS_3: [&str; 5] = ["wall", "commit", "identity", "hash_key", "callee_key"];
/// The version of the tables and rows. Version 1 had no checkpoints and no digests, and version 2
/// no notes, no walls and fewer secrets. Both are read as they are; the first write converts them
/// to this version.
const FORMAT: u32 = 3;
const FORMAT_OLDEST: u32 = 1;

/// No store reaches this number, and none that starts below it reaches the end of its numbers.
const COUNT_MAX: u64 = 1 << 62;

#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) secrets: Secrets,
    /// The last frame of the log whose changes the vault has.
    pub(crate) settled: FrameNumber,
    /// The store's time when this was written, and the wall clock.
    pub(crate) stamp: Stamp,
    pub(crate) next_serial: u64,
    /// Whether the tables of this format exist already.
    pub(crate) is_current: bool,
}

/// Secrets that are drawn once and never revealed.
#[derive(Clone)]
pub(crate) struct Secrets {
    /// Ties the log to the vault. A copy has a different key.
    pub(crate) key: StoreSecret,
    /// Distinguishes this store and its copies from all others.
    identity: [u8; 16],
    /// The key of the live table's hash.
    pub(crate) hash_key: [u8; 16],
    /// The secret from which keys for callees are derived. A copy has the same one.
    pub(crate) callee_key: [u8; 32],
}

impl Secrets {
    pub(crate) fn draw() -> io::Result<Self> {
        Ok(Self {
            key: secret::bytes()?,
            identity: secret::bytes()?,
            hash_key: secret::bytes()?,
            callee_key: secret::bytes()?,
        })
    }

    /// The secrets of a copy: nothing in its log fits this store, and vice versa.
    pub(crate) fn of_copy(&self) -> io::Result<Self> {
        Ok(Self { key: secret::bytes()?, ..self.clone() })
    }
}

impl Meta {
    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        let Secrets { key, identity, hash_key, callee_key } = &self.secrets;
        let values: [&[u8]; FIELDS.len()] = [
            &FORMAT.to_le_bytes(),
            key,
            &self.settled.to_le_bytes(),
            &self.stamp.at.as_unix_ms().to_le_bytes(),
            &self.next_serial.to_le_bytes(),
        ];
        let wall = self.stamp.wall.unwrap_or(self.stamp.at);
        let values_3: [&[u8]; FIELDS_3.len()] = [
            &wall.as_unix_ms().to_le_bytes(),
            // Different in each commit of any kind.
            &secret::bytes::<16>()?,
            identity,
            hash_key,
            callee_key,
        ];
        let fields = FIELDS.into_iter().chain(FIELDS_3);
        for (name, value) in fields.zip(values.into_iter().chain(values_3)) {
            meta.insert(name, value)?;
        }
        Ok(())
    }

    pub(super) fn read(database: &Database) -> Result<Self, OpenError> {
        let read = contained(|| {
            let table = match database.begin_read()?.open_table(META) {
                // A file of redb, but not a vault.
                Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
                    return Ok(None);
                }
                table => table?,
            };
            let value = |name| -> Result<_, redb::Error> {
                Ok(table.get(name)?.map(|value| value.value().to_vec()))
            };
            let fields = FIELDS.into_iter().map(value).collect::<Result<Vec<_>, _>>()?;
            let fields_3 = FIELDS_3.into_iter().map(value).collect::<Result<Vec<_>, _>>()?;
            Ok(Some((fields, fields_3)))
        });
        let (fields, fields_3) = read?.ok_or(OpenError::NotAStore { file: VAULT })?;
        let [format, key, settled, high_water, next_serial] = all(fields)?;
        let format = u32::from_le_bytes(fixed(&format)?);
        if !(FORMAT_OLDEST..=FORMAT).contains(&format) {
            let file = VAULT;
            return Err(OpenError::UnsupportedVersion { file, found: format, supported: FORMAT });
        }
        let key = fixed(&key)?;
        let time = |bytes: &[u8]| {
            fixed(bytes).map(|bytes| Timestamp::from_unix_ms(u64::from_le_bytes(bytes)))
        };
        let (secrets, wall) = if format < FORMAT {
            let drawn =
                Secrets::draw().map_err(|error| OpenError::io("generate a secret", error))?;
            (Secrets { key, ..drawn }, None)
        } else {
            let [wall, _, identity, hash_key, callee_key] = all(fields_3)?;
            let (identity, hash_key) = (fixed(&identity)?, fixed(&hash_key)?);
            let callee_key = fixed(&callee_key)?;
            (Secrets { key, identity, hash_key, callee_key }, Some(time(&wall)?))
        };
        Ok(Self {
            secrets,
            settled: counted(&settled)?,
            stamp: Stamp { at: time(&high_water)?, wall },
            next_serial: counted(&next_serial)?,
            is_current: format == FORMAT,
        })
    }
}

/// The values of all fields.
fn all<const LEN: usize>(fields: Vec<Option<Vec<u8>>>) -> Result<[Vec<u8>; LEN], OpenError> {
    fields
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .and_then(|fields| fields.try_into().ok())
        .ok_or_else(|| corrupt("a field of `meta` is missing"))
}

/// A number from which the store continues to count.
fn counted(bytes: &[u8]) -> Result<u64, OpenError> {
    let number = u64::from_le_bytes(fixed(bytes)?);
    if number < COUNT_MAX { Ok(number) } else { Err(corrupt("a number in `meta` is too large")) }
}

fn fixed<const LEN: usize>(bytes: &[u8]) -> Result<[u8; LEN], OpenError> {
    bytes.try_into().map_err(|_| corrupt("a field of `meta` has the wrong length"))
}
