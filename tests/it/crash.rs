//! A kill or a power cut after every single operation of the disk: nothing that was acknowledged is
//! lost, and nothing runs a second time unannounced.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use idemstore::{Clock, Fingerprint, ManualClock, Store, Timestamp};

use crate::support::model::splitmix;
use crate::support::oracle::Found;
use crate::support::script::{self, Told};
use crate::support::{Answers, START_MS, SimDisk, builder, key, size};

/// Counts of what was looked at.
#[derive(Default)]
struct Seen {
    images: AtomicU64,
    /// Keys that were already what their caller was not told yet.
    early: AtomicU64,
}

/// Runs the script, and shows the disk after each of its operations, with its number.
fn at_each_operation(look: impl Fn(u64, &SimDisk, &ManualClock, &Told) + Send + 'static) -> u64 {
    let (disk, told) = (SimDisk::new(), Told::default());
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let operations = Arc::new(AtomicU64::new(0));
    disk.observe({
        let (clock, told, operations) = (clock.clone(), told.clone(), Arc::clone(&operations));
        move |disk| look(operations.fetch_add(1, Ordering::Relaxed), disk, &clock, &told)
    });
    script::run(&disk, &clock, &told).expect("the disk is well");
    operations.load(Ordering::Relaxed)
}

/// What a crash has left must be a store, and each of its keys what it may be.
fn check(image: SimDisk, clock: &ManualClock, told: &Told, seen: &Seen) {
    let clock = ManualClock::new(clock.now());
    let store = builder(&clock).open_on(image).expect("the store opens after every crash");
    let found = told.lock().check(&store);
    seen.images.fetch_add(1, Ordering::Relaxed);
    let early = found.iter().filter(|found| found.early).count();
    seen.early.fetch_add(early as u64, Ordering::Relaxed);
    check_rows(&store, &found);
}

/// The caller's row of a key is there if and only if its result is.
#[cfg(feature = "transaction")]
fn check_rows(store: &Store, found: &[Found]) {
    use redb::{ReadableTable, TableError};
    let rows = match store.read_transaction().expect("it can be read").open_table(script::ROWS) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => {
            assert!(!found.iter().any(|found| found.name.starts_with("own") && found.completed));
            return;
        }
        Err(error) => panic!("{error}"),
    };
    for found in found.iter().filter(|found| found.name.starts_with("own")) {
        let row = rows.get(&*found.name).expect("it can be read").is_some();
        // Of a key whose retention is over the row is still there.
        assert!(row == found.completed || !found.may_be_completed, "{found:?}, row: {row}");
    }
    for row in rows.iter().expect("it can be read") {
        let (name, _) = row.expect("it can be read");
        assert!(name.value().starts_with("own"), "a refused closure has left a row");
    }
}

/// Without rows of the caller's, all that is left is that nothing was completed unasked.
#[cfg(not(feature = "transaction"))]
fn check_rows(_: &Store, found: &[Found]) {
    for found in found {
        assert!(found.may_be_completed || !found.completed, "{}", found.name);
    }
}

/// A power cut that is chosen by a number.
fn cut(disk: &SimDisk, mut seed: u64) -> SimDisk {
    disk.after_power_cut(|below| {
        seed = splitmix(seed);
        seed % below
    })
}

#[test]
fn a_kill_after_every_operation_loses_nothing() {
    let seen = Arc::new(Seen::default());
    let counts = Arc::clone(&seen);
    let operations = at_each_operation(move |_, disk, clock, told| {
        check(disk.after_kill(), clock, told, &counts);
    });
    assert!(300 < operations, "only {operations} operations");
    assert_eq!(seen.images.load(Ordering::Relaxed), operations);
    // A kill leaves what was written and not yet acknowledged.
    assert!(0 < seen.early.load(Ordering::Relaxed));
}

#[test]
fn a_power_cut_after_every_operation_loses_nothing() {
    let images = size("CRASH_IMAGES", 3);
    let seen = Arc::new(Seen::default());
    let counts = Arc::clone(&seen);
    let operations = at_each_operation(move |operation, disk, clock, told| {
        for image in 0..images {
            check(cut(disk, operation << 32 | image), clock, told, &counts);
        }
    });
    assert_eq!(seen.images.load(Ordering::Relaxed), operations * images);
    println!("{operations} operations, {} images", operations * images);
}

#[test]
fn a_crash_during_recovery_loses_nothing() {
    let images = size("RECOVERY_IMAGES", 1);
    let seen = Arc::new(Seen::default());
    let counts = Arc::clone(&seen);
    // One crash in eleven is looked into: which ones they are differs by what they are in.
    at_each_operation(move |operation, disk, clock, told| {
        if operation % 11 != 0 {
            return;
        }
        for image in [disk.after_kill(), cut(disk, operation)] {
            let again = Arc::new(Mutex::new(Vec::new()));
            let crashes = Arc::clone(&again);
            image.observe(move |disk| {
                let mut crashes = crashes.lock().expect("no observer panics");
                let number = operation << 32 | crashes.len() as u64;
                crashes.push(disk.after_kill());
                crashes.extend((0..images).map(|image| cut(disk, splitmix(number) ^ image)));
            });
            drop(builder(&ManualClock::new(clock.now())).open_on(image));
            for crash in again.lock().expect("no observer panics").drain(..) {
                check(crash, clock, told, &counts);
            }
        }
    });
    let seen = seen.images.load(Ordering::Relaxed);
    assert!(500 < seen, "only {seen} images");
    println!("{seen} images");
}

#[test]
fn a_name_that_was_not_durable_is_made_so_by_the_next_open() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    // A kill right after the vault got its name, before the directory was synced.
    let named = Arc::new(Mutex::new(None));
    let first = Arc::clone(&named);
    disk.observe(move |disk| {
        if disk.bytes().contains_key("vault.redb") {
            first.lock().expect("no observer panics").get_or_insert(disk.after_kill_of_process());
        }
    });
    drop(builder(&clock).open_on(disk));
    let disk = named.lock().expect("no observer panics").take().expect("the vault got its name");
    let store = builder(&clock).open_on(disk.clone()).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::NONE).expect("begin answers");
    begin.fresh().complete("result").expect("it completes");
    let store = builder(&clock).open_on(disk.after_power_cut(|_| 0)).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::NONE).expect("begin answers");
    assert_eq!(begin.replay().result(), b"result");
}
