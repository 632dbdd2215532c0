//! What callers notice when a million keys expire, compared with the same callers when none do.
//!
//! In each round the same store is measured with its keys at rest, and with all of them expiring at
//! once; the rounds alternate in which comes first. The background thread settles and sweeps
//! meanwhile.
//!
//! `IDEMSTORE_CHURN_MINUTES=20` runs a different program: all callers at full rate for this many
//! minutes, with a retention of one minute, so that as many keys expire as are made.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use idemstore::{Begin, Clock, ManualClock, Store, SystemClock};
use tempfile::TempDir;

use support::table::Target;
use support::{Notes, RESULT, Scale, fill, fingerprint, float, key, place};

const CALLERS: u64 = 64;
const ROUNDS: u64 = 5;
/// How long a round measures callers at rest, and the longest that it measures them until the last
/// key is swept.
const WINDOW_MS: u64 = 15_000;
/// When the keys that a round has filled the store with expire, and how far its clock is moved.
/// What the callers create lasts a day, and so for all rounds.
const RETENTION: Duration = Duration::from_secs(60 * 60);
const LATER: Duration = Duration::from_secs(2 * 60 * 60);

const CHURN_RETENTION: Duration = Duration::from_secs(60);
const CHURN_TELLS_EVERY: Duration = Duration::from_secs(10);

static NEXT_KEY: AtomicU64 = AtomicU64::new(1 << 40);

fn main() {
    let scale = Scale::from_env();
    if let Ok(minutes) = std::env::var("IDEMSTORE_CHURN_MINUTES") {
        let minutes: u64 = minutes.parse().expect("IDEMSTORE_CHURN_MINUTES is a number");
        return churn(Duration::from_secs(60 * minutes));
    }
    let (bench, mut notes) = (Bench::new(scale), Notes::default());
    for round in 0..scale.of(ROUNDS) {
        bench.round(round, &mut notes);
    }
    bench.report(&notes);
}

/// Begins, starts and completes a new key: two fsyncs.
fn cycle(store: &Store) {
    let key = key(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
    match store.begin(&key, fingerprint()).expect("the store works") {
        Begin::Fresh(permit) => {
            let execution = permit.start().expect("the store works");
            execution.complete(RESULT).expect("the store works");
        }
        _ => unreachable!("the key is new"),
    }
}

/// How long each call took, of all that the callers made while `meanwhile` ran, and how many there
/// were.
#[derive(Default)]
struct Load {
    latencies: Mutex<Vec<f64>>,
    is_over: AtomicBool,
}

impl Load {
    fn while_running(&self, store: &Store, meanwhile: impl FnOnce()) {
        thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    while !self.is_over.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        cycle(store);
                        let took = milliseconds(asked.elapsed());
                        self.latencies.lock().expect("no caller panics").push(took);
                    }
                });
            }
            meanwhile();
            self.is_over.store(true, Ordering::Relaxed);
        });
    }

    /// The latencies so far, sorted.
    fn take(&self) -> Vec<f64> {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("no caller panics"));
        latencies.sort_by(f64::total_cmp);
        latencies
    }
}

struct Bench {
    scale: Scale,
    clock: ManualClock,
    store: Store,
    _place: TempDir,
}

impl Bench {
    fn new(scale: Scale) -> Self {
        let (place, clock) = (place(), ManualClock::new(SystemClock::new().now()));
        let store = Store::builder().clock(clock.clone()).open(place.path().join("store"));
        Self { scale, clock, store: store.expect("a new store opens"), _place: place }
    }

    fn round(&self, round: u64, notes: &mut Notes) {
        let first = round * self.scale.keys;
        fill(&self.store, first..first + self.scale.keys, |_| RETENTION);
        self.store.settle().expect("the store works");
        if round.is_multiple_of(2) {
            self.measure("at rest", u64::MAX, notes);
        }
        self.clock.advance(LATER);
        let swept = self.measure("expiring", self.scale.keys, notes);
        notes.add("swept", float(swept));
        while 0 < self.store.sweep().expect("the store works") {}
        if !round.is_multiple_of(2) {
            self.measure("at rest", u64::MAX, notes);
        }
    }

