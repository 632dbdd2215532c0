//! The bytes of one record and one change: bincode, fenced in.
//!
//! This is the only file that knows of bincode. Both formats that hold records use it: a row of
//! the vault and an operation in the log (`docs/FORMAT.md` shows them byte by byte). Decoding
//! borrows, never allocates what a length field asks for, and refuses bytes that are left over.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Encode};

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::limits::{CHANGE_OVERHEAD_MAX, RESULT_INLINE_MAX, RESULT_LEN_MAX};
use crate::record::{ChangeKind, Record, RecordId, State};

const BYTES_MAX: usize = RESULT_LEN_MAX + CHANGE_OVERHEAD_MAX;
const CONFIG: Configuration<LittleEndian, Varint, Limit<BYTES_MAX>> =
    bincode::config::standard().with_limit::<BYTES_MAX>();

/// The bytes are not what [`encode_row`] or [`encode_change`] write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

#[derive(Encode, BorrowDecode)]
struct WireRecord<'a> {
    key: &'a [u8],
    fingerprint_algorithm: u8,
    fingerprint: [u8; 32],
    begun_at: u64,
    attempt: u32,
    state: WireState<'a>,
}

#[derive(Encode, BorrowDecode)]
enum WireState<'a> {
    Started,
    Completed {
        completed_at: u64,
        result: &'a [u8],
    },
    /// The result has a row of its own.
    CompletedApart {
        completed_at: u64,
        result_len: u32,
        result_digest: [u8; 16],
    },
}

#[derive(Encode, BorrowDecode)]
enum WireChange<'a> {
    Put { expires_at: u64, serial: u64, record: WireRecord<'a> },
    Remove { expires_at: u64, serial: u64 },
}

/// A record as its row has it.
pub(crate) enum Row {
    Whole(Record),
    /// The result is stored apart, and must be put in with [`Apart::join`].
    Apart(Apart),
}

/// A completed record whose result is stored apart.
pub(crate) struct Apart {
    record: Record,
    completed_at: Timestamp,
    len: u32,
    digest: [u8; 16],
}

impl Apart {
    /// The whole record, if this is the result that was stored with it.
    pub(crate) fn join(self, result: &[u8]) -> Result<Record, Malformed> {
        if result.len() != self.len as usize || digest(result) != self.digest {
            return Err(Malformed);
        }
        Ok(crate::transition::complete(self.record, result.into(), self.completed_at))
    }
}

/// First byte of each row.
const ROW_VERSION: u8 = 1;
/// Bytes of the checksum at the end of each row.
const ROW_CHECKSUM_LEN: usize = 8;

/// The row of a record, and its result if that needs a row of its own.
pub(crate) fn encode_row(record: &Record) -> Result<(Vec<u8>, Option<&[u8]>), Malformed> {
    let apart = match &record.state {
        State::Completed { result, .. } if RESULT_INLINE_MAX < result.len() => Some(&**result),
        _ => None,
    };
    let mut row = vec![ROW_VERSION];
    row.extend(encode(wire_record(record, apart.is_some())?)?);
    let checksum = row_checksum(record.id, &row);
    row.extend(checksum);
    Ok((row, apart))
}

/// The record in a row, once its checksum is found true.
pub(crate) fn decode_row(id: RecordId, row: &[u8]) -> Result<Row, Malformed> {
    let (body, checksum) = row.split_last_chunk::<ROW_CHECKSUM_LEN>().ok_or(Malformed)?;
    if row_checksum(id, body) != *checksum {
        return Err(Malformed);
    }
    decode_body(id, body)
}

fn decode_body(id: RecordId, body: &[u8]) -> Result<Row, Malformed> {
    row_of(id, &decode_wire(body)?)
}

fn decode_wire(body: &[u8]) -> Result<WireRecord<'_>, Malformed> {
    match body.split_first() {
        Some((&ROW_VERSION, body)) => decode(body),
        _ => Err(Malformed),
    }
}

/// What a scan needs of a row. It borrows, and leaves the checksum alone: redb has checked the
/// whole file when it was opened.
pub(crate) struct Scanned<'a> {
    pub(crate) framed_key: &'a [u8],
    /// Whether the result has a row of its own.
    pub(crate) apart: bool,
}

