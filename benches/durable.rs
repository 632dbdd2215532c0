//! What a durable call costs, compared with the least that could make it durable: one fdatasync of
//! a page that already exists, and one commit of bare redb.
//!
//! Rounds go through both floors, both sizes and all numbers of callers, so that a slow spell of
//! the machine or its disk hits all of them. The syncs are counted below the store, not assumed.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[path = "support/counting.rs"]
mod counting;
#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use idemstore::sim::OpenOn;
use idemstore::{Begin, CACHE_BYTES_DEFAULT, Permit, Stats, Store};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use counting::{CountingDisk, Counts, Written, written};
use support::table::Target;
use support::{Notes, RESULT, Scale, a_day, fill, fingerprint, float, key, place, scatter};

const ROUNDS: u64 = 7;
/// Commits per round of one floor, and half the syncs per round of the other.
const FLOOR_OPERATIONS: u64 = 1_000;
/// How many callers there are, and how many operations they do in a round, all together.
const LOADS: [Load; 3] = [(1, 1_000), (8, 5_000), (64, 40_000)];

/// Numbers of the keys to measure, far from those that a store was filled with.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1 << 40);

fn main() {
    let scale = Scale::from_env();
    let mut bench = Bench::new(scale);
    for round in 0..scale.of(ROUNDS) {
        bench.round(round);
    }
    criterion_groups(&bench.large.store);
    bench.report();
}

/// One way to use a key durably.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    finish: fn(Permit),
}

/// One fsync.
const COMPLETE: Operation = Operation {
    name: "complete",
    finish: |permit| {
        permit.complete(RESULT).expect("the store works");
    },
};

/// Two fsyncs.
const CYCLE: Operation = Operation {
    name: "cycle",
    finish: |permit| {
        let execution = permit.start().expect("the store works");
        execution.complete(RESULT).expect("the store works");
    },
};

impl Operation {
    fn run(self, store: &Store) {
        let key = key(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        match store.begin(&key, fingerprint()).expect("the store works") {
            Begin::Fresh(permit) => (self.finish)(permit),
            _ => unreachable!("the key is new"),
        }
    }
}

/// Makes this many callers share this many operations, and returns how long they took.
fn run(store: &Store, operation: Operation, callers: u64, operations: u64) -> (Duration, Vec<f64>) {
    let (taken, ready) = (AtomicU64::new(0), Barrier::new(usize::try_from(callers).unwrap_or(1)));
    let caller = || {
        ready.wait();
        let (started, mut latencies) = (Instant::now(), Vec::new());
        while taken.fetch_add(1, Ordering::Relaxed) < operations {
            let asked = Instant::now();
            operation.run(store);
            latencies.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        (started, Instant::now(), latencies)
    };
    let callers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no caller panics")).collect()
    });
    let started = callers.iter().map(|(started, _, _)| *started).min();
    let ended = callers.iter().map(|(_, ended, _)| *ended).max();
    let elapsed = ended.zip(started).map_or(Duration::ZERO, |(ended, started)| ended - started);
    let mut latencies: Vec<_> = callers.into_iter().flat_map(|(_, _, each)| each).collect();
    latencies.sort_by(f64::total_cmp);
    (elapsed, latencies)
}

/// A store whose files are counted.
struct Counted {
    live: u64,
    store: Store,
    counts: Counts,
    _place: TempDir,
}

impl Counted {
    fn new(live: u64) -> Self {
        let place = place();
        let (disk, counts) = CountingDisk::new(&place.path().join("store"));
        let store = Store::builder().open_on(disk).expect("a new store opens");
        fill(&store, 0..live, a_day);
        store.settle().expect("the store works");
        Self { live, store, counts, _place: place }
    }

    fn snapshot(&self) -> (Stats, Written, Written) {
        let [log, vault] = ["log-", "vault"].map(|prefix| written(&self.counts, prefix));
        (self.store.stats(), log, vault)
    }

    /// One round of one load. What is left in the log at its end is settled before the next round,
    /// and that is timed as well: no load should look fast because another pays its debts.
    fn measure(&self, notes: &mut Notes, operation: Operation, (callers, operations): Load) {
        let note = |what: &str| format!("{what} {} {callers} {}", operation.name, self.live);
        let (stats, log, vault) = self.snapshot();
        let (elapsed, latencies) = run(&self.store, operation, callers, operations);
        let settling = Instant::now();
        self.store.settle().expect("the store works");
        let settled = elapsed + settling.elapsed();
        let (stats_after, log_after, vault_after) = self.snapshot();

        let operations = float(operations);
        notes.add(note("rate"), operations / elapsed.as_secs_f64());
        notes.add(note("sustained"), operations / settled.as_secs_f64());
        notes.add(note("p50"), percentile(&latencies, 50));
        notes.add(note("p99"), percentile(&latencies, 99));
        // These are counts and not times, so they must hold in a smoke run as well. A segment that
        // grows is synced with its zeros, then again with a header that records its new length.
        let growth_syncs = 2 * (log_after.heads - log.heads);
        let batch_syncs = log_after.syncs - log.syncs - growth_syncs;
        assert_eq!(batch_syncs, stats_after.batches - stats.batches);
        let batches = float(stats_after.batches - stats.batches);
        notes.add(note("changes"), float(stats_after.changes - stats.changes) / batches);
        notes.add(note("syncs"), float(batch_syncs) / batches);
        notes.add(note("log"), float(log_after.bytes - log.bytes) / operations);
        notes.add(note("vault"), float(vault_after.bytes - vault.bytes) / operations);
        let vault_syncs = float(vault_after.syncs - vault.syncs) / operations;
        notes.add(note("vault-syncs"), vault_syncs * 1_000.0);
    }
}

