//! Changes of the files with recomputed checksums, based on `docs/FORMAT.md` and without the store:
//! what lies behind the checksums must withstand anything too.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use idemstore::redb::{
    self, Builder, Database, Error, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction,
};
use idemstore::sim::{Disk, DiskFile};

use super::edit::bytes;
use super::image::{Files, NAMES};
use crate::support::SimDisk;

const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");
const RESULTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("results");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const FIELDS: [&str; 5] = ["format", "key", "settled", "high_water", "next_serial"];

/// How the store treats higher numbers, which it never writes, isn't tested.
const NUMBER_MAX: u64 = (1 << 48) - 2;

/// A change with valid checksums.
#[derive(Debug)]
pub enum Forgery {
    /// Every frame of a segment, and its header, unchanged.
    Seal {
        log: usize,
    },
    /// A frame after the last one.
    Frame {
        after: u64,
        at: u64,
        payload: Vec<u8>,
    },
    /// A row with different bytes, or at a different place.
    Row {
        row: usize,
        place: Option<(u64, u64)>,
        at: usize,
        bytes: Vec<u8>,
        keep: bool,
    },
    Result {
        row: usize,
        serial: Option<u64>,
        bytes: Option<Vec<u8>>,
    },
    Meta {
        field: usize,
        bytes: Option<Vec<u8>>,
    },
    /// A table of another kind, or none.
    Table {
        table: usize,
        empty: bool,
    },
}

impl Forgery {
    pub fn take(source: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match source.int_in_range(0..=5_u8)? {
            0 => Self::Seal { log: source.int_in_range(1..=2)? },
            1 => Self::Frame {
                after: number(source)?,
                at: number(source)?,
                payload: payload(source)?,
            },
            2 => Self::Row {
                row: source.arbitrary::<u8>()?.into(),
                place: if source.arbitrary()? {
                    Some((number(source)?, number(source)?))
                } else {
                    None
                },
                at: source.arbitrary::<u8>()?.into(),
                bytes: bytes(source, 16)?,
                keep: source.arbitrary()?,
            },
            3 => Self::Result {
                row: source.arbitrary::<u8>()?.into(),
                serial: if source.arbitrary()? { Some(number(source)?) } else { None },
                bytes: if source.arbitrary()? { Some(bytes(source, 32)?) } else { None },
            },
            4 => Self::Meta {
                field: source.choose_index(FIELDS.len())?,
                bytes: match source.int_in_range(0..=2_u8)? {
                    0 => None,
                    1 => Some(bytes(source, 40)?).filter(|bytes| bytes.len() != 8),
                    _ => Some(number(source)?.to_le_bytes().to_vec()),
                },
            },
            _ => Self::Table { table: source.choose_index(3)?, empty: source.arbitrary()? },
        })
    }

    /// Does nothing if there is nothing to forge.
    pub fn apply(&self, files: &mut Files) {
        let _: Option<()> = match self {
            Self::Seal { log } => store_key(files).map(|key| seal(files, NAMES[*log], &key)),
            Self::Frame { after, at, payload } => {
                store_key(files).map(|key| append(files, &key, *after, *at, payload))
            }
            vault => with_vault(files, |database| {
                let transaction = database.begin_write()?;
                vault.write(&transaction)?;
                Ok(transaction.commit()?)
            }),
        };
    }

    fn write(&self, transaction: &WriteTransaction) -> std::result::Result<(), Error> {
        match self {
            Self::Row { row, place, at, bytes, keep } => {
                let mut records = transaction.open_table(RECORDS)?;
                let Some((from, mut body)) = nth(&records, *row)? else { return Ok(()) };
                body.truncate(body.len().saturating_sub(8));
                let at = at % (body.len() + 1);
                body.resize(body.len().max(at + bytes.len()), 0);
                body[at..at + bytes.len()].copy_from_slice(bytes);
                let place = place.unwrap_or(from);
                let checksum = row_checksum(place, &body);
                if !keep {
                    records.remove(from)?;
                }
                records.insert(place, [body.as_slice(), &checksum].concat().as_slice())?;
            }
            Self::Result { row, serial, bytes } => {
                let mut results = transaction.open_table(RESULTS)?;
                let Some((from, before)) = nth(&results, *row)? else { return Ok(()) };
                results.remove(from)?;
                let bytes = bytes.as_ref().unwrap_or(&before);
                if let Some(serial) = serial {
                    results.insert(serial, bytes.as_slice())?;
                }
            }
            Self::Meta { field, bytes } => {
                let mut meta = transaction.open_table(META)?;
                meta.remove(FIELDS[*field])?;
                if let Some(bytes) = bytes {
                    meta.insert(FIELDS[*field], bytes.as_slice())?;
                }
            }
            Self::Table { table, empty } => {
                let name = ["records", "results", "meta"][*table];
                let other = TableDefinition::<u8, u8>::new(name);
                match *table {
                    0 => transaction.delete_table(RECORDS)?,
                    1 => transaction.delete_table(RESULTS)?,
                    _ => transaction.delete_table(META)?,
                };
                if !empty {
                    transaction.open_table(other)?.insert(1, 1)?;
                }
            }
            Self::Seal { .. } | Self::Frame { .. } => {}
        }
        Ok(())
    }
}

