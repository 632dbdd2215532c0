//! The bytes of one record and one change, in bincode.
//!
//! This module is the only one that knows of bincode. Both formats that hold records use it: a row
//! of the vault and an operation in the log (`docs/FORMAT.md` shows them byte by byte). Decoding
//! borrows, never allocates what a length field asks for, and rejects trailing bytes.

mod wire;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::EncoderImpl;
use bincode::enc::write::{SizeWriter, Writer};
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::limits::{CHANGE_OVERHEAD_MAX, RESULT_INLINE_MAX, RESULT_LEN_MAX};
use crate::local::change::{ChangeKind, RecordId};
use crate::local::room::Stage;
use crate::rules::record::{Digest, Kept, Record, State};
use wire::{WireApart, WireChange, WireNoted, WirePlace, WireRecord, WireState};

const BYTES_MAX: usize = RESULT_LEN_MAX + CHANGE_OVERHEAD_MAX;
const CONFIG: Configuration<LittleEndian, Varint, Limit<BYTES_MAX>> =
    bincode::config::standard().with_limit::<BYTES_MAX>();

/// The bytes aren't what [`encode_row`] or [`encode_change`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// An item of the log.
pub(crate) enum Logged {
    /// The new record of a key, and the place that the key's record left, if it moved.
    Put { from: Option<RecordId>, record: Record },
    /// This place is empty from now on.
    Remove(RecordId),
    /// The vault has given out this serial number.
    Mark(u64),
    /// The wall clock when the frame was written.
    Wall(Timestamp),
}

/// Most bytes of a mark or of a wall time in the log: the variant and a number.
pub(crate) const NUMBER_LEN_MAX: usize = 1 + 9;

/// A record as it is stored in its row.
pub(crate) enum Row {
    Whole(Record),
    /// The result or the checkpoint is stored in a separate row, and must be added with
    /// [`Apart::join`].
    Apart(Apart),
}

/// A record whose result or checkpoint is stored in a separate row.
pub(crate) struct Apart {
    record: Record,
    /// `None` if the bytes are a checkpoint.
    completed_at: Option<Timestamp>,
    wire: WireApart,
}

impl Apart {
    /// The whole record, if `bytes` are the ones that were stored with it.
    pub(crate) fn join(self, bytes: &[u8]) -> Result<Record, Malformed> {
        let Self { record, completed_at, wire } = self;
        if bytes.len() != wire.len as usize || digest(bytes) != wire.digest {
            return Err(Malformed);
        }
        Ok(match completed_at {
            Some(at) => record.completed(Kept::Whole(bytes.into()), at),
            None => record.with_checkpoint(bytes.into()),
        })
    }
}

/// The first byte of each row, now and in formats 1 and 2.
const ROW_VERSION: u8 = 2;
const ROW_VERSION_OLD: u8 = 1;
/// Length of the checksum at the end of each row, in bytes.
const ROW_CHECKSUM_LEN: usize = 8;

/// The row of a record, and its result or checkpoint if that needs a separate row.
pub(crate) fn encode_row(record: &Record) -> Result<(Vec<u8>, Option<&[u8]>), Malformed> {
    let bytes = match &record.state {
        State::Started { checkpoint } => checkpoint.as_deref(),
        State::Completed { kept: Kept::Whole(result), .. } => Some(&**result),
        State::Completed { kept: Kept::Digest(_), .. } => None,
    };
    let apart = bytes.filter(|bytes| RESULT_INLINE_MAX < bytes.len());
    let mut row = vec![ROW_VERSION];
    row.extend(encode(wire_noted(record, apart.is_some())?)?);
    let checksum = row_checksum(RecordId::of(record), &row);
    row.extend(checksum);
    Ok((row, apart))
}

/// The record in a row, after verifying the row's checksum.
pub(crate) fn decode_row(id: RecordId, row: &[u8]) -> Result<Row, Malformed> {
    decode_body(id, checked(id, row)?)
}

/// The row without its checksum, if the checksum is right.
fn checked(id: RecordId, row: &[u8]) -> Result<&[u8], Malformed> {
    let (body, checksum) = row.split_last_chunk::<ROW_CHECKSUM_LEN>().ok_or(Malformed)?;
    if row_checksum(id, body) == *checksum { Ok(body) } else { Err(Malformed) }
}

