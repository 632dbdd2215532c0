//! What the vault knows of the whole store, written with each of its transactions.

use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::{NAME, contained, corrupt};
use crate::clock::Timestamp;
use crate::error::OpenError;
use crate::log::frame::FrameNumber;
use crate::log::segment::StoreKey;

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const FIELDS: [&str; 5] = ["format", "key", "settled", "high_water", "next_serial"];
/// The version of the tables and rows. Version 1 had no checkpoints and no tombstones, and is
/// otherwise the same, so it is read as it is; the first write makes it this one.
const FORMAT: u32 = 2;
const FORMAT_OLDEST: u32 = 1;

/// No store counts so far, and none that counts on from here meets the end of its numbers.
const COUNT_MAX: u64 = 1 << 62;

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
        let values: [&[u8]; FIELDS.len()] = [
            &FORMAT.to_le_bytes(),
            &self.key,
            &self.settled.to_le_bytes(),
            &self.high_water.as_unix_ms().to_le_bytes(),
            &self.next_serial.to_le_bytes(),
        ];
        for (name, value) in FIELDS.into_iter().zip(values) {
            meta.insert(name, value)?;
        }
        Ok(())
    }

    pub(super) fn read(database: &Database) -> Result<Self, OpenError> {
        let read = contained(|| {
            let table = match database.begin_read()?.open_table(META) {
                // A file of redb's, but none of ours.
                Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
                    return Ok(None);
                }
                table => table?,
            };
            let mut fields = Vec::new();
            for name in FIELDS {
                fields.push(table.get(name)?.map(|value| value.value().to_vec()));
            }
            Ok(Some(fields))
        });
        let fields = read?.ok_or(OpenError::NotAStore { file: NAME })?;
        let [format, key, settled, high_water, next_serial] = fields
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .and_then(|fields| fields.try_into().ok())
            .ok_or_else(|| corrupt("a field of `meta` is missing"))?;
        let format = u32::from_le_bytes(fixed(&format)?);
        if !(FORMAT_OLDEST..=FORMAT).contains(&format) {
            let file = NAME;
            return Err(OpenError::UnsupportedVersion { file, found: format, supported: FORMAT });
        }
        Ok(Self {
            key: fixed(&key)?,
            settled: counted(&settled)?,
            high_water: Timestamp::from_unix_ms(u64::from_le_bytes(fixed(&high_water)?)),
            next_serial: counted(&next_serial)?,
        })
    }
}

/// A number that was counted up to, and that is counted on from.
fn counted(bytes: &[u8]) -> Result<u64, OpenError> {
    let number = u64::from_le_bytes(fixed(bytes)?);
    if number < COUNT_MAX { Ok(number) } else { Err(corrupt("a number of `meta` is too large")) }
}

fn fixed<const LEN: usize>(bytes: &[u8]) -> Result<[u8; LEN], OpenError> {
    bytes.try_into().map_err(|_| corrupt("a field of `meta` has a wrong length"))
}
