//! What the vault knows of the whole store, written with each of its transactions.

use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::{NAME, corrupt, storage_failed};
use crate::clock::Timestamp;
use crate::error::OpenError;
use crate::log::frame::FrameNumber;
use crate::log::segment::StoreKey;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The version of the tables and rows.
const FORMAT: u32 = 1;

#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) key: StoreKey,
    /// The last frame of the log whose changes the vault has.
    pub(crate) settled: FrameNumber,
    /// The latest time that the store has seen.
    pub(crate) high_water: Timestamp,
    pub(crate) next_serial: u64,
}

impl Meta {
    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT.to_le_bytes().as_slice())?;
        meta.insert("key", self.key.as_slice())?;
        meta.insert("settled", self.settled.to_le_bytes().as_slice())?;
        meta.insert("high_water", self.high_water.as_unix_ms().to_le_bytes().as_slice())?;
        meta.insert("next_serial", self.next_serial.to_le_bytes().as_slice())?;
        Ok(())
    }

    pub(super) fn read(database: &Database) -> Result<Self, OpenError> {
        let transaction = database.begin_read().map_err(|error| storage_failed(error.into()))?;
        let table = match transaction.open_table(META) {
            Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
                return Err(OpenError::NotAStore { file: NAME });
            }
            opened => opened.map_err(|error| storage_failed(error.into()))?,
        };
        let field = |name: &str| match table.get(name) {
            Ok(Some(value)) => Ok(value.value().to_vec()),
            Ok(None) => Err(corrupt("a field of `meta` is missing")),
            Err(error) => Err(storage_failed(error.into())),
        };
        let format = u32::from_le_bytes(fixed(&field("format")?)?);
        if format != FORMAT {
            let file = NAME;
            return Err(OpenError::UnsupportedVersion { file, found: format, supported: FORMAT });
        }
        Ok(Self {
            key: fixed(&field("key")?)?,
            settled: u64::from_le_bytes(fixed(&field("settled")?)?),
            high_water: Timestamp::from_unix_ms(u64::from_le_bytes(fixed(&field("high_water")?)?)),
            next_serial: u64::from_le_bytes(fixed(&field("next_serial")?)?),
        })
    }
}

fn fixed<const LEN: usize>(bytes: &[u8]) -> Result<[u8; LEN], OpenError> {
    bytes.try_into().map_err(|_| corrupt("a field of `meta` has a wrong length"))
}
