//! The bytes of records and changes must not change.

use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn started() -> Record {
    Record {
        expires_at: at(1_700_000_086_400),
        serial: 7,
        key: Key::scoped("shop", "order-1").expect("it is a key"),
        fingerprint: Fingerprint::from_stored(1, [0xAB; 32]),
        begun_at: at(1_700_000_000_000),
        attempt: 3,
        keep: false,
        note: None,
        state: State::Started { checkpoint: None },
    }
}

fn completed(result: &[u8]) -> Record {
    started().completed(Kept::Whole(result.into()), at(1_700_000_000_250))
}

fn at_checkpoint(checkpoint: &[u8]) -> Record {
    started().with_checkpoint(checkpoint.into())
}

fn not_kept() -> Record {
    started().completed(Kept::Digest(Digest::of(&[b'x'; 600])), at(1_700_000_000_250))
}

/// Long enough to need a separate row.
fn long() -> Record {
    completed(&[b'x'; RESULT_INLINE_MAX + 1])
}

/// A record that is to be kept, with a note.
fn noted() -> Record {
    Record { keep: true, note: Some(Box::from(*b"ask the bank")), ..started() }
}

/// A record of every kind.
fn all() -> [Record; 9] {
    [
        noted(),
        started(),
        at_checkpoint(b""),
        at_checkpoint(b"step 2"),
        at_checkpoint(&[b'x'; RESULT_INLINE_MAX + 1]),
        completed(b""),
        completed(b"done"),
        long(),
        not_kept(),
    ]
}

/// How each record begins: scope and key, fingerprint, first begin, attempt.
const HEAD: &str = "0c0473686f706f726465722d31\
    01abababababababababababababababababababababababababababababababab\
    fd0068e5cf8b01000003";

/// What format 3 puts in front of a record: here it isn't kept, and has no note.
const PLAIN: &str = "0000";

#[track_caller]
fn check_row(record: &Record, noted: &str, state: &str, checksum: &str) {
    let (row, _) = encode_row(record).expect("it can be encoded");
    assert_eq!(hex(&row), format!("02{noted}{HEAD}{state}{checksum}"));
}

