//! A kill or a power cut after every single write: nothing that was acknowledged is lost, and
//! nothing runs a second time unannounced.

use std::collections::BTreeMap;

use idemstore::{Begin, Fingerprint, ManualClock, Store, Timestamp};

use crate::support::disk::{Fault, Op};
use crate::support::model::splitmix;
use crate::support::{START_MS, SimDisk, builder, key, size};

/// How far a key came, as the caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Asked,
    Started,
    /// Asked to complete or abandon, with no answer yet.
    Finishing,
    Completed,
    Abandoned,
}

type Progress = BTreeMap<String, Reached>;

/// Starts, completes, abandons and settles until the disk fails; notes what was acknowledged.
fn work(store: &Store, progress: &mut Progress) -> Result<(), Box<dyn std::error::Error>> {
    for step in 0..12 {
        let name = format!("key {step}");
        let Begin::Fresh(permit) = store.begin(&key(&name), Fingerprint::of(&name))? else {
            return Err("it is not fresh".into());
        };
        progress.insert(name.clone(), Reached::Asked);
        let execution = permit.start()?;
        progress.insert(name.clone(), Reached::Started);
        if step % 4 == 3 {
            std::mem::forget(execution);
            continue;
        }
        progress.insert(name.clone(), Reached::Finishing);
        if step % 4 == 2 {
            execution.abandon()?;
            progress.insert(name, Reached::Abandoned);
        } else {
            let result = name.repeat(step * 20);
            execution.complete(result).map_err(MapToString::map_to_string)?;
            progress.insert(name, Reached::Completed);
        }
        if step % 5 == 4 {
            store.settle()?;
        }
    }
    Ok(())
}

trait MapToString {
    fn map_to_string(self) -> String;
}

impl<H> MapToString for idemstore::CompleteError<H> {
    fn map_to_string(self) -> String {
        self.to_string()
    }
}

/// What each key must be after the crash.
fn check(disk: SimDisk, clock: &ManualClock, progress: &Progress) {
    let store = builder(clock).open_on(disk).expect("the store opens after every crash");
    for (name, reached) in progress {
        let begin = store.begin(&key(name), Fingerprint::of(name)).expect("begin answers");
        let step: usize = name.trim_start_matches("key ").parse().expect("it is a number");
        let allowed = match (&begin, reached) {
            // A start that was not acknowledged may have become durable all the same.
            (Begin::Fresh(_), Reached::Asked | Reached::Finishing | Reached::Abandoned)
            | (Begin::Interrupted(_), Reached::Asked | Reached::Started | Reached::Finishing) => {
                *reached != Reached::Finishing
                    || matches!(begin, Begin::Interrupted(_))
                    || step % 4 == 2
            }
            (Begin::Replay(completed), Reached::Finishing | Reached::Completed) => {
                completed.result() == name.repeat(step * 20).as_bytes()
            }
            _ => false,
        };
        assert!(allowed, "{name} had reached {reached:?}, and is {begin:?}");
    }
}

/// Runs the work until the disk fails for good at its operation number `after`. Returns whether
/// it failed at all.
fn crash_at(after: u64, images: impl Fn(&SimDisk) -> Vec<SimDisk>) -> bool {
    let disk = SimDisk::new();
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let mut progress = Progress::new();
    disk.fail(Fault { on: Op::Any, after, for_good: true, kind: std::io::ErrorKind::Other });
    let worked = match builder(&clock).open_on(disk.clone()) {
        Ok(store) => work(&store, &mut progress).is_ok() && store.close().is_ok(),
        Err(_) => false,
    };
    for image in images(&disk) {
        check(image, &clock, &progress);
    }
    !worked
}

#[test]
fn a_kill_after_every_write_loses_nothing() {
    let mut cuts = 0;
    while crash_at(cuts, |disk| vec![disk.after_kill()]) {
        cuts += 1;
    }
    assert!(50 < cuts, "only {cuts} writes");
}

#[test]
fn a_power_cut_after_every_write_loses_nothing() {
    let mut cuts = 0;
    let images = |disk: &SimDisk| {
        (0..size("CRASH_IMAGES", 6))
            .map(|image| {
                let mut seed = splitmix(image);
                disk.after_power_cut(|below| {
                    seed = splitmix(seed);
                    seed % below
                })
            })
            .collect()
    };
    while crash_at(cuts, images) {
        cuts += 1;
    }
    assert!(50 < cuts, "only {cuts} writes");
}

#[test]
fn a_power_cut_during_recovery_loses_nothing() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let disk = SimDisk::new();
    let mut progress = Progress::new();
    let store = builder(&clock).open_on(disk.clone()).expect("the store opens");
    work(&store, &mut progress).expect("the disk is well");
    let crashed = disk.after_kill();
    std::mem::forget(store);
    for after in 0.. {
        let again = crashed.after_kill();
        again.fail(Fault { on: Op::Any, after, for_good: true, kind: std::io::ErrorKind::Other });
        let opened = builder(&clock).open_on(again.clone());
        for image in 0..size("CRASH_IMAGES", 6) {
            let mut seed = splitmix(after << 32 | image);
            let cut = again.after_power_cut(|below| {
                seed = splitmix(seed);
                seed % below
            });
            check(cut, &clock, &progress);
        }
        if let Ok(store) = opened {
            assert!(5 < after, "only {after} writes");
            drop(store);
            break;
        }
    }
}
