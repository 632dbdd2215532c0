//! What the calls around the core cost, each compared with what it is built on.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use idemstore::redb::{self, Database, TableDefinition};
use idemstore::{Begin, Permit, Status, Store};
use tempfile::TempDir;

use support::table::Target;
use support::{Notes, RESULT, Scale, a_day, fill, fingerprint, float, key, place};

const ROUNDS: u64 = 7;
/// Operations of one batch: as many as fit one fsync.
const BATCH: u64 = 1_000;
const ACCOUNTS: TableDefinition<u64, u64> = TableDefinition::new("accounts");
const ROWS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("rows");

/// Numbers of the keys to measure, far from those that the store was filled with.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1 << 40);

fn main() {
    let scale = Scale::from_env();
    let bench = Bench::new(scale);
    let mut notes = Notes::default();
    for round in 0..scale.of(ROUNDS) {
        bench.calls(&mut notes, scale.of(300));
        bench.batches(&mut notes, scale.of(BATCH));
        bench.looks(&mut notes, scale.of(20_000));
        bench.walks(&mut notes);
        bench.backup(&mut notes, round);
    }
    report(&bench, &notes);
}

struct Bench {
    scale: Scale,
    store: Store,
    /// A redb database for comparison, with the same kinds of rows.
    bare: Database,
    place: TempDir,
}

fn fresh(store: &Store) -> Permit {
    let key = key(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
    match store.begin(&key, fingerprint()).expect("the store works") {
        Begin::Fresh(permit) => permit,
        _ => unreachable!("the key is new"),
    }
}

/// Microseconds that each of this many operations took.
fn each(operations: u64, mut operation: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..operations {
        operation();
    }
    started.elapsed().as_secs_f64() * 1e6 / float(operations)
}

impl Bench {
    fn new(scale: Scale) -> Self {
        let place = place();
        let store = Store::open(place.path().join("store")).expect("a new store opens");
        fill(&store, 0..scale.keys, a_day);
        store.settle().expect("the store works");
        let bare = Database::create(place.path().join("bare.redb")).expect("redb works");
        Self { scale, store, bare, place }
    }

    /// Single durable calls.
    fn calls(&self, notes: &mut Notes, operations: u64) {
        let store = &self.store;
        let complete = || fresh(store).complete(RESULT).map(drop).expect("the store works");
        notes.add("complete", each(operations, complete));
        let mut execution = fresh(store).start().expect("the store works");
        let checkpoint = || execution.checkpoint(RESULT).expect("the store works");
        notes.add("checkpoint", each(operations, checkpoint));
        // The transactions should not pay for what is left in the log.
        store.settle().expect("the store works");
        let complete_with = || {
            let completed = fresh(store).complete_with(|transaction| {
                transaction.open_table(ACCOUNTS)?.insert(1, 1)?;
                Ok::<_, redb::Error>(RESULT)
            });
            completed.map(drop).expect("the store works");
        };
        notes.add("complete_with", each(operations, complete_with));
        let mut serial = NEXT_KEY.load(Ordering::Relaxed);
        let bare = || {
            serial += 1;
            self.commit(serial).expect("redb works");
        };
        notes.add("bare", each(operations, bare));
    }

    /// What `complete_with` does, without a store: an equally safe commit, of one row of each kind.
    fn commit(&self, serial: u64) -> Result<(), redb::Error> {
        let mut transaction = self.bare.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        transaction.open_table(ACCOUNTS)?.insert(1, 1)?;
        transaction.open_table(ROWS)?.insert((serial, serial), &[0_u8; 300][..])?;
        transaction.commit()?;
        Ok(())
    }

    /// Many operations with one wait.
    fn batches(&self, notes: &mut Notes, operations: u64) {
        let permits: Vec<_> = (0..operations).map(|_| fresh(&self.store)).collect();
        let started = Instant::now();
        let executions: Vec<_> = self.store.start_many(permits);
        let results =
            executions.into_iter().map(|execution| (execution.expect("the store works"), RESULT));
        for completed in self.store.complete_many(results) {
            completed.expect("the store works");
        }
        let elapsed = started.elapsed().as_secs_f64() * 1e6;
        notes.add("many", elapsed / float(operations));
        let one_by_one = || {
            let execution = fresh(&self.store).start().expect("the store works");
            execution.complete(RESULT).map(drop).expect("the store works");
        };
        notes.add("one by one", each(operations.div_ceil(10), one_by_one));
    }

    /// Looks at keys at rest.
    fn looks(&self, notes: &mut Notes, operations: u64) {
        let mut numbers = support::random_numbers(self.scale.keys);
        let mut next = || key(numbers.next().expect("it has no end"));
        let keys: Vec<_> = (0..operations).map(|_| next()).collect();
        let (mut gets, mut begins) = (keys.iter().cycle(), keys.iter().cycle());
        let get = || {
            let info = self.store.get(gets.next().expect("it has no end"));
            black_box(info.expect("the store works").expect("it is completed"));
        };
        let begin = || {
            let key = begins.next().expect("it has no end");
            drop(black_box(self.store.begin(key, fingerprint()).expect("the store works")));
        };
        notes.add("replay", each(operations, begin));
        notes.add("get", each(operations, get));
    }

    /// Walks over the whole store.
    fn walks(&self, notes: &mut Notes) {
        let keys = float(u64::try_from(self.store.stats().records).unwrap_or(u64::MAX));
        let started = Instant::now();
        black_box(self.store.stats());
        notes.add("stats", started.elapsed().as_secs_f64() * 1e6 / keys * 1e6 / 1e3);
        let started = Instant::now();
        let interrupted = self.store.keys().status(Status::Interrupted);
        black_box(interrupted.count());
        notes.add("list", keys / started.elapsed().as_secs_f64());
    }

    /// Copies the store while a caller writes, and records how long that caller was held up.
    fn backup(&self, notes: &mut Notes, round: u64) {
        let done = AtomicBool::new(false);
        let longest = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !done.load(Ordering::Acquire) {
                    let asked = Instant::now();
                    fresh(&self.store).complete(RESULT).expect("the store works");
                    longest = longest.max(asked.elapsed());
                }
                longest
            });
            let started = Instant::now();
            let to = self.place.path().join(format!("backup {round}"));
            self.store.backup(&to).expect("there is room");
            notes.add("backup", started.elapsed().as_secs_f64() * 1e3);
            done.store(true, Ordering::Release);
            std::fs::remove_dir_all(to).expect("it can be removed");
            writer.join().expect("the writer does not panic")
        });
        notes.add("held up", longest.as_secs_f64() * 1e3);
    }
}

