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
#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
struct WireRecord<'a> {
    key: &'a [u8],
    fingerprint_algorithm: u8,
    fingerprint: [u8; 32],
    begun_at: u64,
    attempt: u32,
    state: WireState<'a>,
}

#[derive(Encode, BorrowDecode)]
#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
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
#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
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

/// Covers the row's place too, so that a row that has strayed is noticed. The place is the key
/// of a keyed hash, which costs half of what hashing it before the row would.
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
    prefix(&blake3::hash(result))
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

/// Bytes from their hexadecimal form, for golden bytes.
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
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn started() -> Record {
        Record {
            id: RecordId { expires_at: at(1_700_000_086_400), serial: 7 },
            key: Key::scoped("shop", "order-1").expect("it is a key"),
            fingerprint: Fingerprint::from_stored(1, [0xAB; 32]),
            begun_at: at(1_700_000_000_000),
            attempt: 3,
            state: State::Started,
        }
    }

    fn completed(result: &[u8]) -> Record {
        crate::transition::complete(started(), result.into(), at(1_700_000_000_250))
    }

    /// Long enough for a row of its own.
    fn long() -> Record {
        completed(&[b'x'; RESULT_INLINE_MAX + 1])
    }

    /// How each record starts: scope and key, fingerprint, first begin, attempt.
    const HEAD: &str = "0c0473686f706f726465722d31\
        01abababababababababababababababababababababababababababababababab\
        fd0068e5cf8b01000003";

    #[track_caller]
    fn check_row(record: &Record, state: &str, checksum: &str) {
        let (row, _) = encode_row(record).expect("it can be encoded");
        assert_eq!(row, from_hex(&format!("01{HEAD}{state}{checksum}")));
    }

    #[test]
    fn the_bytes_of_a_row_stay_what_they_are() {
        check_row(&started(), "00", "0419aead9a466f7b");
        check_row(&completed(b"done"), "01fdfa68e5cf8b01000004646f6e65", "e8d803a21f139f66");
        check_row(
            &long(),
            "02fdfa68e5cf8b010000fb0102eb23a27559ad3d5cecbdaef9ee269264",
            "c3786a2d4a54d912",
        );
    }

    #[test]
    fn the_bytes_of_a_change_stay_what_they_are() {
        const PLACE: &str = "fd80b9e6cf8b01000007";
        let change = |change| encode_change(&change).expect("it can be encoded");
        let put = change(ChangeKind::Put(completed(b"done").into()));
        assert_eq!(put, from_hex(&format!("00{PLACE}{HEAD}01fdfa68e5cf8b01000004646f6e65")));
        let remove = change(ChangeKind::Remove(started().into()));
        assert_eq!(remove, from_hex(&format!("01{PLACE}")));
    }

    /// What the record says, in a form that can be compared.
    fn shown(record: &Record) -> String {
        let (algorithm, digest) = record.fingerprint.to_stored();
        let state = match &record.state {
            State::Started => "started".to_owned(),
            State::Completed { completed_at, result } => format!("{completed_at:?} {result:?}"),
        };
        let Record { id, key, begun_at, attempt, .. } = record;
        format!("{id:?} {:?} {algorithm} {digest:?} {begun_at:?} {attempt} {state}", key.framed())
    }

    #[test]
    fn rows_and_changes_come_back_as_they_were() {
        for record in [started(), completed(b""), completed(b"done"), long()] {
            let (row, apart) = encode_row(&record).expect("it can be encoded");
            let read = match decode_row(record.id, &row).expect("it can be decoded") {
                Row::Whole(record) => record,
                Row::Apart(row) => row.join(apart.expect("it is stored apart")).expect("it fits"),
            };
            assert_eq!(shown(&read), shown(&record));
            let scanned = scan_row(&row).expect("it can be decoded");
            assert_eq!(scanned.framed_key, record.key.framed());
            assert_eq!(scanned.apart, apart.is_some());

            let change = ChangeKind::Put(record.clone().into());
            let change = encode_change(&change).expect("it can be encoded");
            let (id, read) = decode_change(&change).expect("it can be decoded");
            assert_eq!(id, record.id);
            assert_eq!(read.map(|read| shown(&read)), Some(shown(&record)));
        }
        let change = encode_change(&ChangeKind::Remove(started().into())).expect("it can be");
        assert!(matches!(decode_change(&change), Ok((id, None)) if id == started().id));
    }

    #[test]
    fn a_row_is_refused_for_any_other_bit_place_or_length() {
        let (row, _) = encode_row(&completed(b"done")).expect("it can be encoded");
        let id = started().id;
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            if let Some(byte) = flipped.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            assert!(decode_row(id, &flipped).is_err(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(decode_row(id, row.get(..len).unwrap_or_default()).is_err(), "{len} bytes");
        }
        let mut longer = row.clone();
        longer.push(0);
        assert!(decode_row(id, &longer).is_err());
        assert!(decode_row(RecordId { serial: 8, ..id }, &row).is_err());
        assert!(decode_row(RecordId { expires_at: at(1), ..id }, &row).is_err());
    }

    #[test]
    fn a_result_that_is_stored_apart_is_told_from_any_other() {
        let record = long();
        let (row, apart) = encode_row(&record).expect("it can be encoded");
        let apart = apart.expect("it is stored apart");
        let join = |result: &[u8]| match decode_row(record.id, &row) {
            Ok(Row::Apart(row)) => row.join(result).map(drop),
            _ => panic!("it is not stored apart"),
        };
        assert_eq!(join(apart), Ok(()));
        assert_eq!(join(&apart[1..]), Err(Malformed));
        assert_eq!(join(&[b'y'; RESULT_INLINE_MAX + 1]), Err(Malformed));
    }

    #[test]
    fn what_asks_for_too_much_or_leaves_something_over_is_refused() {
        // A key of 2^63 bytes, in ten bytes.
        assert!(decode_change(b"\x00\x01\x01\xfd\xff\xff\xff\xff\xff\xff\xff\x7f").is_err());
        let mut change = encode_change(&ChangeKind::Remove(started().into())).expect("it can be");
        change.push(0);
        assert!(decode_change(&change).is_err());
        assert!(decode_change(b"").is_err());
        assert!(decode_change(b"\x02").is_err());
    }

    /// The way out, should bincode have to go: another crate reads and writes the same bytes.
    #[test]
    fn wincode_reads_and_writes_the_same_bytes() {
        let config = wincode::config::Configuration::default()
            .with_varint_encoding()
            .with_tag_encoding::<u8>();
        for record in [started(), completed(b""), completed(&[b'x'; 300]), long()] {
            for apart in [false, record.id == long().id] {
                let ours =
                    encode(wire_record(&record, apart).expect("it fits")).expect("it can be");
                let theirs: WireRecord<'_> =
                    wincode::config::deserialize_exact(&ours, config).expect("it can be decoded");
                assert_eq!(theirs, decode(&ours).expect("it can be decoded"));
                assert_eq!(wincode::config::serialize(&theirs, config).expect("it can be"), ours);
            }
            let change = encode_change(&ChangeKind::Put(record.into())).expect("it can be");
            let theirs: WireChange<'_> =
                wincode::config::deserialize_exact(&change, config).expect("it can be decoded");
            assert_eq!(theirs, decode(&change).expect("it can be decoded"));
        }
    }
}
