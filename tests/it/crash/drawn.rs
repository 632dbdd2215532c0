//! Crashes after every operation of random scripts: the images of one script are soon all known,
//! and the next script has different ones.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use idemstore::{ManualClock, Timestamp};

use crate::support::crashes::{Findings, Known, at_each_operation_of};
use crate::support::disk::Image;
use crate::support::script::Told;
use crate::support::script::drawn::{self, Tally};
use crate::support::{START_MS, SimDisk, size};

/// Kills and power cuts of each kind, after every operation of one script.
fn crash(script: u64, images: u64, known: &Arc<Known>) -> Findings {
    let findings = Findings::beside(known);
    let seed = size("CRASH_SEED", 0);
    at_each_operation_of(script, SimDisk::new(), |moment| {
        findings.check(&moment, &moment.disk.after_kill(), format!("CRASH_SCRIPT={script}, kill"));
        let kinds = [Image::default(), Image::ANY_NAME, Image::BEYOND];
        let kind = kinds[((script + moment.operation) % 3) as usize];
        findings.check_power_cuts(&moment, kind, images, seed);
    });
    findings.report(&format!("CRASH_SCRIPT={script}"));
    findings
}

/// Scripts from the seed `CRASH_SCRIPT` on, `CRASH_SCRIPTS` of them, and more until as many
/// different images were checked as `CRASH_DISTINCT` says.
#[test]
fn a_crash_after_every_operation_of_scripts_that_are_drawn_loses_nothing() {
    let (first, scripts) = (size("CRASH_SCRIPT", 1).max(1), size("CRASH_SCRIPTS", 1));
    let (images, distinct) = (size("CRASH_IMAGES", 3), size("CRASH_DISTINCT", 0));
    let known = Arc::<Known>::new(Mutex::default());
    let seen = || known.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    let (begun, mut done, mut early, mut late) = (Instant::now(), 0, 0, 0);
    while done < scripts || seen() < distinct {
        let findings = crash(first + done, images, &known);
        early += findings.early.load(Ordering::Relaxed);
        let [calls, not_yet, _] = findings.calls();
        assert!(0 < calls, "no call of script {} was cut", first + done);
        late += not_yet;
        done += 1;
    }
    let (seen, took) = (seen(), begun.elapsed().as_secs_f64());
    println!("{done} scripts, {seen} different images in {took:.0} s, {early} of them early");
    assert!(300 * done < seen, "only {seen} images");
    assert!(0 < early && 0 < late, "{early} images were early, {late} calls were not true yet");
}

/// What a script has done, and what its callers had been told at the end.
fn drawn(seed: u64) -> (Tally, String) {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let told = Told::default();
    let tally = drawn::run(seed, &SimDisk::new(), &clock, &told).expect("the disk is well");
    let told = format!("{:?}", told.lock());
    (tally, told)
}

#[test]
fn scripts_that_are_drawn_reach_everything_and_can_be_repeated() {
    let (mut sum, mut seen) = (Tally::new(), BTreeSet::new());
    let seeds = size("DRAWN_SCRIPTS", 40);
    for seed in 1..=seeds {
        let (tally, told) = drawn(seed);
        for (what, count) in tally {
            *sum.entry(what).or_default() += count;
        }
        seen.insert(told);
    }
    assert_eq!(drawn(1).1, drawn(1).1);
    assert_eq!(seen.len() as u64, seeds, "two seeds have drawn the same");
    let kinds = if cfg!(feature = "transaction") { 23 } else { 19 };
    assert_eq!(sum.len(), kinds, "{sum:?}");
    assert!(sum.values().all(|count| 2 < *count), "{sum:?}");
}
