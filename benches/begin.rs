//! What `begin` costs for each of its answers, compared with the least work that could give the
//! same answer.
//!
//! An answer from memory is compared with a locked `HashMap` of as many keys, one from the vault
//! with a bare redb table of as many rows. The two sides alternate, at two sizes.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use idemstore::{Begin, CACHE_BYTES_DEFAULT, Fingerprint, Key, Store};
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

use support::table::Target;
use support::{Notes, RESULT, Scale, a_day, fill, fingerprint, float, key, place, random_numbers};

/// The layout of the store's own table.
const ROWS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("rows");

/// Keys that the calls cycle through. There are many more than any cache can hold.
const ASKED: usize = 1 << 18;
/// Keys that are held, and keys that are in the log and not yet in the vault.
const IN_MEMORY: u64 = 4096;
const ROUNDS: u64 = 15;
const CALLS_PER_ROUND: u64 = 20_000;

type Map = Mutex<HashMap<Key, Arc<[u8]>>>;

fn main() {
    let scale = Scale::from_env();
    let fixtures = [scale.few_keys(), scale.keys].map(Fixture::new);
    let mut cases: Vec<_> = fixtures.iter().flat_map(cases).collect();
    let notes = measure(scale, &mut cases);

    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for case in &mut cases {
        let mut group = criterion.benchmark_group(format!("begin/{}", case.answer));
        for side in &mut case.sides {
            let id = BenchmarkId::new(side.name, case.live);
            group.bench_function(id, |bencher| bencher.iter(&mut side.call));
        }
        group.finish();
    }
    criterion.final_summary();
    report(scale, &notes, &cases);
}

/// A store of one size, and floors of the same size.
struct Fixture {
    live: u64,
    store: Store,
    map: Map,
    bare: Database,
    fresh: Vec<Key>,
    settled: Vec<Key>,
    unsettled: Vec<Key>,
    held: Vec<Key>,
    /// Random rows of the bare table.
    rows: Vec<(u64, u64)>,
    _permits: Vec<Begin>,
    _place: TempDir,
}

impl Fixture {
    fn new(live: u64) -> Self {
        let place = place();
        let filled = Instant::now();
        let store = filled_store(&place.path().join("store"), live);
        println!("{live} keys filled and opened in {:.1} s", filled.elapsed().as_secs_f64());
        let keys = |from: u64| -> Vec<Key> { (from..from + IN_MEMORY).map(key).collect() };
        let (unsettled, held) = (keys(live), keys(live + IN_MEMORY));
        fill(&store, live..live + IN_MEMORY, a_day);
        let reserve = |key| store.begin(key, fingerprint()).expect("the store works");
        let settled: Vec<_> = random_numbers(live).take(ASKED).collect();
        Self {
            live,
            map: filled_map(live + 2 * IN_MEMORY),
            bare: filled_table(&place.path().join("bare.redb"), live),
            fresh: (0..ASKED as u64).map(|number| key(u64::MAX - number)).collect(),
            rows: settled.iter().map(|number| row(*number)).collect(),
            settled: settled.into_iter().map(key).collect(),
            _permits: held.iter().map(reserve).collect(),
            unsettled,
            held,
            store,
            _place: place,
        }
    }
}

/// A store with all its keys in the vault. Nothing settles later writes, so they stay in memory for
/// as long as the bench runs.
fn filled_store(path: &Path, live: u64) -> Store {
    let store = Store::open(path).expect("a new store opens");
    fill(&store, 0..live, a_day);
    store.close().expect("it settles");
    Store::builder().background_thread(false).open(path).expect("it was closed")
}

fn filled_map(live: u64) -> Map {
    let result: Arc<[u8]> = RESULT.into();
    (0..live).map(|number| (key(number), Arc::clone(&result))).collect::<HashMap<_, _>>().into()
}

fn filled_table(path: &Path, live: u64) -> Database {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES_DEFAULT)
        .create(path)
        .expect("a new database opens");
    let writing = database.begin_write().expect("nobody else writes");
    {
        let mut table = writing.open_table(ROWS).expect("a new table opens");
        for number in 0..live {
            table.insert(row(number), RESULT.as_slice()).expect("there is room");
        }
    }
    writing.commit().expect("there is room");
    // Opening the store has read all its rows, so its cache is as full as it gets.
    let reading = database.begin_read().expect("it was written");
    let table = reading.open_table(ROWS).expect("it was written");
    assert_eq!(table.iter().expect("it was written").count() as u64, live);
    database
}

/// About forty keys are begun per millisecond, as in the store.
fn row(number: u64) -> (u64, u64) {
    (1_700_000_000_000 + number / 40, number)
}

/// One answer of `begin` at one size, and its floor.
struct Case<'f> {
    answer: &'static str,
    live: u64,
    /// The store first, then the floor.
    sides: [Side<'f>; 2],
    target: Target,
}

struct Side<'f> {
    name: &'static str,
    call: Box<dyn FnMut() + 'f>,
}

impl Case<'_> {
    fn note(&self, side: &str) -> String {
        format!("{} {side} {}", self.answer, self.live)
    }
}