/// Callers, and the operations that they do in a round.
type Load = (u64, u64);

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = sorted.len() * percent / 100;
    *sorted.get(at).expect("at least one operation was timed")
}

/// Everything that is measured in turn.
struct Bench {
    scale: Scale,
    large: Counted,
    page: Page,
    bare: Bare,
    notes: Notes,
    _place: TempDir,
}

impl Bench {
    fn new(scale: Scale) -> Self {
        let (place, filling) = (place(), Instant::now());
        let large = Counted::new(scale.keys);
        println!("{} keys filled in {:.1} s", scale.keys, filling.elapsed().as_secs_f64());
        let page = Page::new(&place.path().join("page"));
        let bare = Bare::new(&place.path().join("bare.redb"), scale.keys);
        Self { scale, large, page, bare, notes: Notes::default(), _place: place }
    }

    fn round(&mut self, round: u64) {
        // It is recreated each time, since it doesn't stay small for long.
        let small = Counted::new(self.scale.few_keys());
        let mut stores = [&self.large, &small];
        if round % 2 == 1 {
            // The order alternates, so that neither store always comes second.
            stores.reverse();
        }
        let floor = self.scale.of(FLOOR_OPERATIONS);
        let before = seconds(floor, || self.page.overwrite());
        for (callers, operations) in LOADS {
            let load = (callers, self.scale.of(operations));
            for store in stores {
                store.measure(&mut self.notes, CYCLE, load);
            }
            self.large.measure(&mut self.notes, COMPLETE, load);
            if callers == 1 {
                // The one-caller load runs between the two halves of its floor.
                let after = seconds(floor, || self.page.overwrite());
                self.notes.add("page", 2.0 * float(floor) / (before + after));
                let commits = seconds(floor, || self.bare.insert());
                self.notes.add("redb", float(floor) / commits);
            }
        }
    }
}

/// How long this many of these take.
fn seconds(operations: u64, mut operation: impl FnMut()) -> f64 {
    let started = Instant::now();
    (0..operations).for_each(|_| operation());
    started.elapsed().as_secs_f64()
}

/// The floor of one fsync: a page of a file that has been fully written before.
struct Page {
    file: File,
    next: u64,
}

const PAGE: [u8; 4096] = [0x5A; 4096];
const PAGES: u64 = 4096;

impl Page {
    fn new(path: &Path) -> Self {
        let mut file = File::create(path).expect("the build directory can be written");
        for _ in 0..PAGES {
            file.write_all(&PAGE).expect("there is room");
        }
        file.sync_all().expect("the disk works");
        Self { file, next: 0 }
    }

    fn overwrite(&mut self) {
        let offset = self.next * PAGE.len() as u64;
        self.file.seek(SeekFrom::Start(offset)).expect("the disk works");
        self.file.write_all(&PAGE).expect("the disk works");
        self.file.sync_data().expect("the disk works");
        self.next = (self.next + 1) % PAGES;
    }
}

/// The floor of one commit: a row of 200 bytes under a random key, as a program without this crate
/// would store a result.
struct Bare {
    database: Database,
    rows: u64,
}

const RESULTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("results");

impl Bare {
    fn new(path: &Path, rows: u64) -> Self {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES_DEFAULT)
            .create(path)
            .expect("a new database opens");
        let mut keys: Vec<_> = (0..rows).map(random_key).collect();
        keys.sort_unstable();
        let bare = Self { database, rows };
        bare.commit(&keys);
        bare
    }

    fn insert(&mut self) {
        self.rows += 1;
        self.commit(&[random_key(self.rows)]);
    }

    fn commit(&self, keys: &[[u8; 32]]) {
        let writing = self.database.begin_write().expect("redb works");
        {
            let mut table = writing.open_table(RESULTS).expect("redb works");
            for key in keys {
                table.insert(key, RESULT.as_slice()).expect("redb works");
            }
        }
        writing.commit().expect("redb works");
    }
}

