//! Recorded histories of many threads: a store that does one call after the other could have given
//! the same answers.

mod refused;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use idemstore::sim::OpenOn;
use idemstore::{Fingerprint, ManualClock, Timestamp};

use crate::support::history::pause::{Before, SlowDisk};
use crate::support::history::round::{self, End};
use crate::support::history::site::{Place, Site};
use crate::support::history::tally::Tally;
use crate::support::history::{Dice, History, Shown};
use crate::support::{Answers, RETENTION_MS, START_MS, SimDisk, Started, builder, key, size};

/// Rounds on one store. Each has its own keys.
const ROUNDS: usize = 12;

/// Steps that occur whatever becomes of the store.
const ALWAYS: [&str; 28] = [
    "begin: fresh",
    "begin: in flight",
    "begin: interrupted",
    "begin: mismatch",
    "begin: replay",
    "by key: finish",
    "by key: forget",
    "by key: held",
    "by key: not executing",
    "by key: nothing to forget",
    "checkpoint",
    "complete",
    "detach",
    "get: completed",
    "get: executing",
    "get: free",
    "get: interrupted",
    "get: reserved",
    "let go",
    "remove",
    "retry",
    "start",
    "tick",
    "wait: fresh",
    "wait: in flight",
    "wait: interrupted",
    "wait: mismatch",
    "wait: replay",
];

/// Runs rounds that end in these ways until there are this many calls and each of these kinds of
/// step has occurred, and checks each history.
fn record(
    calls: u64,
    kinds: &[&str],
    ends: &[End],
    place: impl Fn() -> Place,
    each: impl Fn(&History),
) {
    let first_seed = size("HISTORY_SEED", 1);
    let mut tally = Tally::default();
    for seed in first_seed.. {
        let mut dice = Dice(seed);
        let mut site = Site::new(place(), &mut dice);
        let mut store = site.open();
        for _ in 0..ROUNDS {
            let end = ends[dice.below(ends.len() as u64) as usize];
            let histories;
            (store, histories) = round::run(&mut site, store, end, &mut dice);
            for history in &histories {
                tally.add(history);
                if let Err(refused) = history.check() {
                    panic!("HISTORY_SEED={seed}, {end:?}: {}", Shown(history, &refused));
                }
                each(history);
            }
        }
        // On a machine with other work, fewer threads meet, which isn't the store's fault.
        let enough = calls <= tally.calls && tally.lacks(kinds).is_none();
        if enough || 10 * calls <= tally.calls {
            break;
        }
    }
    assert_eq!(tally.lacks(kinds), None, "{tally:#?}");
    // On any number of cores: it is the clock and the disk that let other threads run.
    assert!(tally.calls < 10 * tally.overlaps, "hardly two calls at once: {tally:#?}");
}

fn simulated() -> Place {
    Place::Sim(SimDisk::new())
}

#[test]
fn calls_of_many_threads_are_as_if_made_one_by_one() {
    record(size("HISTORY_OPS", 20_000), &ALWAYS, &[End::Rest], simulated, |_| {});
}

#[test]
fn calls_before_and_after_a_restart_are_as_if_made_one_by_one() {
    let (nothing, something) = (Cell::new(0), Cell::new(0));
    let ends = [End::Close, End::Kill, End::PowerCut, End::Fault, End::Fault];
    let kinds = [&ALWAYS[..], &["open", "uncertain", "fail", "unsure", "surface"]].concat();
    record(size("HISTORY_OPS", 20_000), &kinds, &ends, simulated, |history| {
        let certain = history.of_certain();
        if certain.events.len() < history.events.len() {
            // Whether a call that was cut off has left nothing, or the rest shows its effect.
            let outcome = if certain.check().is_ok() { &nothing } else { &something };
            outcome.set(outcome.get() + 1);
        }
    });
    assert!(0 < nothing.get() && 0 < something.get(), "{nothing:?}, {something:?}");
}

#[test]
fn calls_on_a_real_directory_are_as_if_made_one_by_one() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let stores = Cell::new(0);
    let place = || {
        stores.set(stores.get() + 1);
        Place::Real(directory.path().join(stores.get().to_string()))
    };
    let kinds = ["begin: replay", "begin: interrupted", "wait: replay", "open"];
    record(size("HISTORY_OPS", 20_000) / 10, &kinds, &[End::Rest, End::Close], place, |_| {});
}

/// A bug that the histories have found: a record was read while it was valid, and returned although
/// the key had belonged to another caller since.
#[test]
fn a_key_that_was_free_for_another_caller_is_not_interrupted_any_more() {
    let ((reads, is_read), (let_go_on, go_on)) = (channel(), channel::<()>());
    let armed = Arc::new(AtomicBool::new(false));
    let gate = Mutex::new((reads, go_on));
    let before = Before::new({
        let armed = Arc::clone(&armed);
        move || {
            if armed.swap(false, Ordering::SeqCst) {
                let (reads, go_on) = &*gate.lock().expect("no caller panics");
                reads.send(()).expect("the test waits");
                go_on.recv().expect("the test goes on");
            }
        }
    });
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    // Without a cache, so that the record is read from the disk.
    let builder = builder(&clock).cache_bytes(0);
    let opened = builder.open_on(SlowDisk { disk: SimDisk::new(), before });
    let store = opened.expect("the store opens");
    let begin = || store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    drop(begin().started());
    store.settle().expect("it settles");

    clock.set(Timestamp::from_unix_ms(START_MS + RETENTION_MS - 1));
    armed.store(true, Ordering::SeqCst);
    let told = thread::scope(|scope| {
        let caller = scope.spawn(begin);
        // Dropped with a panic, so that the caller doesn't wait forever.
        let let_go_on = let_go_on;
        is_read.recv().expect("the caller reads the record");
        clock.set(Timestamp::from_unix_ms(START_MS + RETENTION_MS));
        begin().fresh().release();
        let_go_on.send(()).expect("the caller waits");
        caller.join().expect("the caller ends")
    });
    told.fresh().release();
}