/// A row of formats 1 and 2.
#[track_caller]
fn check_old_row(record: &Record, state: &str, checksum: &str) {
    let row = from_hex(&format!("01{HEAD}{state}{checksum}"));
    let read = match decode_row(RecordId::of(record), &row).expect("it can be decoded") {
        Row::Whole(record) => record,
        Row::Apart(row) => row.join(&[b'x'; RESULT_INLINE_MAX + 1]).expect("it fits"),
    };
    assert_eq!(shown(&read), shown(record));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

const DONE: &str = "01fdfa68e5cf8b01000004646f6e65";
const LONG: &str = "02fdfa68e5cf8b010000fb0102eb23a27559ad3d5cecbdaef9ee269264";
const AT_STEP_2: &str = "0306737465702032";
const AT_LONG: &str = "04fb0102eb23a27559ad3d5cecbdaef9ee269264";
const NOT_KEPT: &str = "05fdfa68e5cf8b010000fb5802\
    139eed502863beeb7f525dfa5431d62a3baa863763a31003e9111ae74c5e1122";

#[test]
fn the_bytes_of_a_row_stay_what_they_are() {
    check_row(&started(), PLAIN, "00", "ca6cd273b6e12d7e");
    check_row(&completed(b"done"), PLAIN, DONE, "a733943e206ebc59");
    check_row(&long(), PLAIN, LONG, "9b404d46669ebc58");
    check_row(&at_checkpoint(b"step 2"), PLAIN, AT_STEP_2, "e0851a0f866ca639");
    let at_long = at_checkpoint(&[b'x'; RESULT_INLINE_MAX + 1]);
    check_row(&at_long, PLAIN, AT_LONG, "487332b3d2227cc4");
    check_row(&not_kept(), PLAIN, NOT_KEPT, "a21ca8953790f0ac");
    check_row(&noted(), "01010c61736b207468652062616e6b", "00", "f74026c0112d74d6");
}

#[test]
fn the_bytes_of_a_row_of_formats_1_and_2_are_read() {
    check_old_row(&started(), "00", "0419aead9a466f7b");
    check_old_row(&completed(b"done"), DONE, "e8d803a21f139f66");
    check_old_row(&long(), LONG, "c3786a2d4a54d912");
    check_old_row(&at_checkpoint(b"step 2"), AT_STEP_2, "1f09cab4ce100294");
    let at_long = at_checkpoint(&[b'x'; RESULT_INLINE_MAX + 1]);
    check_old_row(&at_long, AT_LONG, "81652261802e5f13");
    check_old_row(&not_kept(), NOT_KEPT, "a03d16829e31e0dd");
}

#[test]
fn the_bytes_of_a_change_stay_what_they_are() {
    const PLACE: &str = "fd80b9e6cf8b01000007";
    let change = |change| hex(&encode_change(&change).expect("it can be encoded"));
    let put = change(ChangeKind::Put(completed(b"done").into()));
    assert_eq!(put, format!("0400{PLACE}{PLAIN}{HEAD}{DONE}"));
    let from = RecordId { expires_at: at(1_700_000_000_000), serial: 6 };
    let moved = change(ChangeKind::Move { from, to: completed(b"done").into() });
    assert_eq!(moved, format!("0401fd0068e5cf8b01000006{PLACE}{PLAIN}{HEAD}{DONE}"));
    let put = change(ChangeKind::Put(noted().into()));
    assert_eq!(put, format!("0400{PLACE}01010c61736b207468652062616e6b{HEAD}00"));
    let remove = change(ChangeKind::Remove(started().into()));
    assert_eq!(remove, format!("01{PLACE}"));
    // As formats 1 and 2 wrote it.
    let put = from_hex(&format!("00{PLACE}{HEAD}{DONE}"));
    let Ok(Logged::Put { from: None, record }) = decode_logged(&put) else {
        panic!("it is no put")
    };
    assert_eq!(shown(&record), shown(&completed(b"done")));
}

#[test]
fn the_bytes_of_a_wall_stay_what_they_are() {
    for (ms, bytes) in [(7, "0307"), (1_700_000_000_000, "03fd0068e5cf8b010000")] {
        let (wall, len) = encode_wall(at(ms));
        assert_eq!(hex(&wall[..len]), bytes);
        assert!(matches!(decode_logged(&wall[..len]), Ok(Logged::Wall(read)) if read == at(ms)));
    }
}

#[test]
fn the_bytes_of_a_mark_stay_what_they_are() {
    let longest = (1 << crate::limits::PACKED_BITS) - 1;
    for (serial, bytes) in [(7, "0207"), (1_000, "02fbe803"), (longest, "02fdffffffffffff0000")] {
        let mark = encode_mark(serial).expect("it can be encoded");
        assert_eq!(mark, from_hex(bytes));
        assert!(mark.len() <= NUMBER_LEN_MAX);
        assert!(matches!(decode_logged(&mark), Ok(Logged::Mark(read)) if read == serial));
    }
}

/// The contents of a record, in a form that can be compared.
fn shown(record: &Record) -> String {
    let (algorithm, digest) = record.fingerprint.to_stored();
    let state = match &record.state {
        State::Started { checkpoint } => format!("started {checkpoint:?}"),
        State::Completed { completed_at, kept: Kept::Whole(result) } => {
            format!("{completed_at:?} {result:?}")
        }
        State::Completed { completed_at, kept: Kept::Digest(Digest { len, blake3: digest }) } => {
            format!("{completed_at:?} {len} {digest:?}")
        }
    };
    let (id, Record { key, begun_at, attempt, keep, note, .. }) = (RecordId::of(record), record);
    let key = key.framed();
    format!("{id:?} {key:?} {algorithm} {digest:?} {begun_at:?} {attempt} {keep} {note:?} {state}")
}

#[test]
fn rows_and_changes_come_back_as_they_were() {
    for record in all() {
        let (row, apart) = encode_row(&record).expect("it can be encoded");
        let read = match decode_row(RecordId::of(&record), &row).expect("it can be decoded") {
            Row::Whole(record) => record,
            Row::Apart(row) => row.join(apart.expect("it is stored apart")).expect("it fits"),
        };
        assert_eq!(shown(&read), shown(&record));
        let scanned = scan_row(RecordId::of(&record), &row).expect("it can be decoded");
        assert_eq!(scanned.framed_key, record.key.framed());
        assert_eq!(scanned.begun_at, record.begun_at);
        assert_eq!(scanned.stage, Stage::of(&record));
        assert_eq!(scanned.apart.map(|len| len as usize), apart.map(<[u8]>::len));

        for from in [RecordId::of(&record), RecordId { serial: 3, ..RecordId::of(&record) }] {
            let change = ChangeKind::put(from, record.clone().into());
            let change = encode_change(&change).expect("it can be encoded");
            let Ok(Logged::Put { from: left, record: read }) = decode_logged(&change) else {
                panic!("it is not decoded as a put")
            };
            assert_eq!(left, (from != RecordId::of(&record)).then_some(from));
            assert_eq!(shown(&read), shown(&record));
        }
    }
    let change = encode_change(&ChangeKind::Remove(started().into())).expect("it can be");
    assert!(
        matches!(decode_logged(&change), Ok(Logged::Remove(id)) if id == RecordId::of(&started()))
    );
}

#[test]
fn a_row_is_refused_for_any_other_bit_place_or_length() {
    let (row, _) = encode_row(&completed(b"done")).expect("it can be encoded");
    let id = RecordId::of(&started());
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
    let join = |result: &[u8]| match decode_row(RecordId::of(&record), &row) {
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
    assert!(decode_logged(b"\x00\x01\x01\xfd\xff\xff\xff\xff\xff\xff\xff\x7f").is_err());
    let mut change = encode_change(&ChangeKind::Remove(started().into())).expect("it can be");
    change.push(0);
    assert!(decode_logged(&change).is_err());
    assert!(decode_logged(b"").is_err());
    assert!(decode_logged(b"\x02").is_err());
    assert!(decode_logged(b"\x02\x07\x00").is_err());
    assert!(decode_logged(b"\x05\x07").is_err());
}

/// The way out if bincode ever has to go: another crate reads and writes the same bytes.
#[test]
fn wincode_reads_and_writes_the_same_bytes() {
    let config =
        wincode::config::Configuration::default().with_varint_encoding().with_tag_encoding::<u8>();
    for record in all().into_iter().chain([completed(&[b'x'; 300])]) {
        for apart in [false, true] {
            let ours = encode(wire_noted(&record, apart).expect("it fits")).expect("it can be");
            let theirs: WireNoted<'_> =
                wincode::config::deserialize_exact(&ours, config).expect("it can be decoded");
            assert_eq!(theirs, decode(&ours).expect("it can be decoded"));
            assert_eq!(wincode::config::serialize(&theirs, config).expect("it can be"), ours);
        }
        let from = RecordId { serial: 3, ..RecordId::of(&record) };
        let change = encode_change(&ChangeKind::put(from, record.into())).expect("it can be");
        let theirs: WireChange<'_> =
            wincode::config::deserialize_exact(&change, config).expect("it can be decoded");
        assert_eq!(theirs, decode(&change).expect("it can be decoded"));
    }
    let mark = encode_mark(1_000).expect("it can be encoded");
    let theirs: WireChange<'_> =
        wincode::config::deserialize_exact(&mark, config).expect("it can be decoded");
    assert_eq!(theirs, WireChange::Mark { serial: 1_000 });
    assert_eq!(wincode::config::serialize(&theirs, config).expect("it can be"), mark);
}
