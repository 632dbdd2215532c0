//! The live table when keys collide, and when the state changes in the meantime.

use super::*;
use crate::key::Fingerprint;
use crate::rules::record::State;
use crate::rules::{self, Answer};

const HASH: u64 = 0x1234_5678_9ABC_DEF0;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn index() -> Index {
    let bounds = Bounds { keys: usize::MAX, bytes: None, scope_bytes: None, result_len: 1_000 };
    Index::with_capacity(0, Hash::new(&[7; 16], u64::MAX), bounds, Arc::default())
}

fn started(key: &Key, serial: u64) -> Arc<Record> {
    Arc::new(Record {
        key: key.clone(),
        fingerprint: Fingerprint::NONE,
        begun_at: at(0),
        expires_at: at(100),
        serial,
        attempt: 1,
        keep: false,
        note: None,
        state: State::Started { checkpoint: None },
    })
}

fn located(key: &Key) -> Located<&Key> {
    Located { key, hash: HASH }
}

fn begin(index: &Index, key: &Key) -> Asked<Answer> {
    index.ask(located(key), at(0), |known| rules::begin(known, &Fingerprint::NONE))
}

fn claim(
    index: &Index,
    key: &Key,
    read: &Candidates,
    record: Option<&Arc<Record>>,
) -> Asked<Answer> {
    let rule = |known: Known<'_>| rules::begin(known, &Fingerprint::NONE);
    index.claim(located(key), read, record, at(0), rule)
}

/// Starts a key. All keys here have the same hash.
fn start(index: &Index, key: &Key, serial: u64) -> Arc<Record> {
    assert!(matches!(begin(index, key), Asked::Answered(Answer::Fresh(_))));
    let record = started(key, serial);
    index.apply(&Change { hash: HASH, kind: ChangeKind::Put(Arc::clone(&record)) });
    record
}

#[test]
fn a_key_with_the_hash_of_one_that_is_not_settled_is_free() {
    let index = index();
    let (one, other) = (Key::new("one").expect("a key"), Key::new("other").expect("a key"));
    start(&index, &one, 1);
    // The vault doesn't have that record, so there is nothing to read.
    assert!(matches!(begin(&index, &other), Asked::Answered(Answer::Fresh(_))));
    assert!(matches!(begin(&index, &one), Asked::Answered(Answer::InFlight { .. })));
}

#[test]
fn a_key_with_the_hash_of_one_that_is_settled_costs_a_read() {
    let index = index();
    let (one, other) = (Key::new("one").expect("a key"), Key::new("other").expect("a key"));
    let record = start(&index, &one, 1);
    index.settled(HASH, &record);
    index.let_go(located(&one));
    let Asked::Read(read) = begin(&index, &other) else { panic!("the record may be of this key") };
    assert_eq!(read.ids, [RecordId::of(&record)]);
    let claimed = claim(&index, &other, &read, None);
    assert!(matches!(claimed, Asked::Answered(Answer::Fresh(_))));
}

#[test]
fn what_was_read_before_a_change_is_not_acted_on() {
    let index = index();
    let one = Key::new("one").expect("a key");
    let record = start(&index, &one, 1);
    index.settled(HASH, &record);
    index.let_go(located(&one));
    let Asked::Read(read) = begin(&index, &one) else { panic!("the record is of this key") };
    // In the meantime another caller has taken the key over and given it up.
    let taken = claim(&index, &one, &read, Some(&record));
    assert!(matches!(taken, Asked::Answered(Answer::Interrupted(_))));
    index.apply(&Change { hash: HASH, kind: ChangeKind::Remove(Arc::clone(&record)) });
    assert!(matches!(claim(&index, &one, &read, Some(&record)), Asked::Changed));
}

#[test]
fn an_open_leaves_out_no_record_of_the_vault() {
    let mut loading = Loading::new(index());
    let ids = || (0..40_000).map(|serial| RecordId { expires_at: at(serial / 3), serial });
    let key = |id: RecordId| id.serial.to_le_bytes();
    let stage = |id: RecordId| {
        if id.serial.is_multiple_of(2) { Stage::Started } else { Stage::Completed(5) }
    };
    for id in ids() {
        loading.add(&key(id), id, stage(id));
    }
    let index = loading.finish();
    assert_eq!(index.room().keys(), 40_000);
    // 128 bytes and the key for each record, and its result or the longest possible one.
    assert_eq!(index.room().bytes(), 40_000 * (128 + 8) + 20_000 * (5 + 1_000));
    assert_eq!(index.next_serial(), 40_000);
    assert!(ids().all(|id| index.has(index.hash(&key(id)), id)));
    let started = |shard: &Mutex<Shard>| {
        shard.lock().entries.iter().filter(|entry| entry.is_started()).count()
    };
    assert_eq!(index.shards.iter().map(started).sum::<usize>(), 20_000);
}

/// The hash may be stored, so it must be the same for each version, toolchain and machine.
#[test]
fn the_hash_of_a_key_stays_what_it_is() {
    let of = |key: &[u8; 16], framed: &[u8]| Hash::new(key, u64::MAX).of(framed);
    let counted = std::array::from_fn(|at| u8::try_from(at).expect("it is small"));
    assert_eq!(of(&[0; 16], b""), GOLDEN[0]);
    assert_eq!(of(&counted, b"\0order-1"), GOLDEN[1]);
    assert_eq!(of(&counted, b"\x04shoporder-1"), GOLDEN[2]);
    assert_eq!(of(&counted, &[0xFF; 511]), GOLDEN[3]);
}

/// Computed by another implementation, which reproduces the reference values.
const GOLDEN: [u64; 4] =
    [0xD1FB_A762_150C_532C, 0xC977_77B8_CE74_DC1E, 0x8ABB_64F3_D2E5_1A10, 0xD556_CD9B_DB54_B8A8];