fn decode_body(id: RecordId, body: &[u8]) -> Result<Row, Malformed> {
    row_of(id, &decode_wire(body)?)
}

fn decode_wire(body: &[u8]) -> Result<WireNoted<'_>, Malformed> {
    match body.split_first() {
        Some((&ROW_VERSION, body)) => decode(body),
        Some((&ROW_VERSION_OLD, body)) => decode(body).map(without_note),
        _ => Err(Malformed),
    }
}

/// A record as formats 1 and 2 stored it.
fn without_note(record: WireRecord<'_>) -> WireNoted<'_> {
    WireNoted { keep: false, note: None, record }
}

/// The parts of a row that a scan needs. They borrow from the row.
pub(crate) struct Scanned<'a> {
    pub(crate) framed_key: &'a [u8],
    pub(crate) begun_at: Timestamp,
    pub(crate) stage: Stage,
    /// Length of the result or checkpoint, if it has a separate row.
    pub(crate) apart: Option<u32>,
    /// Whether it's kept past its retention while it is interrupted.
    pub(crate) keep: bool,
}

/// The parts of a row that a scan needs, after verifying the row's checksum. The checksums of
/// redb's pages aren't enough: if a row rots while the store is open, the next write to its page
/// gives the rot a valid page checksum.
pub(crate) fn scan_row(id: RecordId, row: &[u8]) -> Result<Scanned<'_>, Malformed> {
    let WireNoted { keep, record: wire, .. } = decode_wire(checked(id, row)?)?;
    let (stage, apart) = match wire.state {
        WireState::Started | WireState::StartedAt { .. } => (Stage::Started, None),
        WireState::StartedAtApart { apart } => (Stage::Started, Some(apart.len)),
        WireState::Completed { result, .. } => (Stage::Completed(result.len() as u64), None),
        WireState::Digest { .. } => (Stage::Completed(0), None),
        WireState::CompletedApart { apart, .. } => {
            (Stage::Completed(apart.len.into()), Some(apart.len))
        }
    };
    let begun_at = Timestamp::from_unix_ms(wire.begun_at);
    Ok(Scanned { framed_key: wire.key, begun_at, stage, apart, keep })
}

/// The checksum covers the row's place too, so that a misplaced row is noticed. The place serves as
/// the key of a keyed hash, which costs half as much as hashing it in front of the row.
fn row_checksum(id: RecordId, body: &[u8]) -> [u8; ROW_CHECKSUM_LEN] {
    let mut place = [0; 32];
    let (expiry, rest) = place.split_at_mut(8);
    expiry.copy_from_slice(&id.expires_at.as_unix_ms().to_le_bytes());
    rest.split_at_mut(8).0.copy_from_slice(&id.serial.to_le_bytes());
    prefix(&blake3::keyed_hash(&place, body))
}

/// The first bytes of a hash.
fn prefix<const LEN: usize>(hash: &blake3::Hash) -> [u8; LEN] {
    let mut prefix = [0; LEN];
    prefix.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    prefix
}

/// Length of a change in the log, in bytes.
pub(crate) fn change_len(change: &ChangeKind) -> Result<usize, Malformed> {
    let mut counter = EncoderImpl::new(SizeWriter::default(), CONFIG);
    wire_change(change)?.encode(&mut counter).map_err(|_| Malformed)?;
    Ok(counter.into_writer().bytes_written)
}

/// Appends the bytes of a change in the log to `out`.
pub(crate) fn encode_change_into(change: &ChangeKind, out: &mut Vec<u8>) -> Result<(), Malformed> {
    encode_into(wire_change(change)?, out)
}

/// The bytes of a change in the log.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_change(change: &ChangeKind) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    encode_change_into(change, &mut bytes)?;
    Ok(bytes)
}

fn wire_change(change: &ChangeKind) -> Result<WireChange<'_>, Malformed> {
    let (from, record) = match change {
        ChangeKind::Put(record) => (None, record),
        ChangeKind::Move { from, to } => (Some(wire_place(*from)), to),
        ChangeKind::Remove(record) => {
            let WirePlace { expires_at, serial } = wire_place(RecordId::of(record));
            return Ok(WireChange::Remove { expires_at, serial });
        }
    };
    let WirePlace { expires_at, serial } = wire_place(RecordId::of(record));
    Ok(WireChange::Put { from, expires_at, serial, noted: wire_noted(record, false)? })
}