fn random_key(row: u64) -> [u8; 32] {
    let mut key = [0; 32];
    for (word, at) in key.chunks_exact_mut(8).zip(0..) {
        word.copy_from_slice(&scatter(row * 4 + at).to_le_bytes());
    }
    key
}

fn criterion_groups(store: &Store) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for operation in [COMPLETE, CYCLE] {
        let mut group = criterion.benchmark_group(format!("durable/{}", operation.name));
        group.throughput(Throughput::Elements(1));
        for (callers, _) in LOADS {
            group.bench_function(format!("{callers} callers"), |bencher| {
                bencher.iter_custom(|operations| run(store, operation, callers, operations).0);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

impl Bench {
    fn report(&self) {
        self.report_floors();
        self.report_scaling();
        self.report_loads();
        self.report_writes();
    }

    /// The name under which a figure of a load was noted.
    fn note(what: &str, operation: Operation, callers: u64, live: u64) -> String {
        format!("{what} {} {callers} {live}", operation.name)
    }

    fn per_second(&self, what: &str) -> String {
        format!("{:.0}/s", self.notes.median(what))
    }

    /// One caller, compared with the most that one caller could do.
    fn report_floors(&self) {
        let Self { notes, scale, .. } = self;
        let mut table = scale.table("one caller", ["idemstore", "floor", "ratio"]);
        let [complete, cycle] =
            [COMPLETE, CYCLE].map(|operation| Self::note("rate", operation, 1, scale.keys));
        let floors = [("fdatasync of a page", "page"), ("commit of bare redb", "redb")];
        for (what, floor) in floors {
            let columns = [self.per_second(&complete), self.per_second(floor)];
            let ratio = notes.ratio(&complete, floor);
            table.row(&format!("complete / {what}"), columns, ratio, Target::None);

            let target = if floor == "page" { Target::AtLeast(0.8) } else { Target::None };
            let halved = format!("{:.0}/s", notes.median(floor) / 2.0);
            let ratio = 2.0 * notes.ratio(&cycle, floor);
            table.row(
                &format!("cycle / 2 x {what}"),
                [self.per_second(&cycle), halved],
                ratio,
                target,
            );
        }
        table.print();
    }

    /// How the rate grows with callers, and that it doesn't shrink with keys.
    fn report_scaling(&self) {
        let Self { notes, scale, .. } = self;
        let mut table = scale.table("rates of full cycles", ["this", "that", "ratio"]);
        let few = scale.few_keys();
        for what in ["rate", "sustained"] {
            let [one, many] = [1, 64].map(|callers| Self::note(what, CYCLE, callers, scale.keys));
            let row = format!("64 callers / 1 caller, {what}");
            let columns = [&many, &one].map(|note| self.per_second(note));
            table.row(&row, columns, notes.ratio(&many, &one), Target::AtLeast(10.0));
            for (callers, _) in LOADS {
                let [large, small] =
                    [scale.keys, few].map(|live| Self::note(what, CYCLE, callers, live));
                let row = format!("{} keys / {few} keys, {callers} callers, {what}", scale.keys);
                let columns = [&large, &small].map(|note| self.per_second(note));
                table.row(&row, columns, notes.ratio(&large, &small), Target::AtLeast(0.9));
            }
        }
        table.print();
    }

    fn report_loads(&self) {
        let columns = ["p50", "p99", "operations/s"];
        let mut table = self.scale.table("latencies", columns);
        for operation in [COMPLETE, CYCLE] {
            for (callers, _) in LOADS {
                let note = |what| Self::note(what, operation, callers, self.scale.keys);
                let columns =
                    ["p50", "p99"].map(|what| format!("{:.0} us", self.notes.median(&note(what))));
                let what = format!("{}, {callers} callers", operation.name);
                table.row(&what, columns, self.notes.median(&note("rate")), Target::None);
            }
        }
        table.print();
    }

    /// What reached the disk, as counted below the store.
    fn report_writes(&self) {
        let columns = ["log bytes/op", "vault bytes/op", "changes/batch"];
        let mut writes = self.scale.table("written", columns);
        let columns = ["", "vault per 1000 ops", "log per batch"];
        let mut syncs = self.scale.table("fsyncs", columns);
        for operation in [COMPLETE, CYCLE] {
            for (callers, _) in LOADS {
                let median = |what| {
                    self.notes.median(&Self::note(what, operation, callers, self.scale.keys))
                };
                let what = format!("{}, {callers} callers", operation.name);
                let columns = ["log", "vault"].map(|file| format!("{:.0}", median(file)));
                writes.row(&what, columns, median("changes"), Target::None);
                let columns = [String::new(), format!("{:.2}", median("vault-syncs"))];
                syncs.row(&what, columns, median("syncs"), Target::Exactly(1.0));
            }
        }
        writes.print();
        syncs.print();
    }
}
