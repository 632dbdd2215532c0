//! What the benches share: the size of a run, stores full of keys, and notes of what was measured.

pub(crate) mod table;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Fingerprint, Key, Store};
use tempfile::TempDir;

use table::Table;

/// The result of every operation: the size that all comparisons are made with.
pub(crate) const RESULT: [u8; 200] = [0x5A; 200];

/// Callers that fill a store at the same time. They share fsyncs, so more of them fill it faster.
const FILLERS: usize = 256;

/// Live keys of the large store unless told otherwise; all targets are for this size.
const FULL_SIZE: u64 = 1_000_000;

/// Live keys in a smoke run, which only shows that the bench still works.
const SMOKE_KEYS: u64 = 2_000;

/// How much a run measures.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Live keys of the large store.
    pub(crate) keys: u64,
    /// Whether this only checks that the bench works, as `cargo test --benches` does.
    pub(crate) smoke: bool,
}

impl Scale {
    /// Reads the command line and `IDEMSTORE_BENCH_KEYS`.
    pub(crate) fn from_env() -> Self {
        // Criterion tells the two kinds of run apart like this, and all benches must agree.
        let given = |flag: &str| std::env::args().any(|argument| argument == flag);
        let smoke = given("--test") || given("--list") || !given("--bench");
        let keys = std::env::var("IDEMSTORE_BENCH_KEYS").map_or(FULL_SIZE, |keys| {
            keys.parse().expect("IDEMSTORE_BENCH_KEYS is a number of keys")
        });
        Self { keys: if smoke { keys.min(SMOKE_KEYS) } else { keys.max(SMOKE_KEYS) }, smoke }
    }

    /// Live keys of the small store. The large one should be as fast.
    pub(crate) fn few_keys(self) -> u64 {
        self.keys / 100
    }

    /// A number of operations or rounds, or one hundredth of it (at least one) in a smoke run.
    pub(crate) fn of(self, count: u64) -> u64 {
        if self.smoke { (count / 100).max(1) } else { count }
    }

    /// An empty table, see [`Table::new`]. Targets are for the full size: a smaller store fits into
    /// caches that the full size doesn't, and divides fixed costs among fewer keys.
    pub(crate) fn table(self, title: &str, columns: [&str; 3]) -> Table {
        Table::new(title, columns, FULL_SIZE <= self.keys)
    }
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted beyond 53 bits")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A directory below the build's own, which is on a real disk even where `/tmp` is memory.
pub(crate) fn place() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory can be written")
}

/// The key with this number, in the form that most clients use: a UUID.
pub(crate) fn key(number: u64) -> Key {
    let (high, low) = (scatter(number), scatter(!number));
    let groups = [high >> 32, high >> 16 & 0xFFFF, high & 0xFFFF, low >> 48];
    let [first, second, third, fourth] = groups;
    let last = low & 0xFFFF_FFFF_FFFF;
    let uuid = format!("{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{last:012x}");
    Key::new(uuid).expect("36 bytes are a key")
}

/// The fingerprint of all requests: making it is the caller's work, and is not measured.
pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint::of("POST /charges")
}

/// A number that looks random and differs for each `number` (the finalizer of `SplitMix64`).
pub(crate) fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// The same uniformly distributed numbers each time, below `end`.
pub(crate) fn random_numbers(end: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |draw| scatter(draw) % end)
}

/// Completes the operations of these keys, each with the retention that `retention` returns for it.
pub(crate) fn fill(store: &Store, numbers: Range<u64>, retention: impl Fn(u64) -> Duration + Sync) {
    let (request, next) = (fingerprint(), AtomicU64::new(numbers.start));
    thread::scope(|scope| {
        for _ in 0..FILLERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if numbers.end <= number {
                        break;
                    }
                    let begin = store.begin(&key(number), request).expect("the store works");
                    let Begin::Fresh(permit) = begin else { unreachable!("the key is new") };
                    let permit = permit.with_retention(retention(number));
                    permit.complete(RESULT).expect("the store works");
                }
            });
        }
    });
}

/// A retention that outlasts every bench.
pub(crate) fn a_day(_: u64) -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

/// Copies a store's files, open or not: the copy has what a kill would have left.
pub(crate) fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the build directory can be written");
    for name in ["log-0", "log-1", "vault.redb"] {
        copy_file(&from.join(name), &to.join(name));
    }
}

/// Copies a file, and waits until the copy is on the disk, so that writing it back does not
/// disturb what is measured next.
pub(crate) fn copy_file(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("the store has all its files");
    let copied = std::fs::File::open(to).and_then(|file| file.sync_all());
    copied.expect("the copy can be synced");
}

/// Measurements, each taken in several rounds interleaved with what it is compared with, so that a
/// slow spell of the machine hits both.
#[derive(Default)]
pub(crate) struct Notes(BTreeMap<String, Vec<f64>>);

impl Notes {
    /// Records one round's measurement.
    pub(crate) fn add(&mut self, what: impl Into<String>, value: f64) {
        self.0.entry(what.into()).or_default().push(value);
    }

    /// The median of all rounds.
    pub(crate) fn median(&self, what: &str) -> f64 {
        median(self.rounds(what).to_vec())
    }

    /// The median of the ratios within each round, which drift doesn't affect.
    pub(crate) fn ratio(&self, what: &str, to: &str) -> f64 {
        let rounds = self.rounds(what).iter().zip(self.rounds(to));
        median(rounds.map(|(what, to)| what / to).collect())
    }

    fn rounds(&self, what: &str) -> &[f64] {
        self.0.get(what).expect("it was measured")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2);
    *middle.expect("each measurement has at least one round")
}