/// The parts of a row that a scan needs.
pub(crate) fn scan_row(row: &[u8]) -> Result<Scanned<'_>, Malformed> {
    let (body, _) = row.split_last_chunk::<ROW_CHECKSUM_LEN>().ok_or(Malformed)?;
    let wire = decode_wire(body)?;
    let apart = matches!(wire.state, WireState::CompletedApart { .. });
    Ok(Scanned { framed_key: wire.key, apart })
}

/// Covers the row's place too, so that a row that has strayed is noticed.
fn row_checksum(id: RecordId, body: &[u8]) -> [u8; ROW_CHECKSUM_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&id.expires_at.as_unix_ms().to_le_bytes())
        .update(&id.serial.to_le_bytes())
        .update(body);
    let mut checksum = [0; ROW_CHECKSUM_LEN];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

/// The bytes of a change in the log.
pub(crate) fn encode_change(change: &ChangeKind) -> Result<Vec<u8>, Malformed> {
    encode(match change {
        ChangeKind::Put(record) => WireChange::Put {
            expires_at: record.id.expires_at.as_unix_ms(),
            serial: record.id.serial,
            record: wire_record(record, false)?,
        },
        ChangeKind::Remove(record) => WireChange::Remove {
            expires_at: record.id.expires_at.as_unix_ms(),
            serial: record.id.serial,
        },
    })
}

/// What a change in the log says: the new record of this place, or none.
pub(crate) fn decode_change(bytes: &[u8]) -> Result<(RecordId, Option<Record>), Malformed> {
    match decode(bytes)? {
        WireChange::Put { expires_at, serial, record } => {
            let id = RecordId { expires_at: Timestamp::from_unix_ms(expires_at), serial };
            match row_of(id, &record)? {
                Row::Whole(record) => Ok((id, Some(record))),
                Row::Apart(_) => Err(Malformed),
            }
        }
        WireChange::Remove { expires_at, serial } => {
            Ok((RecordId { expires_at: Timestamp::from_unix_ms(expires_at), serial }, None))
        }
    }
}

/// Tells a result that is stored apart from any other.
fn digest(result: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    blake3::Hasher::new().update(result).finalize_xof().fill(&mut digest);
    digest
}

fn wire_record(record: &Record, apart: bool) -> Result<WireRecord<'_>, Malformed> {
    let (fingerprint_algorithm, fingerprint) = record.fingerprint.to_stored();
    let state = match &record.state {
        State::Started => WireState::Started,
        State::Completed { completed_at, result } if apart => WireState::CompletedApart {
            completed_at: completed_at.as_unix_ms(),
            result_len: u32::try_from(result.len()).map_err(|_| Malformed)?,
            result_digest: digest(result),
        },
        State::Completed { completed_at, result } => {
            WireState::Completed { completed_at: completed_at.as_unix_ms(), result }
        }
    };
    Ok(WireRecord {
        key: record.key.framed(),
        fingerprint_algorithm,
        fingerprint,
        begun_at: record.begun_at.as_unix_ms(),
        attempt: record.attempt,
        state,
    })
}

fn row_of(id: RecordId, wire: &WireRecord<'_>) -> Result<Row, Malformed> {
    let record = Record {
        id,
        key: Key::from_framed(wire.key).ok_or(Malformed)?,
        fingerprint: Fingerprint::from_stored(wire.fingerprint_algorithm, wire.fingerprint),
        begun_at: Timestamp::from_unix_ms(wire.begun_at),
        attempt: wire.attempt,
        state: State::Started,
    };
    Ok(match wire.state {
        WireState::Started => Row::Whole(record),
        WireState::Completed { completed_at, result } => Row::Whole(crate::transition::complete(
            record,
            result.into(),
            Timestamp::from_unix_ms(completed_at),
        )),
        WireState::CompletedApart { completed_at, result_len, result_digest } => {
            Row::Apart(Apart {
                record,
                completed_at: Timestamp::from_unix_ms(completed_at),
                len: result_len,
                digest: result_digest,
            })
        }
    })
}

fn encode(value: impl Encode) -> Result<Vec<u8>, Malformed> {
    bincode::encode_to_vec(value, CONFIG).map_err(|_| Malformed)
}

fn decode<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    match bincode::borrow_decode_from_slice(bytes, CONFIG) {
        Ok((value, len)) if len == bytes.len() => Ok(value),
        _ => Err(Malformed),
    }
}
