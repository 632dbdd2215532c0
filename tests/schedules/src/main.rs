//! The store under an explorer of schedules: each use of a lock, a signal or an atomic number is a
//! point where another thread may continue, and a seed chooses which one does. Each scene runs
//! under thousands of schedules, half of them random, half with few thread switches at unlikely
//! moments (PCT, Burckhardt et al., ASPLOS 2010). A deadlock is a failure too.
//!
//! ```text
//! SCHEDULES=10000 cargo test --manifest-path tests/schedules/Cargo.toml
//! ```

#![expect(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, its numbers are small, and it has no users"
)]

mod calls;
mod canaries;
mod closes;
mod commits;
mod futures;
#[path = "../../it/support/mod.rs"]
#[expect(dead_code, reason = "the other tests have more need of it")]
mod support;
mod upkeep;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use idemstore::{Begin, Completed, Fingerprint, ManualClock, Timestamp};
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

use support::{Bench, START_MS, SimDisk, key, size};

/// Thread switches that the second half of the schedules makes at moments of its choice.
const PCT_DEPTH: usize = 3;

/// Runs a scene under the requested number of schedules. Each begins with the store that `before`
/// has left, reopened.
fn explore(before: fn(&Bench), scene: impl Fn(Bench) + Copy + Send + Sync + 'static) {
    let schedules = size("SCHEDULES", 100) as usize;
    let seed = size("SCHEDULE_SEED", 1);
    let left: Arc<OnceLock<SimDisk>> = Arc::default();
    let play = move || {
        let left = left.get_or_init(|| {
            let bench = Bench::new();
            before(&bench);
            bench.store.close().expect("the store closes");
            bench.disk
        });
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        // Either all keys have the same hash, or hardly any do.
        let hash_mask = if shuttle::rand::thread_rng().r#gen() { 0 } else { u64::MAX };
        scene(Bench::with(left.after_kill(), clock, hash_mask));
    };
    run(RandomScheduler::new_from_seed(seed, schedules.div_ceil(2)), play.clone());
    run(PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules.div_ceil(2)), play);
}

fn run(scheduler: impl Scheduler + 'static, play: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // redb's share of a call needs more than the usual 60 KiB.
    config.stack_size = 512 * 1024;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(play);
}

/// A caller that waits for others, and takes over interrupted operations.
fn call(bench: &Bench, name: &str, effects: &AtomicUsize) -> Completed {
    let mut begin = bench.begin(name, "request");
    loop {
        let execution = match begin {
            Begin::Fresh(permit) => permit.start().expect("it starts"),
            Begin::Interrupted(interrupted) => interrupted.retry().expect("it starts again"),
            Begin::Replay(completed) => return completed,
            Begin::InFlight(in_flight) => {
                begin = in_flight.wait(Duration::MAX).expect("wait answers");
                continue;
            }
            other => panic!("{other:?}"),
        };
        effects.fetch_add(1, Ordering::Relaxed);
        return execution.complete(name).expect("it completes");
    }
}

/// Asks about a key without waiting.
fn ask(bench: &Bench, name: &str) -> Begin {
    bench.store.begin(&key(name), Fingerprint::of("request")).expect("begin answers")
}
