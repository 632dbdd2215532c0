//! What the tests share: a simulated disk, a store on it, and short names for parts of the
//! contract.

#[macro_use]
pub mod waiting;

pub mod choice;
pub mod crashes;
pub mod crew;
pub mod damage;
pub mod disk;
pub mod door;
pub mod faults;
pub mod gated;
pub mod history;
pub mod model;
pub mod ops;
pub mod oracle;
pub mod script;

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{
    Begin, Builder, Completed, Execution, Fingerprint, InFlight, Interrupted, Key, ManualClock,
    Permit, Store, Timestamp,
};

pub use disk::SimDisk;

/// When the manual clock of a test starts.
pub const START_MS: u64 = 1_000_000;
/// Retention of a test's store.
pub const RETENTION_MS: u64 = 1_000;

/// A store without a background thread, on a simulated disk, with a manual clock.
pub struct Bench {
    pub disk: SimDisk,
    pub clock: ManualClock,
    pub store: Store,
    hash_mask: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self::on(SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)))
    }

    pub fn on(disk: SimDisk, clock: ManualClock) -> Self {
        Self::with(disk, clock, u64::MAX)
    }

    /// A store whose live table uses only these bits of a key's hash.
    pub fn with(disk: SimDisk, clock: ManualClock, hash_mask: u64) -> Self {
        let builder = builder(&clock).hash_mask(hash_mask);
        let store = builder.open_on(disk.clone()).expect("the store opens");
        Self { disk, clock, store, hash_mask }
    }

    pub fn begin(&self, key: &str, request: &str) -> Begin {
        self.store.begin(&self::key(key), Fingerprint::of(request)).expect("begin answers")
    }

    /// A key that has been started and completed.
    pub fn complete(&self, key: &str, request: &str, result: &str) -> Completed {
        let execution = self.begin(key, request).fresh().start().expect("it starts");
        execution.complete(result).expect("it completes")
    }

    pub fn tick(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Closes the store and opens it again.
    pub fn reopen(self) -> Self {
        let Self { disk, clock, store, hash_mask } = self;
        store.close().expect("the store closes");
        Self::with(disk, clock, hash_mask)
    }

    /// What is left after a power cut, determined by a function that returns a number below its
    /// argument.
    pub fn cut(self, choose: impl FnMut(u64) -> u64) -> Self {
        let disk = self.disk.after_power_cut(choose);
        Self::with(disk, self.clock, self.hash_mask)
    }

    /// What is left after a kill: everything that was written, synced or not.
    pub fn kill(self) -> Self {
        let disk = self.disk.after_kill();
        Self::with(disk, self.clock, self.hash_mask)
    }
}

/// Completes so many keys that one page can't hold them all: the first page of a table is in memory
/// once it has been read.
pub fn more_than_a_page(bench: &Bench) {
    for number in 0..64 {
        bench.complete(&format!("another {number}"), "request", &"result".repeat(20));
    }
}

pub fn builder(clock: &ManualClock) -> Builder {
    Store::builder()
        .retention(Duration::from_millis(RETENTION_MS))
        .log_bytes(64 * 1024)
        .result_len_max(16 * 1024)
        .cache_bytes(1024 * 1024)
        .background_thread(false)
        .clock(clock.clone())
}

/// How much a test does: as the environment says, or this much by default.
pub fn size(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |size| size.parse().expect("it is a number"))
}

pub fn key(key: &str) -> Key {
    Key::new(key).expect("it is a key")
}

/// Many threads write; each records what was acknowledged, until it gets an error.
pub fn write_from_many_threads(bench: &Bench, meanwhile: impl FnOnce()) -> Vec<String> {
    let acknowledged = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for writer in 0..8 {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                for step in 0.. {
                    let name = format!("{writer} {step}");
                    let begin = bench.store.begin(&key(&name), Fingerprint::of("request"));
                    let Ok(Begin::Fresh(permit)) = begin else { return };
                    if permit.complete(&name).is_err() {
                        return;
                    }
                    acknowledged.lock().expect("no thread panics").push(name);
                }
            });
        }
        meanwhile();
    });
    acknowledged.into_inner().expect("no thread panics")
}

/// The five answers, each by its name.
pub trait Answers {
    fn fresh(self) -> Permit;
    fn replay(self) -> Completed;
    fn in_flight(self) -> InFlight;
    fn interrupted(self) -> Interrupted;
    fn mismatches(self) -> bool;
}

impl Answers for Begin {
    #[track_caller]
    fn fresh(self) -> Permit {
        match self {
            Begin::Fresh(permit) => permit,
            other => panic!("not fresh: {other:?}"),
        }
    }

    #[track_caller]
    fn replay(self) -> Completed {
        match self {
            Begin::Replay(completed) => completed,
            other => panic!("not a replay: {other:?}"),
        }
    }

    #[track_caller]
    fn in_flight(self) -> InFlight {
        match self {
            Begin::InFlight(in_flight) => in_flight,
            other => panic!("not in flight: {other:?}"),
        }
    }

    #[track_caller]
    fn interrupted(self) -> Interrupted {
        match self {
            Begin::Interrupted(interrupted) => interrupted,
            other => panic!("not interrupted: {other:?}"),
        }
    }

    fn mismatches(self) -> bool {
        matches!(self, Begin::Mismatch)
    }
}

/// Short functions that bring a key into a state.
pub trait Started {
    fn started(self) -> Execution;
}

impl Started for Begin {
    #[track_caller]
    fn started(self) -> Execution {
        self.fresh().start().expect("it starts")
    }
}
