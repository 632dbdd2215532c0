//! Rows, changes and marks.

use super::{Source, encoded};
use crate::clock::Timestamp;
use crate::codec::{
    Logged, MARK_LEN_MAX, Row, decode_logged, decode_row, encode_mark, encode_row, scan_row,
};
use crate::record::{Record, RecordId};

pub(super) fn run(bytes: &[u8]) {
    arbitrary_logged(bytes);
    arbitrary_row(bytes);
    let mut source = Source(bytes);
    let record = source.record(1_200);
    row_comes_back(&record);
    row_is_told_from_others(&record, &mut source);
    change_comes_back(record.id, Some(&record));
    change_comes_back(source.id(), None);
    mark_comes_back(source.number());
}

/// All that a record says.
type Facts<'r> = (
    (RecordId, &'r [u8], (u8, [u8; 32]), Timestamp, u32, bool),
    (Option<&'r [u8]>, Option<&'r [u8]>, Option<(u64, [u8; 32])>, Option<Timestamp>),
);

fn facts(record: &Record) -> Facts<'_> {
    let Record { id, key, fingerprint, begun_at, attempt, state } = record;
    (
        (*id, key.framed(), fingerprint.to_stored(), *begun_at, *attempt, state.is_started()),
        (state.checkpoint(), state.result(), state.tombstone(), state.completed_at()),
    )
}

/// What is decoded holds no more than it was decoded from, and comes back from bytes that are as
/// short as they can be.
fn arbitrary_logged(bytes: &[u8]) {
    let (id, record) = match decode_logged(bytes) {
        Ok(Logged::Change(id, record)) => (id, record),
        Ok(Logged::Mark(serial)) => return mark_comes_back(serial),
        Err(_) => return,
    };
    if let Some(record) = &record {
        let held = record.state.result().or(record.state.checkpoint()).unwrap_or_default();
        assert!(record.key.framed().len() + held.len() <= bytes.len());
    }
    assert!(encoded(id, record.as_ref()).len() <= bytes.len());
    change_comes_back(id, record.as_ref());
}

fn change_comes_back(id: RecordId, record: Option<&Record>) {
    let bytes = encoded(id, record);
    let read = match decode_logged(&bytes).expect("it can be decoded") {
        Logged::Change(id, record) => Some((id, record)),
        Logged::Mark(_) => None,
    };
    let (read_id, read) = read.expect("it is decoded as a change");
    assert_eq!(read_id, id);
    assert_eq!(read.as_ref().map(facts), record.map(facts));
    assert_eq!(encoded(read_id, read.as_ref()), bytes);
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(decode_logged(&longer).is_err(), "a byte is left over");
}

fn mark_comes_back(serial: u64) {
    let bytes = encode_mark(serial).expect("it is short");
    assert!(bytes.len() <= MARK_LEN_MAX);
    assert!(matches!(decode_logged(&bytes), Ok(Logged::Mark(read)) if read == serial));
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(decode_logged(&longer).is_err(), "a byte is left over");
}

fn arbitrary_row(bytes: &[u8]) {
    let id = Source(bytes).id();
    read_row(id, bytes);
    // Nobody guesses a checksum.
    read_row(id, &[bytes, &checksum(id, bytes)].concat());
}

/// Scanning and reading agree, and what is read comes back from bytes of its own.
fn read_row(id: RecordId, row: &[u8]) {
    let scanned = scan_row(id, row);
    let Ok(read) = decode_row(id, row) else { return };
    let scanned = scanned.expect("what can be read can be scanned");
    match read {
        Row::Whole(record) => {
            assert!(!scanned.apart);
            assert_eq!(scanned.framed_key, record.key.framed());
            assert_eq!(scanned.begun_at, record.begun_at);
            assert_eq!(scanned.started, record.state.is_started());
            row_comes_back(&record);
        }
        Row::Apart(apart) => {
            assert!(scanned.apart);
            if let Ok(record) = apart.join(row) {
                row_comes_back(&record);
            }
        }
    }
}

fn row_comes_back(record: &Record) {
    let (row, apart) = encode_row(record).expect("it is as long as the codec takes");
    let (body, _) = row.split_at(row.len() - 8);
    assert_eq!(row, [body, &checksum(record.id, body)].concat());
    let read = match decode_row(record.id, &row).expect("it can be decoded") {
        Row::Whole(read) => {
            assert_eq!(apart, None);
            read
        }
        Row::Apart(read) => {
            read.join(apart.expect("it has bytes apart")).expect("they are its own")
        }
    };
    assert_eq!(facts(&read), facts(record));
    assert_eq!(encode_row(&read), Ok((row, apart)));
}

/// One other bit, byte, or place, and it is not this row.
fn row_is_told_from_others(record: &Record, source: &mut Source<'_>) {
    let (row, apart) = encode_row(record).expect("it is as long as the codec takes");
    let mut flipped = row.clone();
    flipped[source.below(row.len())] ^= 1 << (source.byte() % 8);
    assert!(decode_row(record.id, &flipped).is_err());
    let elsewhere =
        RecordId { serial: record.id.serial ^ (1 << (source.byte() % 64)), ..record.id };
    assert!(decode_row(elsewhere, &row).is_err());
    if let (Some(apart), Ok(Row::Apart(row))) = (apart, decode_row(record.id, &row)) {
        let mut other = apart.to_vec();
        other[source.below(apart.len())] ^= 1 << (source.byte() % 8);
        assert!(row.join(&other).is_err());
    }
}

/// The checksum of a row, made as `docs/FORMAT.md` says and without the codec.
fn checksum(id: RecordId, body: &[u8]) -> [u8; 8] {
    let mut place = [0; 32];
    place[..8].copy_from_slice(&id.expires_at.as_unix_ms().to_le_bytes());
    place[8..16].copy_from_slice(&id.serial.to_le_bytes());
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&blake3::keyed_hash(&place, body).as_bytes()[..8]);
    checksum
}