fn wire_place(id: RecordId) -> WirePlace {
    WirePlace { expires_at: id.expires_at.as_unix_ms(), serial: id.serial }
}

/// The bytes of a mark in the log.
#[cfg(any(feature = "transaction", test, fuzzing))]
pub(crate) fn encode_mark(serial: u64) -> Result<Vec<u8>, Malformed> {
    encode(WireChange::Mark { serial })
}

/// The bytes of a wall time in the log, and how many there are. Every frame has one, so they aren't
/// heap-allocated.
pub(crate) fn encode_wall(wall: Timestamp) -> ([u8; NUMBER_LEN_MAX], usize) {
    let mut bytes = [0; NUMBER_LEN_MAX];
    let wire = WireChange::Wall { at: wall.as_unix_ms() };
    let len = bincode::encode_into_slice(wire, &mut bytes, CONFIG)
        .expect("a variant and a number have at most so many bytes");
    (bytes, len)
}

/// Decodes an item of a frame.
pub(crate) fn decode_logged(bytes: &[u8]) -> Result<Logged, Malformed> {
    let place =
        |expires_at, serial| RecordId { expires_at: Timestamp::from_unix_ms(expires_at), serial };
    let put = |from: Option<WirePlace>, id, noted: &WireNoted<'_>| match row_of(id, noted)? {
        Row::Whole(record) => {
            Ok(Logged::Put { from: from.map(|from| place(from.expires_at, from.serial)), record })
        }
        Row::Apart(_) => Err(Malformed),
    };
    match decode(bytes)? {
        WireChange::OldPut { expires_at, serial, record } => {
            put(None, place(expires_at, serial), &without_note(record))
        }
        WireChange::Put { from, expires_at, serial, noted } => {
            put(from, place(expires_at, serial), &noted)
        }
        WireChange::Remove { expires_at, serial } => Ok(Logged::Remove(place(expires_at, serial))),
        WireChange::Mark { serial } => Ok(Logged::Mark(serial)),
        WireChange::Wall { at } => Ok(Logged::Wall(Timestamp::from_unix_ms(at))),
    }
}

/// Distinguishes bytes that are stored apart from all others.
fn digest(bytes: &[u8]) -> [u8; 16] {
    prefix(&blake3::hash(bytes))
}

fn wire_noted(record: &Record, apart: bool) -> Result<WireNoted<'_>, Malformed> {
    let (keep, note) = (record.keep, record.note.as_deref());
    Ok(WireNoted { keep, note, record: wire_record(record, apart)? })
}

fn wire_record(record: &Record, apart: bool) -> Result<WireRecord<'_>, Malformed> {
    let (fingerprint_algorithm, fingerprint) = record.fingerprint.to_stored();
    Ok(WireRecord {
        key: record.key.framed(),
        fingerprint_algorithm,
        fingerprint,
        begun_at: record.begun_at.as_unix_ms(),
        attempt: record.attempt,
        state: wire_state(&record.state, apart)?,
    })
}

fn wire_state(state: &State, apart: bool) -> Result<WireState<'_>, Malformed> {
    Ok(match state {
        State::Started { checkpoint: None } => WireState::Started,
        State::Started { checkpoint: Some(checkpoint) } if apart => {
            WireState::StartedAtApart { apart: wire_apart(checkpoint)? }
        }
        State::Started { checkpoint: Some(checkpoint) } => WireState::StartedAt { checkpoint },
        State::Completed { completed_at, kept } => {
            let completed_at = completed_at.as_unix_ms();
            match kept {
                Kept::Whole(result) if apart => {
                    WireState::CompletedApart { completed_at, apart: wire_apart(result)? }
                }
                Kept::Whole(result) => WireState::Completed { completed_at, result },
                Kept::Digest(Digest { len, blake3 }) => {
                    WireState::Digest { completed_at, result_len: *len, result_digest: *blake3 }
                }
            }
        }
    })
}

