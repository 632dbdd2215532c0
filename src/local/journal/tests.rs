//! What a writer waits for when it finds the log full. Nothing is timed: the tests count what is
//! done in the meantime.

use std::thread;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::key::{Fingerprint, Key};
use crate::limits::{LOG_BYTES_MIN, SWEEP_RECORDS_MAX};
use crate::{Begin, Store};

const RETENTION: Duration = Duration::from_secs(1);

/// A store with `records` expired records in its vault, and a small, empty log.
pub(crate) fn store_with_expired(records: usize) -> Store {
    let clock = ManualClock::new(Timestamp::from_unix_ms(1_000_000));
    let builder =
        Store::builder().background_thread(false).retention(RETENTION).clock(clock.clone());
    let builder = builder.log_bytes(LOG_BYTES_MIN).result_len_max(1024);
    let store = builder.open_in_memory().expect("the store opens");
    let keys: Vec<_> = (0..records).map(|number| key(&format!("expired {number}"))).collect();
    let begun = store.begin_many(keys.iter().map(|key| (key, Fingerprint::NONE)));
    let permits = begun.into_iter().map(|begun| match begun.expect("begin answers") {
        Begin::Fresh(permit) => (permit, "result"),
        other => panic!("{other:?}"),
    });
    store.complete_many(permits).into_iter().for_each(|completed| {
        completed.expect("there is room");
    });
    store.settle().expect("there is room");
    clock.advance(RETENTION);
    store
}

fn key(name: &str) -> Key {
    Key::new(name).expect("it is a key")
}

/// Completes new keys for as long as `go_on` returns `true`.
pub(crate) fn write_while(store: &Store, go_on: impl Fn() -> bool) {
    let written = store.stats().changes;
    for number in written.. {
        if !go_on() {
            return;
        }
        match store.begin(&key(&format!("new {number}")), Fingerprint::NONE) {
            Ok(Begin::Fresh(permit)) => permit.complete("result").expect("there is room"),
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn a_writer_that_finds_the_log_full_waits_for_one_slice_and_one_settle() {
    let store = store_with_expired(3 * SWEEP_RECORDS_MAX);
    let journal = &store.engine().journal;
    let settles = || journal.counters.settles.load(Ordering::Relaxed);
    for _ in 0..3 {
        let before = settles();
        // Hold the lock, as a slice does that began earlier.
        let slice = journal.settling.lock();
        thread::scope(|scope| {
            scope.spawn(|| write_while(&store, || settles() == before));
            while journal.settling.waiting() == 0 {
                thread::yield_now();
            }
            drop(slice);
            // The next slice begins at once, but runs after the settle that the writer waits for.
            assert_eq!(journal.sweep().expect("there is room").records, SWEEP_RECORDS_MAX);
            assert_eq!(settles(), before + 1);
        });
    }
}
