//! What it costs to open a store after a kill and after a clean close, and to sweep expired
//! records, compared with what bare redb needs for the same rows.
//!
//! The floor of opening is redb's own open with quick-repair and one look at each row, which is the
//! least that could fill the live table. It doesn't check the file, and the store does. The floor
//! of sweeping is one commit that deletes the same rows.
//!
//! Files are in the page cache: this measures the store, not the disk.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use idemstore::{
    Builder, CACHE_BYTES_DEFAULT, Clock, LOG_BYTES_DEFAULT, ManualClock, Store, SystemClock,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

use support::table::Target;
use support::{Notes, Scale, copy_file, copy_store, fill, place};

/// The store's own table, as in `docs/FORMAT.md`.
const RECORDS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("records");

const VAULT: &str = "vault.redb";

const ROUNDS: u64 = 5;
/// Keys of the large store that expire long before the others.
const EXPIRED: u64 = 100_000;
const EXPIRED_AFTER: Duration = Duration::from_secs(60 * 60);
const OTHERS_EXPIRE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How far the clock is moved for a sweep: past the first expiries, and well before the second
/// ones.
const LATER: Duration = Duration::from_secs(6 * 60 * 60);

fn main() {
    let scale = Scale::from_env();
    let bench = Bench::new(scale);
    let mut notes = Notes::default();
    for _ in 0..scale.of(ROUNDS) {
        bench.round(&mut notes);
    }
    bench.criterion_groups();
    bench.report(&notes);
}

struct Bench {
    scale: Scale,
    expired: u64,
    /// The time at which the stores were filled; they have never seen another.
    clock: ManualClock,
    /// A store that was closed, and a copy of its vault for the floor.
    closed: PathBuf,
    closed_bare: PathBuf,
    /// A copy of a store that was open, with its log nearly full.
    killed: PathBuf,
    unsettled: usize,
    place: TempDir,
}

impl Bench {
    fn new(scale: Scale) -> Self {
        let place = place();
        let [closed, killed] = ["closed", "killed"].map(|name| place.path().join(name));
        let clock = ManualClock::new(SystemClock::new().now());
        let filling = Instant::now();
        let expired = scale.of(EXPIRED).min(scale.keys / 2);
        let store = Store::builder().clock(clock.clone()).open(&closed).expect("a new store opens");
        fill(&store, 0..scale.keys, |number| {
            if number < expired { EXPIRED_AFTER } else { OTHERS_EXPIRE_AFTER }
        });
        store.close().expect("it settles");
        println!("{} keys filled in {:.1} s", scale.keys, filling.elapsed().as_secs_f64());
        let closed_bare = place.path().join("closed.redb");
        copy_file(&closed.join(VAULT), &closed_bare);
        let mut bench =
            Self { scale, expired, clock, closed, closed_bare, killed, unsettled: 0, place };
        bench.unsettled = bench.kill();
        bench
    }

    /// Leaves a store as after a kill at a bad time, and returns how many changes its log has and
    /// its vault does not.
    fn kill(&self) -> usize {
        let open = self.place.path().join("open");
        copy_store(&self.closed, &open);
        let store = self.builder().open(&open).expect("it was closed");
        // Nothing settles it, so the log holds all that it has room for.
        let (first, from) = (self.scale.of(1_000), self.scale.keys);
        fill(&store, from..from + first, |_| OTHERS_EXPIRE_AFTER);
        let room = self.scale.of(LOG_BYTES_DEFAULT * 9 / 10);
        let fitting = room * first / store.stats().log_bytes;
        fill(&store, from + first..from + fitting.max(first), |_| OTHERS_EXPIRE_AFTER);
        let stats = store.stats();
        assert_eq!(stats.settles, 0);
        copy_store(&open, &self.killed);
        store.close().expect("it settles");
        std::fs::remove_dir_all(open).expect("it was closed");
        stats.unsettled_changes
    }

    /// No background work, so everything that happens is measured.
    fn builder(&self) -> Builder {
        Store::builder().background_thread(false).clock(ManualClock::new(self.clock.now()))
    }

