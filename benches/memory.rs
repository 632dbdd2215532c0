//! How many bytes of memory a live key takes, beyond redb's page cache and the log's own limit.
//!
//! Each measurement is a separate process that opens a store with a small page cache and all keys
//! settled, and looks at its own resident memory. From that we subtract what an empty store needs.
//! The rest is the live table with its spare room, the memory that opening needed temporarily and
//! the allocator has kept, and the page cache (an empty store doesn't fill it), so the figure errs
//! on the high side. The peak is the most that opening needed.
//!
//! Tables grow by doubling, so there are sizes on both sides of a step.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use idemstore::Store;

use support::table::Target;
use support::{Scale, a_day, fill, float, place};

/// Tells a process that it is one measurement; the value is the store to open.
const OPEN: &str = "IDEMSTORE_BENCH_OPEN";
/// So small that it hardly counts.
const CACHE_BYTES: usize = 1024 * 1024;
/// Sizes in thousandths of the large store. The default size has its last step near 940.
const SIZES: [u64; 6] = [250, 870, 950, 1_000, 2_000, 4_000];
const TARGET: Target = Target::AtMost(48.0);

fn main() {
    if let Ok(path) = std::env::var(OPEN) {
        print_memory(path.as_ref());
        return;
    }
    if cfg!(not(target_os = "linux")) {
        println!("only Linux tells a process what memory it has");
        return;
    }
    let scale = Scale::from_env();
    let place = place();
    let path = place.path().join("store");
    let empty = measure(&path, 0..0);
    let columns = ["resident", "peak while opening", "bytes/key"];
    let mut table = scale.table("memory of a live key", columns);
    let (mut live, mut worst) = (0, 0.0_f64);
    for size in SIZES {
        let keys = scale.keys * size / 1_000;
        let memory = measure(&path, live..keys);
        live = keys;
        let each = (memory.resident - empty.resident).max(0.0) / float(keys);
        worst = worst.max(each);
        let what = format!("{keys} keys, opened in {:.2} s", memory.opened.as_secs_f64());
        table.row(&what, [memory.resident, memory.peak].map(mebibytes), each, TARGET);
    }
    table.row("the worst of these", [String::new(), String::new()], worst, TARGET);
    table.print();
    let [resident, peak] = [empty.resident, empty.peak].map(mebibytes);
    println!("an empty store has {resident} resident, and {peak} while opening");
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1_048_576.0)
}

/// What a measuring process has found.
struct Memory {
    /// Bytes, with the store open.
    resident: f64,
    /// The peak, in bytes.
    peak: f64,
    opened: Duration,
}

/// Adds these keys to the store, and opens it in a new process.
fn measure(path: &Path, new: Range<u64>) -> Memory {
    let store = Store::open(path).expect("a store of ours opens");
    fill(&store, new, a_day);
    store.close().expect("it settles");
    let program = std::env::current_exe().expect("Linux knows what runs");
    let output = Command::new(program).env(OPEN, path).output().expect("the bench can run itself");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut numbers = std::str::from_utf8(&output.stdout)
        .expect("we print numbers")
        .split_whitespace()
        .map(|number| number.parse().expect("we print numbers"));
    let mut next = || numbers.next().expect("we print three numbers");
    Memory {
        resident: next() * 1024.0,
        peak: next() * 1024.0,
        opened: Duration::from_secs_f64(next()),
    }
}

/// Opens the store, and prints resident memory and its peak in KiB, and the seconds it took.
fn print_memory(path: &Path) {
    let started = Instant::now();
    let builder = Store::builder().cache_bytes(CACHE_BYTES).background_thread(false);
    let store = builder.open(path).expect("it was closed");
    let took = started.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()).expect("Linux has it").to_owned()
    };
    println!("{} {} {}", field("VmRSS:"), field("VmHWM:"), took.as_secs_f64());
    store.close().expect("it settles");
}