/// Numbers with a meaning, numbers at the limits of what is allowed, and any others.
fn number(source: &mut Unstructured<'_>) -> Result<u64> {
    let small = u64::from(source.arbitrary::<u8>()?);
    let number = match source.int_in_range(0..=5_u8)? {
        0 => small,
        1 => 1_000_000 + small * 10,
        2 => (1 << 48) - 128 + small,
        3 => u64::MAX - small,
        _ => source.arbitrary()?,
    };
    Ok(number.min(NUMBER_MAX))
}

/// Valid changes, and bytes that aren't changes.
fn payload(source: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    for _ in 0..source.int_in_range(0..=3_u8)? {
        let change = if source.arbitrary()? { change(source)? } else { bytes(source, 40)? };
        payload.extend((change.len() as u32).to_le_bytes());
        payload.extend(change);
    }
    payload.extend(bytes(source, 4)?);
    Ok(payload)
}

fn change(source: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let place = [varint(number(source)?), varint(number(source)?)].concat();
    if source.arbitrary()? {
        return Ok([&[1], place.as_slice()].concat());
    }
    let fingerprint = [source.arbitrary::<u8>()?; 33];
    let begun_and_attempt = [varint(number(source)?), varint(number(source)?)].concat();
    let parts: [&[u8]; 7] = [
        &[0],
        &place,
        b"\x02\0a",
        &fingerprint,
        &begun_and_attempt,
        &[source.int_in_range(0..=6)?],
        &bytes(source, 16)?,
    ];
    Ok(parts.concat())
}

fn varint(number: u64) -> Vec<u8> {
    match number {
        0..=250 => vec![number as u8],
        251..=0xFFFF => [&[251], &number.to_le_bytes()[..2]].concat(),
        0x1_0000..=0xFFFF_FFFF => [&[252], &number.to_le_bytes()[..4]].concat(),
        _ => [&[253], &number.to_le_bytes()[..]].concat(),
    }
}

fn row_checksum((expires_at, serial): (u64, u64), body: &[u8]) -> [u8; 8] {
    let mut place = [0; 32];
    place[..8].copy_from_slice(&expires_at.to_le_bytes());
    place[8..16].copy_from_slice(&serial.to_le_bytes());
    blake3::keyed_hash(&place, body).as_bytes()[..8].try_into().expect("eight bytes")
}

/// Makes the header of a segment valid, and each frame from the start of the segment.
fn seal(files: &mut Files, name: &str, key: &[u8; 32]) {
    let Some(file) = files.get_mut(name).filter(|file| 4096 <= file.len()) else { return };
    // Version 1 has one header with one length. In version 2, both copies now give the segment its
    // largest possible length.
    let (copies, lengths) = if file[8] == 1 { (&[0][..], 1) } else { (&[0, 2_048][..], 2) };
    let lengths = (file.len() as u64).to_le_bytes().repeat(lengths);
    let mark = [b"idemstore log segment".as_slice(), &lengths].concat();
    let fields = [lengths, blake3::keyed_hash(key, &mark).as_bytes().to_vec()].concat();
    for at in copies {
        file[at + 12..at + 12 + fields.len()].copy_from_slice(&fields);
    }
    let mut at = 4096;
    while let Some(end) = frame_end(file, at) {
        seal_frame(&mut file[at..end], key);
        at = end.next_multiple_of(8);
    }
}

