//! Rows, changes and marks.

use super::{Source, encoded, encoded_logged};
use crate::clock::Timestamp;
use crate::local::change::RecordId;
use crate::local::codec::{
    Logged, NUMBER_LEN_MAX, Row, decode_logged, decode_row, encode_mark, encode_row, encode_wall,
    scan_row,
};
use crate::local::room::Stage;
use crate::rules::record::{Kept, Record, State};

/// How many bytes a put is longer than in formats 1 and 2: whether it is kept, whether it has a
/// note, and whether it comes from another place.
const LONGER_THAN_OLD: usize = 3;

pub(super) fn run(bytes: &[u8]) {
    arbitrary_logged(bytes);
    arbitrary_row(bytes);
    let mut source = Source(bytes);
    let record = source.record(1_200);
    row_comes_back(&record);
    row_is_told_from_others(&record, &mut source);
    logged_comes_back(&encoded(Some(source.id()), RecordId::of(&record), Some(&record)));
    logged_comes_back(&encoded(None, RecordId::of(&record), Some(&record)));
    logged_comes_back(&encoded(None, source.id(), None));
    number_comes_back(&encode_mark(source.number()).expect("it is short"));
    let (wall, len) = encode_wall(source.time());
    number_comes_back(&wall[..len]);
}

/// Everything in a record.
type Facts<'r> = (
    (RecordId, &'r [u8], (u8, [u8; 32]), Timestamp, u32, bool),
    (bool, Option<&'r [u8]>),
    (Option<&'r [u8]>, Option<Timestamp>, Option<&'r [u8]>, Option<(u64, [u8; 32])>),
);

fn facts(record: &Record) -> Facts<'_> {
    let Record { key, fingerprint, begun_at, attempt, keep, note, state, .. } = record;
    let id = RecordId::of(record);
    let said = match state {
        State::Started { checkpoint } => (checkpoint.as_deref(), None, None, None),
        State::Completed { completed_at, kept: Kept::Whole(result) } => {
            (None, Some(*completed_at), Some(&**result), None)
        }
        State::Completed { completed_at, kept: Kept::Digest(digest) } => {
            (None, Some(*completed_at), None, Some((digest.len, digest.blake3)))
        }
    };
    (
        (id, key.framed(), fingerprint.to_stored(), *begun_at, *attempt, state.is_started()),
        (*keep, note.as_deref()),
        said,
    )
}

/// What is decoded holds no more than its bytes, and is encoded again to bytes that are as short as
/// possible.
fn arbitrary_logged(bytes: &[u8]) {
    let Ok(logged) = decode_logged(bytes) else { return };
    if let Logged::Put { record, .. } = &logged {
        let (_, _, (checkpoint, _, result, _)) = facts(record);
        let held = result.or(checkpoint).unwrap_or_default();
        let note = record.note.as_deref().unwrap_or_default();
        assert!(record.key.framed().len() + held.len() + note.len() <= bytes.len());
    }
    let again = encoded_logged(logged);
    assert!(again.len() <= bytes.len() + LONGER_THAN_OLD);
    logged_comes_back(&again);
}

fn logged_comes_back(bytes: &[u8]) {
    let read = decode_logged(bytes).expect("it can be decoded");
    assert_eq!(encoded_logged(read), bytes);
    let longer = [bytes, &[0]].concat();
    assert!(decode_logged(&longer).is_err(), "a byte is left over");
}

/// A mark or a wall.
fn number_comes_back(bytes: &[u8]) {
    assert!(bytes.len() <= NUMBER_LEN_MAX);
    logged_comes_back(bytes);
}

fn arbitrary_row(bytes: &[u8]) {
    let id = Source(bytes).id();
    read_row(id, bytes);
    // A random input can't match a checksum.
    read_row(id, &[bytes, &checksum(id, bytes)].concat());
}

/// Scanning and reading agree, and what is read comes back from its own bytes.
fn read_row(id: RecordId, row: &[u8]) {
    let scanned = scan_row(id, row);
    let Ok(read) = decode_row(id, row) else { return };
    let scanned = scanned.expect("what can be read can be scanned");
    match read {
        Row::Whole(record) => {
            assert!(scanned.apart.is_none());
            assert_eq!(scanned.framed_key, record.key.framed());
            assert_eq!(scanned.begun_at, record.begun_at);
            assert_eq!(scanned.stage, Stage::of(&record));
            row_comes_back(&record);
        }
        Row::Apart(apart) => {
            assert!(scanned.apart.is_some());
            if let Ok(record) = apart.join(row) {
                row_comes_back(&record);
            }
        }
    }
}

fn row_comes_back(record: &Record) {
    let (row, apart) = encode_row(record).expect("it is as long as the codec takes");
    let (body, _) = row.split_at(row.len() - 8);
    assert_eq!(row, [body, &checksum(RecordId::of(record), body)].concat());
    let read = match decode_row(RecordId::of(record), &row).expect("it can be decoded") {
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

/// With one different bit, byte or place, it is not this row.
fn row_is_told_from_others(record: &Record, source: &mut Source<'_>) {
    let (row, apart) = encode_row(record).expect("it is as long as the codec takes");
    let mut flipped = row.clone();
    flipped[source.below(row.len())] ^= 1 << (source.byte() % 8);
    assert!(decode_row(RecordId::of(record), &flipped).is_err());
    let elsewhere =
        RecordId { serial: record.serial ^ (1 << (source.byte() % 64)), ..RecordId::of(record) };
    assert!(decode_row(elsewhere, &row).is_err());
    if let (Some(apart), Ok(Row::Apart(row))) = (apart, decode_row(RecordId::of(record), &row)) {
        let mut other = apart.to_vec();
        other[source.below(apart.len())] ^= 1 << (source.byte() % 8);
        assert!(row.join(&other).is_err());
    }
}

/// The checksum of a row, computed according to `docs/FORMAT.md` and without the codec.
fn checksum(id: RecordId, body: &[u8]) -> [u8; 8] {
    let mut place = [0; 32];
    place[..8].copy_from_slice(&id.expires_at.as_unix_ms().to_le_bytes());
    place[8..16].copy_from_slice(&id.serial.to_le_bytes());
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&blake3::keyed_hash(&place, body).as_bytes()[..8]);
    checksum
}
