//! Crashes during the recovery from a crash, failures during it, and crashes during the recovery
//! from those.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use idemstore::ManualClock;
use idemstore::sim::OpenOn;

use crate::support::choice::by_seed;
use crate::support::crashes::{Findings, Moment, at_each_operation};
use crate::support::disk::{FailedSync, Fault, Image, Manner, Op, Persisted};
use crate::support::model::splitmix;
use crate::support::{SimDisk, builder, size};

/// How many recoveries are cut off, one inside the other.
const DEPTH_MAX: u32 = 3;

/// Recoveries that were cut off, and what was found afterwards.
#[derive(Default)]
struct Recoveries {
    findings: Findings,
    /// By depth.
    cut: [AtomicU64; DEPTH_MAX as usize],
    /// Opens in which an operation failed: those that returned an error, and those that continued.
    refused: AtomicU64,
    opened: AtomicU64,
}

#[test]
fn a_crash_or_a_failure_during_recovery_loses_nothing() {
    let images = size("RECOVERY_IMAGES", 1);
    // The more images of each, the more crashes are examined. Which ones differs with their
    // context.
    let step = 23_u64.div_ceil(images);
    let recoveries = Recoveries::default();
    at_each_operation(SimDisk::new(), |moment| {
        if moment.operation % step == 0 {
            let seed = splitmix(moment.operation ^ size("CRASH_SEED", 0) << 32);
            for crash in [moment.disk.after_kill_of_process(), cut(&moment.disk, seed)] {
                recoveries.cut_off(&moment, &crash, seed, 0, images);
            }
        }
    });
    recoveries.findings.report("recoveries");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let cut = recoveries.cut.each_ref().map(count);
    let (refused, opened) = (count(&recoveries.refused), count(&recoveries.opened));
    println!("{cut:?} recoveries cut off, by depth; {refused} opens refused, {opened} opened");
    assert!(cut.iter().all(|cut| 20 < *cut) && 20 < refused, "hardly any");
    assert_eq!(opened, 0, "an operation of an open has failed, and nobody was told");
    let seen = count(&recoveries.findings.images);
    assert!(500 < seen, "only {seen} images");
}

fn cut(disk: &SimDisk, seed: u64) -> SimDisk {
    disk.after_power_cut_as(Image::ANY_NAME, by_seed(seed))
}

/// Opens a store on this disk, and returns the disk's state after each operation of the open.
fn steps(disk: &SimDisk, moment: &Moment) -> Vec<SimDisk> {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    disk.observe(move |disk| {
        seen.lock().expect("no observer panics").push(disk.after_kill_of_process());
    });
    let opened = builder(&ManualClock::new(moment.now)).open_on(disk.clone());
    disk.ignore();
    drop(opened);
    std::mem::take(&mut *steps.lock().expect("no observer panics"))
}

impl Recoveries {
    /// Cuts off the recovery from this crash after each of its operations, or recursively after one
    /// of them.
    fn cut_off(&self, moment: &Moment, crash: &SimDisk, seed: u64, depth: u32, images: u64) {
        self.cut[depth as usize].fetch_add(1, Ordering::Relaxed);
        let steps = steps(&crash.after_kill_of_process(), moment);
        let mut choose = by_seed(seed);
        let deeper = choose(steps.len() as u64);
        for (number, step) in (0..).zip(&steps) {
            if 0 < depth && number != deeper {
                continue;
            }
            let what = format!("recovery {depth} of {seed} after its operation {number}");
            self.findings.check(moment, &step.after_kill(), format!("{what}, kill"));
            for _ in 0..images {
                let seed = choose(u64::MAX);
                self.findings.check(moment, &cut(step, seed), format!("{what}, cut {seed}"));
            }
            if number == deeper && depth + 1 < DEPTH_MAX {
                let crash =
                    if choose(2) == 0 { step.after_kill_of_process() } else { cut(step, seed) };
                self.cut_off(moment, &crash, choose(u64::MAX), depth + 1, images);
            }
        }
        for _ in 0..images {
            self.let_fail(moment, crash, choose(u64::MAX), depth, images);
        }
    }

    /// Lets one operation of the recovery fail. Then the same machine continues, or its power is
    /// cut.
    fn let_fail(&self, moment: &Moment, crash: &SimDisk, seed: u64, depth: u32, images: u64) {
        let (disk, mut choose) = (crash.after_kill_of_process(), by_seed(seed));
        let kinds = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem];
        let manners = [Manner::Nothing, Manner::Part, Manner::All];
        let (after, for_good, kind) = (choose(60), choose(2) == 0, kinds[choose(3) as usize]);
        let fault = Fault { on: Op::Every, after, for_good, kind };
        let cache = FailedSync::CACHES[choose(4) as usize];
        disk.failed_syncs(FailedSync { persisted: Persisted::Some(seed), cache });
        disk.fail_as(fault, manners[choose(3) as usize]);
        let opened = builder(&ManualClock::new(moment.now)).open_on(disk.clone());
        if disk.has_failed() {
            let counter = if opened.is_ok() { &self.opened } else { &self.refused };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        drop(opened);
        disk.heal();
        let what = format!("recovery {depth} of {seed} in which {fault:?} has failed");
        self.findings.check(
            moment,
            &disk.after_kill_of_process(),
            format!("{what}, on the same machine"),
        );
        self.findings.check(moment, &cut(&disk, seed), format!("{what}, cut"));
        drop(steps(&disk, moment));
        self.findings.check(
            moment,
            &disk.after_power_cut(|_| 0),
            format!("{what}, opened and cut"),
        );
        if depth + 1 < DEPTH_MAX {
            self.cut_off(moment, &disk, seed, depth + 1, images);
        }
    }
}