    /// Opens what a kill and a close have left, then sweeps.
    fn round(&self, notes: &mut Notes) {
        let [copy, bare] = ["copy", "bare.redb"].map(|name| self.place.path().join(name));
        copy_store(&self.killed, &copy);
        copy_file(&self.killed.join(VAULT), &bare);
        let clock = ManualClock::new(self.clock.now());
        let builder = self.builder().clock(clock.clone());

        let (store, took) = timed(|| builder.open(&copy).expect("a kill does no harm"));
        notes.add("killed", milliseconds(took));
        let (database, took) = timed(|| open_bare(&bare));
        notes.add("killed bare", milliseconds(took));
        notes.add("closed", milliseconds(self.open_closed()));
        notes.add("closed bare", milliseconds(self.open_closed_bare()));

        clock.advance(LATER);
        let slices = self.sweep(&store);
        notes.add("sweep", milliseconds(slices.iter().sum()));
        let longest = slices.into_iter().max().expect("there was something to sweep");
        notes.add("longest slice", milliseconds(longest));
        let ((), took) = timed(|| cut_bare(&database, clock.now().as_unix_ms()));
        notes.add("sweep bare", milliseconds(took));

        store.close().expect("it settles");
        drop(database);
        std::fs::remove_dir_all(copy).expect("it was closed");
        std::fs::remove_file(bare).expect("it was closed");
    }

    fn open_closed(&self) -> Duration {
        let builder = self.builder();
        let (store, took) = timed(|| builder.open(&self.closed).expect("it was closed"));
        assert_eq!(store.stats().records as u64, self.scale.keys);
        store.close().expect("it settles");
        took
    }

    fn open_closed_bare(&self) -> Duration {
        timed(|| open_bare(&self.closed_bare)).1
    }

    /// Sweeps slice after slice until nothing expired is left, and returns how long each slice
    /// took.
    fn sweep(&self, store: &Store) -> Vec<Duration> {
        let (mut swept, mut slices) = (0, Vec::new());
        loop {
            let (slice, took) = timed(|| store.sweep().expect("the store works"));
            if slice == 0 {
                assert_eq!(swept, self.expired);
                return slices;
            }
            swept += slice as u64;
            slices.push(took);
        }
    }

    fn criterion_groups(&self) {
        let mut criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(1))
            .configure_from_args();
        let mut group = criterion.benchmark_group("open/closed");
        group.sampling_mode(SamplingMode::Flat);
        // As long as ten opens take, so that criterion doesn't warn that it is too short.
        group.measurement_time(Duration::from_secs(15));
        group.bench_function("idemstore", |bencher| {
            bencher.iter_custom(|opens| (0..opens).map(|_| self.open_closed()).sum());
        });
        group.measurement_time(Duration::from_secs(4));
        group.bench_function("redb", |bencher| {
            bencher.iter_custom(|opens| (0..opens).map(|_| self.open_closed_bare()).sum());
        });
        group.finish();
        criterion.final_summary();
    }

    fn report(&self, notes: &Notes) {
        let ms = |what: &str| format!("{:.1} ms", notes.median(what));
        let mut table = self.scale.table("open and sweep", ["idemstore", "bare redb", "ratio"]);
        let killed = format!("open after a kill, {} changes unsettled", self.unsettled);
        let sweep = format!("sweep of {}", self.expired);
        let rows = [
            (killed.as_str(), "killed"),
            ("open after a close", "closed"),
            (sweep.as_str(), "sweep"),
        ];
        for (row, what) in rows {
            let bare = format!("{what} bare");
            table.row(row, [ms(what), ms(&bare)], notes.ratio(what, &bare), Target::None);
        }
        table.print();

        let mut table = self.scale.table("in absolute terms", ["", "", "ms"]);
        let rows = [
            (killed.as_str(), "killed", Target::AtMost(1_500.0)),
            ("open after a close", "closed", Target::None),
            (sweep.as_str(), "sweep", Target::AtMost(200.0)),
            ("its longest slice", "longest slice", Target::None),
        ];
        for (row, what, target) in rows {
            table.row(row, [String::new(), String::new()], notes.median(what), target);
        }
        table.print();
    }
}

/// Opens a database as a program would, and looks at each of its rows.
fn open_bare(path: &Path) -> Database {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES_DEFAULT)
        .open(path)
        .expect("it was written with quick-repair");
    let reading = database.begin_read().expect("redb works");
    let records = reading.open_table(RECORDS).expect("the store has it");
    for row in records.iter().expect("redb works") {
        let (key, value) = row.expect("redb works");
        black_box((key.value(), value.value()));
    }
    database
}

/// Deletes everything that has expired by `now` in one commit.
fn cut_bare(database: &Database, now: u64) {
    let writing = database.begin_write().expect("redb works");
    {
        let mut records = writing.open_table(RECORDS).expect("the store has it");
        records.retain_in(..=(now, u64::MAX), |_, _| false).expect("redb works");
    }
    writing.commit().expect("redb works");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