    /// Measures until this many keys are swept, or until the window is over, and returns how many
    /// were.
    fn measure(&self, what: &str, keys: u64, notes: &mut Notes) -> u64 {
        let before = self.store.stats().swept;
        let swept = || self.store.stats().swept - before;
        let (load, started) = (Load::default(), Instant::now());
        let window = Duration::from_millis(self.scale.of(WINDOW_MS));
        load.while_running(&self.store, || {
            while started.elapsed() < window && swept() < keys {
                thread::sleep(window / 50);
            }
        });
        let (elapsed, latencies, swept) = (started.elapsed(), load.take(), swept());
        self.store.settle().expect("the store works");
        let slowest = *latencies.last().expect("at least one call was made");
        let p99 = *latencies.get(latencies.len() * 99 / 100).expect("it is within");
        let rate = float(latencies.len() as u64) / elapsed.as_secs_f64();
        println!("{what}: {rate:.0}/s, p99 {p99:.1} ms, slowest {slowest:.1} ms, swept {swept}");
        notes.add(format!("rate {what}"), rate);
        notes.add(format!("p99 {what}"), p99);
        notes.add(format!("slowest {what}"), slowest);
        swept
    }

    fn report(&self, notes: &Notes) {
        let columns = ["expiring", "at rest", "ratio"];
        let title = format!("{CALLERS} callers while {} keys expire", self.scale.keys);
        let mut table = self.scale.table(&title, columns);
        for (what, unit, target) in [
            ("rate", "/s", Target::AtLeast(0.9)),
            ("p99", " ms", Target::None),
            ("slowest", " ms", Target::None),
        ] {
            let names = ["expiring", "at rest"].map(|which| format!("{what} {which}"));
            let [expiring, at_rest] = &names;
            let shown = [expiring, at_rest].map(|name| format!("{:.1}{unit}", notes.median(name)));
            table.row(what, shown, notes.ratio(expiring, at_rest), target);
        }
        table.print();
        println!("swept within a window: {:.0}", notes.median("swept"));
    }
}

/// Prints the state every ten seconds, and how much more disk space the store takes than in the
/// first minute.
fn churn(length: Duration) {
    let place = place();
    let store = Store::builder().retention(CHURN_RETENTION).open(place.path().join("store"));
    let store = store.expect("a new store opens");
    let (load, started) = (Load::default(), Instant::now());
    let (mut first_minute, mut later, mut backlog_max) = (0, 0, 0);
    let first_minute_ends = CHURN_RETENTION + CHURN_TELLS_EVERY / 2;
    load.while_running(&store, || {
        println!("seconds  keys/s  slowest   live     backlog  swept      disk");
        while started.elapsed() < length {
            thread::sleep(CHURN_TELLS_EVERY);
            let (stats, latencies, elapsed) = (store.stats(), load.take(), started.elapsed());
            let slowest = latencies.last().copied().unwrap_or_default();
            println!(
                "{:7.0}  {:6.0}  {slowest:4.0} ms  {:7}  {:7}  {:9}  {:.2} GB",
                elapsed.as_secs_f64(),
                float(latencies.len() as u64) / CHURN_TELLS_EVERY.as_secs_f64(),
                stats.live,
                stats.sweep_backlog,
                stats.swept,
                float(stats.file_bytes) / 1e9,
            );
            backlog_max = backlog_max.max(stats.sweep_backlog);
            let peak = if elapsed < first_minute_ends { &mut first_minute } else { &mut later };
            *peak = stats.file_bytes.max(*peak);
        }
    });
    let growth = float(later) / float(first_minute.max(1));
    println!("largest backlog {backlog_max}, disk {growth:.2} of the first minute's");
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
