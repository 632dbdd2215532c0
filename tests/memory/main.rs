//! The memory bounds of docs/GUARANTEES.md, line by line: allocated bytes, counted by the
//! allocator. They don't depend on the machine. The count covers the whole process, so the tests
//! take turns.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod copies;
#[cfg(feature = "tower")]
mod http;
mod keys;
mod stores;
mod waits;
mod writes;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idemstore::{Begin, Builder, Fingerprint, Key, ManualClock, Permit, Store, Timestamp};
use peak_alloc::PeakAlloc;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: usize = 1024 * 1024;
/// What the test harness may allocate meanwhile: it starts the thread of the next test, and
/// collects what is printed. A million calls that leak one byte each leave far more.
const NOISE: usize = 32 * 1024;
const RETENTION: Duration = Duration::from_secs(3_600);

/// The right to be the only one that allocates.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has finished with it too.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that are allocated now.
fn live() -> usize {
    ALLOCATOR.current_usage()
}

/// By how many bytes at most the allocated memory grew during this call.
fn peak_of(call: impl FnOnce()) -> usize {
    ALLOCATOR.reset_peak_usage();
    let before = live();
    call();
    ALLOCATOR.peak_usage().saturating_sub(before)
}

#[track_caller]
fn check(what: &str, bytes: usize, at_most: usize) {
    println!("{what}: {bytes} bytes, at most {at_most}");
    assert!(bytes <= at_most, "{what}: {bytes} bytes, and it should be {at_most} at most");
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// A store without a background thread and with a small cache.
fn builder(clock: &ManualClock) -> Builder {
    Store::builder()
        .retention(RETENTION)
        .background_thread(false)
        .cache_bytes(MIB)
        .log_bytes(8 * MIB as u64)
        .clock(clock.clone())
}

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(1_000_000))
}

fn open(path: &Path, clock: &ManualClock) -> Store {
    builder(clock).open(path).expect("the store opens")
}

fn key(number: usize) -> Key {
    Key::new(number.to_string()).expect("it is a key")
}

fn permit(store: &Store, number: usize) -> Permit {
    match store.begin(&key(number), Fingerprint::NONE).expect("begin answers") {
        Begin::Fresh(permit) => permit,
        other => panic!("{other:?}"),
    }
}

/// Completes this many keys with results of this length, and settles them.
fn fill(store: &Store, keys: usize, result_len: usize) {
    let result = vec![7; result_len];
    for first in (0..keys).step_by(1_000) {
        let permits = (first..keys.min(first + 1_000)).map(|number| permit(store, number));
        let completed = store.complete_many(permits.map(|permit| (permit, &result)));
        assert!(completed.iter().all(Result::is_ok));
    }
    store.settle().expect("it settles");
}