fn cases(fixture: &Fixture) -> Vec<Case<'_>> {
    let Fixture { live, store, fresh, settled, unsettled, held, .. } = fixture;
    let (same, other) = (fingerprint(), Fingerprint::of("DELETE /charges"));
    let case = |answer, keys, request, is, floor, target| {
        let sides = [ask(store, keys, request, is), floor];
        Case { answer, live: *live, sides, target }
    };
    let is_fresh: fn(&Begin) -> bool = |begin| matches!(begin, Begin::Fresh(_));
    let is_replay: fn(&Begin) -> bool = |begin| matches!(begin, Begin::Replay(_));
    let is_in_flight: fn(&Begin) -> bool = |begin| matches!(begin, Begin::InFlight(_));
    let is_mismatch: fn(&Begin) -> bool = |begin| matches!(begin, Begin::Mismatch);
    let twice = Target::AtMost(2.0);
    // Two cases read records; neither asks for what the other has just brought into a cache.
    let half = ASKED / 2;
    let (replayed, mismatched) = settled.split_at(half);
    let (replayed_rows, mismatched_rows) = fixture.rows.split_at(half);
    let (replay_floor, mismatch_floor) =
        (get_from_table(fixture, replayed_rows), get_from_table(fixture, mismatched_rows));
    vec![
        case("fresh+release", fresh, same, is_fresh, insert_and_remove(fixture), Target::None),
        case("in-flight", held, same, is_in_flight, get_from_map(fixture, held), Target::None),
        case(
            "replay-unsettled",
            unsettled,
            same,
            is_replay,
            get_from_map(fixture, unsettled),
            Target::None,
        ),
        case("replay-settled", replayed, same, is_replay, replay_floor, twice),
        case("mismatch-settled", mismatched, other, is_mismatch, mismatch_floor, twice),
    ]
}

/// Begins these keys in turn. Dropping the answer is part of the cost: it releases the key.
fn ask<'f>(
    store: &'f Store,
    keys: &'f [Key],
    request: Fingerprint,
    is: fn(&Begin) -> bool,
) -> Side<'f> {
    let mut keys = keys.iter().cycle();
    let call = move || {
        let key = keys.next().expect("there are keys");
        let begin = store.begin(key, request).expect("the store works");
        assert!(is(black_box(&begin)));
    };
    Side { name: "idemstore", call: Box::new(call) }
}

fn insert_and_remove(fixture: &Fixture) -> Side<'_> {
    let (mut keys, result) = (fixture.fresh.iter().cycle(), Arc::<[u8]>::from(RESULT));
    let call = move || {
        let key = keys.next().expect("there are keys");
        let before = fixture.map.lock().insert(key.clone(), Arc::clone(&result));
        assert!(before.is_none());
        assert!(black_box(fixture.map.lock().remove(key)).is_some());
    };
    Side { name: "HashMap", call: Box::new(call) }
}

fn get_from_map<'f>(fixture: &'f Fixture, keys: &'f [Key]) -> Side<'f> {
    let mut keys = keys.iter().cycle();
    let call = move || {
        let key = keys.next().expect("there are keys");
        assert!(black_box(fixture.map.lock().get(key).cloned()).is_some());
    };
    Side { name: "HashMap", call: Box::new(call) }
}

fn get_from_table<'f>(fixture: &'f Fixture, rows: &'f [(u64, u64)]) -> Side<'f> {
    let mut rows = rows.iter().cycle();
    let call = move || {
        let row = rows.next().expect("there are rows");
        let reading = fixture.bare.begin_read().expect("redb works");
        let table = reading.open_table(ROWS).expect("redb works");
        let value = table.get(row).expect("redb works").expect("the row is there");
        assert_eq!(black_box(value.value()).len(), RESULT.len());
    };
    Side { name: "redb", call: Box::new(call) }
}

/// Nanoseconds per call, in rounds that go through all cases and both sides of each.
fn measure(scale: Scale, cases: &mut [Case<'_>]) -> Notes {
    let (mut notes, calls) = (Notes::default(), scale.of(CALLS_PER_ROUND));
    for _ in 0..scale.of(ROUNDS) {
        for case in &mut *cases {
            for side in 0..2 {
                let Some(Side { name, call }) = case.sides.get_mut(side) else { continue };
                let (name, started) = (*name, Instant::now());
                (0..calls).for_each(|_| call());
                let each = started.elapsed().as_secs_f64() * 1e9 / float(calls);
                notes.add(case.note(name), each);
            }
        }
    }
    notes
}

fn report(scale: Scale, notes: &Notes, cases: &[Case<'_>]) {
    let ns = |what: &str| format!("{:.0} ns", notes.median(what));
    let mut table = scale.table("begin, one caller", ["idemstore", "floor", "ratio"]);
    for case in cases {
        let [store, floor] = case.sides.each_ref().map(|side| case.note(side.name));
        let what = format!("{}, {} keys ({})", case.answer, case.live, case.sides[1].name);
        table.row(&what, [ns(&store), ns(&floor)], notes.ratio(&store, &floor), case.target);
    }
    table.print();

    let sizes = [scale.keys, scale.few_keys()].map(|live| format!("{live} keys"));
    let mut table = scale.table("cost by size", [&sizes[0], &sizes[1], "ratio"]);
    for case in cases.iter().filter(|case| case.live == scale.keys) {
        for side in &case.sides {
            let large = case.note(side.name);
            let small = format!("{} {} {}", case.answer, side.name, scale.few_keys());
            let what = format!("{}, {}", case.answer, side.name);
            table.row(&what, [ns(&large), ns(&small)], notes.ratio(&large, &small), Target::None);
        }
    }
    table.print();

    let mut table = scale.table("in absolute terms", ["", "", "ns"]);
    let fresh = format!("fresh+release idemstore {}", scale.keys);
    let none = || [String::new(), String::new()];
    table.row("fresh+release", none(), notes.median(&fresh), Target::AtMost(500.0));
    table.print();
}