fn report(bench: &Bench, notes: &Notes) {
    let us = |what: &str| format!("{:.1} us", notes.median(what));
    let mut table = bench.scale.table("durable", ["a call", "compared", "ratio"]);
    let mut row = |what: &str, to: &str, name: &str, target| {
        table.row(name, [us(what), us(to)], notes.ratio(what, to), target);
    };
    row("checkpoint", "complete", "checkpoint, to complete", Target::None);
    row("complete_with", "bare", "complete_with, to as safe a commit of bare redb", Target::None);
    row("complete_with", "complete", "complete_with, to complete", Target::None);
    row("many", "one by one", "start_many + complete_many, each, to one by one", Target::None);
    row("get", "replay", "get, to a replay by begin", Target::None);
    table.print();

    let mut table = bench.scale.table("the whole store", ["measured", "", "number"]);
    let mut row = |name: &str, what: &str, unit: &str| {
        table.row(name, [unit.to_owned(), String::new()], notes.median(what), Target::None);
    };
    row("stats", "stats", "ms for a million keys");
    row("iter by status", "list", "keys a second");
    row("backup", "backup", "ms");
    row("longest hold-up of a writer meanwhile", "held up", "ms");
    table.print();
    let bytes = float(bench.store.stats().file_bytes);
    println!("\nfiles of the store: {:.0} MB, {} keys", bytes / 1e6, bench.store.stats().records);
}
