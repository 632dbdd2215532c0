//! A kill or a power cut after every single operation of the disk: nothing acknowledged is lost,
//! and nothing runs a second time unannounced.

mod controls;
mod drawn;
mod growth;
mod recovery;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use idemstore::sim::OpenOn;
use idemstore::{Fingerprint, ManualClock, Timestamp};

use crate::support::crashes::{Findings, at_each_operation};
use crate::support::disk::Image;
use crate::support::{Answers, START_MS, SimDisk, builder, key, size};

#[test]
fn a_kill_after_every_operation_loses_nothing() {
    let findings = Findings::default();
    let operations = at_each_operation(SimDisk::new(), |moment| {
        findings.check(&moment, &moment.disk.after_kill(), "kill");
    });
    findings.report("kills");
    assert!(300 < operations, "only {operations} operations");
    // A kill leaves what was written but not yet acknowledged.
    let [_, late, early] = findings.calls();
    assert!(0 < late && 40 < early, "{late} calls were not true yet, {early} were");
}

/// This many power cuts after every operation of the script.
fn cut_power(image: Image, images: u64) -> Findings {
    let findings = Findings::default();
    let seed = size("CRASH_SEED", 0);
    let operations = at_each_operation(SimDisk::new(), |moment| {
        findings.check_power_cuts(&moment, image, images, seed);
    });
    findings.report(&format!("{operations} operations, {image:?}"));
    let [calls, late, early] = findings.calls();
    assert!(40 < calls, "only {calls} calls were cut");
    assert_eq!((late, early), (calls, calls), "each call is found made and not made");
    findings
}

#[test]
fn a_power_cut_after_every_operation_loses_nothing() {
    let findings = cut_power(Image::default(), size("CRASH_IMAGES", 3));
    assert!(0 < findings.whole.load(Ordering::Relaxed));
}

#[test]
fn a_power_cut_that_keeps_any_of_the_names_loses_nothing() {
    cut_power(Image::ANY_NAME, size("CRASH_IMAGES", 6).div_ceil(3));
}

#[test]
fn a_power_cut_that_leaves_garbage_where_it_wrote_loses_nothing() {
    cut_power(Image::BEYOND, size("CRASH_IMAGES", 6).div_ceil(3));
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