fn wire_apart(bytes: &[u8]) -> Result<WireApart, Malformed> {
    let len = u32::try_from(bytes.len()).map_err(|_| Malformed)?;
    Ok(WireApart { len, digest: digest(bytes) })
}

fn row_of(id: RecordId, noted: &WireNoted<'_>) -> Result<Row, Malformed> {
    let WireNoted { keep, note, record: wire } = noted;
    let record = Record {
        expires_at: id.expires_at,
        serial: id.serial,
        key: Key::from_framed(wire.key).ok_or(Malformed)?,
        fingerprint: Fingerprint::from_stored(wire.fingerprint_algorithm, wire.fingerprint),
        begun_at: Timestamp::from_unix_ms(wire.begun_at),
        attempt: wire.attempt,
        keep: *keep,
        note: note.map(Into::into),
        state: State::Started { checkpoint: None },
    };
    let complete =
        |record: &Record, kept, at| Row::Whole(record.completed(kept, Timestamp::from_unix_ms(at)));
    Ok(match wire.state {
        WireState::Started => Row::Whole(record),
        WireState::StartedAt { checkpoint } => {
            Row::Whole(record.with_checkpoint(checkpoint.into()))
        }
        WireState::StartedAtApart { apart } => {
            Row::Apart(Apart { record, completed_at: None, wire: apart })
        }
        WireState::Completed { completed_at, result } => {
            complete(&record, Kept::Whole(result.into()), completed_at)
        }
        WireState::CompletedApart { completed_at, apart } => {
            let completed_at = Some(Timestamp::from_unix_ms(completed_at));
            Row::Apart(Apart { record, completed_at, wire: apart })
        }
        WireState::Digest { completed_at, result_len, result_digest } => {
            let kept = Kept::Digest(Digest { len: result_len, blake3: result_digest });
            complete(&record, kept, completed_at)
        }
    })
}

fn encode(value: impl Encode) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

fn encode_into(value: impl Encode, out: &mut Vec<u8>) -> Result<(), Malformed> {
    value.encode(&mut EncoderImpl::new(Sink(out), CONFIG)).map_err(|_| Malformed)
}

/// Appends what bincode encodes. bincode's own writer into a `Vec` would put serde into every
/// user's lock file.
struct Sink<'v>(&'v mut Vec<u8>);

impl Writer for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn decode<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    match bincode::borrow_decode_from_slice(bytes, CONFIG) {
        Ok((value, len)) if len == bytes.len() => Ok(value),
        _ => Err(Malformed),
    }
}

/// The bytes of a caller's typed value.
#[cfg(feature = "typed")]
pub(crate) fn encode_typed<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Malformed> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(|_| Malformed)
}

/// The value that was passed to [`encode_typed`].
///
/// bincode allocates as much as a length field asks for, up to a limit that is part of the
/// configuration's type. So there is one limit for each order of magnitude. Each is 16 times the
/// longest input that it's used for, since bincode counts 16 bytes for a number that may be encoded
/// in one.
#[cfg(feature = "typed")]
pub(crate) fn decode_typed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    const SHORT: usize = 1024;
    const MEDIUM: usize = 16 * SHORT;
    const LONG: usize = 16 * MEDIUM;
    const VERY_LONG: usize = 16 * LONG;
    #[expect(clippy::match_overlapping_arm, reason = "each takes what those above it have left")]
    match bytes.len() {
        ..=SHORT => decode_within::<T, { 16 * SHORT }>(bytes),
        ..=MEDIUM => decode_within::<T, { 16 * MEDIUM }>(bytes),
        ..=LONG => decode_within::<T, { 16 * LONG }>(bytes),
        ..=VERY_LONG => decode_within::<T, { 16 * VERY_LONG }>(bytes),
        _ => decode_within::<T, { 16 * BYTES_MAX }>(bytes),
    }
}

#[cfg(feature = "typed")]
fn decode_within<T: serde::de::DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<T, Malformed> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, len)) if len == bytes.len() => Ok(value),
        _ => Err(Malformed),
    }
}

/// Decodes hexadecimal digits, for golden bytes.
#[cfg(test)]
pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|digits| {
            let digits = str::from_utf8(digits).expect("it is ASCII");
            u8::from_str_radix(digits, 16).expect("it is hexadecimal")
        })
        .collect()
}

#[cfg(test)]
mod tests;