fn seal_frame(frame: &mut [u8], key: &[u8; 32]) {
    let covered = [&frame[..32], &frame[48..]].concat();
    frame[32..48].copy_from_slice(&blake3::keyed_hash(key, &covered).as_bytes()[..16]);
}

/// Where the frame here ends, if it looks like one.
fn frame_end(file: &[u8], at: usize) -> Option<usize> {
    let header = file.get(at..at + 48).filter(|header| header.starts_with(b"ifrm"))?;
    let len = u32::from_le_bytes(header[4..8].try_into().expect("four bytes")) as usize;
    Some(at + 48 + len).filter(|end| *end <= file.len())
}

/// Writes one more frame into the last written segment, with a number higher by this much.
fn append(files: &mut Files, key: &[u8; 32], after: u64, at: u64, payload: &[u8]) {
    let mut last = None;
    for name in &NAMES[1..] {
        let Some(file) = files.get(*name) else { continue };
        let mut from = 4096;
        while let Some(end) = frame_end(file, from) {
            let field = |at: usize| -> [u8; 8] {
                file[from + at..from + at + 8].try_into().expect("eight bytes")
            };
            let end = end.next_multiple_of(8);
            last = last.max(Some((u64::from_le_bytes(field(16)), *name, end, field(8))));
            from = end;
        }
    }
    let (number, name, from, salt) = last.unwrap_or((0, NAMES[1], 4096, [0; 8]));
    let number = number.wrapping_add(1).wrapping_add(after).to_le_bytes();
    let len = (payload.len() as u32).to_le_bytes();
    let header: [&[u8]; 6] = [b"ifrm", &len, &salt, &number, &at.to_le_bytes(), &[0; 16]];
    let mut frame = [header.concat().as_slice(), payload].concat();
    seal_frame(&mut frame, key);
    if let Some(place) = files.get_mut(name).and_then(|file| file.get_mut(from..from + frame.len()))
    {
        place.copy_from_slice(&frame);
    }
}

fn nth<K>(
    table: &impl ReadableTable<K, &'static [u8]>,
    number: usize,
) -> std::result::Result<Option<(K, Vec<u8>)>, Error>
where
    K: redb::Key + for<'a> redb::Value<SelfType<'a> = K> + 'static,
{
    let len = table.iter()?.count().max(1);
    let row = table.iter()?.nth(number % len).transpose()?;
    Ok(row.map(|(key, value)| (key.value(), value.value().to_vec())))
}

fn store_key(files: &mut Files) -> Option<[u8; 32]> {
    with_vault(files, |database| {
        let meta = database.begin_read()?.open_table(META)?;
        let key = meta.get("key")?.map(|key| key.value().to_vec());
        Ok(key.and_then(|key| key.try_into().ok()))
    })?
}

/// Opens the vault with redb alone, if that is still possible, and puts the bytes back.
fn with_vault<T>(
    files: &mut Files,
    call: impl FnOnce(&Database) -> std::result::Result<T, Error>,
) -> Option<T> {
    let disk = SimDisk::new();
    disk.put(NAMES[0], files.get(NAMES[0])?.clone());
    let backend = Raw(disk.open(NAMES[0]).expect("it is there"));
    let called = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Builder::new();
        let database = builder.set_check_integrity_on_open(true).create_with_backend(backend)?;
        let called = call(&database)?;
        database.close()?;
        Ok::<_, Error>(called)
    }));
    let called = called.ok()?.ok()?;
    files.extend(disk.bytes());
    Some(called)
}

#[derive(Debug)]
struct Raw(Arc<dyn DiskFile>);

impl StorageBackend for Raw {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
