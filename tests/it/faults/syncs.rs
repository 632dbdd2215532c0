//! Each sync of a run fails in turn, and leaves everything behind that a failed sync may.

use idemstore::sim::OpenOn;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::choice::by_seed;
use crate::support::disk::{FailedSync, Fault, Image, Manner, Op, Persisted};
use crate::support::script;
use crate::support::{Answers, Bench, SimDisk, builder, crew, size};

use super::every::{Failing, complete, operations};

/// The number of further acknowledged operations after which the power is cut.
const LATER: [u64; 4] = [1, 3, 10, 100];

/// The results.
#[derive(Default)]
struct Seen {
    cuts: AtomicU64,
    /// Runs in which the call whose sync failed had happened nevertheless, and in which it had not.
    happened: AtomicU64,
    not_happened: AtomicU64,
}

/// Works through the script until its sync number `after` fails, and reopens the store on the same
/// machine, without knowing what that sync has left.
fn fail_at(after: u64, failed: FailedSync, seen: &Seen) {
    let fault = Fault { on: Op::Sync, after, for_good: false, kind: ErrorKind::Other };
    let failing = Failing::new(fault, Manner::Nothing);
    failing.disk.failed_syncs(failed);
    let Failing { disk, clock, told } = &failing;
    drop(script::run(disk, clock, told));
    assert!(disk.has_failed(), "sync {after} is one of the run");
    let cut = |image: SimDisk| {
        seen.cuts.fetch_add(1, Ordering::Relaxed);
        failing.check(image)
    };
    for image in [disk.after_power_cut(|_| 0), disk.after_power_cut(by_seed(after))] {
        drop(cut(image));
    }
    for found in cut(disk.after_kill_of_process()).iter().filter(|found| found.call.is_some()) {
        let counter = if found.early { &seen.happened } else { &seen.not_happened };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    let store = builder(clock).open_on(disk.clone()).expect("the disk is well");
    told.lock().adopt(&store);
    for step in 1..=LATER[3] {
        complete(&store, told, &format!("later {step}")).expect("the disk is well");
        if step % 4 == 2 {
            store.settle().expect("it settles");
        }
        if LATER.contains(&step) {
            let cut_by = by_seed(after << 8 | step);
            drop(cut(disk.after_power_cut(|_| 0)));
            drop(cut(disk.after_power_cut_as(Image::ANY_NAME, cut_by)));
        }
    }
}

#[test]
fn no_sync_that_fails_costs_what_was_acknowledged_before_or_after_it() {
    let all = operations().operations(Op::Sync);
    assert!(100 < all, "only {all} syncs");
    let step = size("FAULT_STEP", 23);
    let left = |seed| {
        [Persisted::Nothing, Persisted::Some(seed), Persisted::All]
            .into_iter()
            .flat_map(|persisted| FailedSync::CACHES.map(|cache| FailedSync { persisted, cache }))
    };
    let cases = (0..).zip(left(0)).flat_map(|(first, failed)| {
        (first * 5 % step..all).step_by(step as usize).map(move |after| match failed.persisted {
            Persisted::Some(_) => {
                (after, FailedSync { persisted: Persisted::Some(after), ..failed })
            }
            _ => (after, failed),
        })
    });
    let (seen, runs) = (Seen::default(), AtomicU64::new(0));
    crew::each(cases, |(after, failed)| {
        runs.fetch_add(1, Ordering::Relaxed);
        super::named(format!("sync {after}, {failed:?}"), || fail_at(after, failed, &seen));
    });
    let (runs, Seen { cuts, happened, not_happened }) = (runs.into_inner(), seen);
    let (happened, not_happened) = (happened.into_inner(), not_happened.into_inner());
    println!(
        "{runs} runs, in each of which one of {all} syncs fails; {} power cuts; calls that \
         happened {happened}, that did not {not_happened}",
        cuts.into_inner(),
    );
    assert!(all * 12 / step <= runs, "only {runs} runs");
    assert!(0 < happened && 0 < not_happened, "{happened} happened, {not_happened} did not");
}

/// Bytes of a frame that had not reached the disk when they were read.
fn show_up(disk: &SimDisk, read: &[u8], late: &[u8]) {
    disk.damage("log-0", |bytes| {
        let late = late.iter().zip(read).enumerate().filter(|(_, (late, read))| late != read);
        for (at, (late, read)) in late {
            assert_eq!(bytes[at], *read, "nothing new was written there");
            bytes[at] = *late;
        }
    });
}

#[test]
fn a_frame_that_shows_up_after_the_next_open_counts_for_nothing() {
    let log = |disk: &SimDisk| disk.bytes().remove("log-0").expect("it is there");
    for is_used in [false, true] {
        let bench = Bench::new();
        for step in 0..5 {
            bench.complete(&format!("before {step}"), "request", "result");
        }
        let permit = bench.begin("k", "request").fresh();
        let (on, kind) = (Op::LogSync, ErrorKind::Other);
        bench.disk.fail(Fault { on, after: 0, for_good: false, kind });
        drop(permit.start());
        let late = log(&bench.disk);
        let bench = bench.cut(|_| 0);
        let read = log(&bench.disk);
        if is_used {
            bench.complete("k", "request", "result");
        }
        let disk = bench.disk.after_kill();
        show_up(&disk, &read, &late);
        let begin = Bench::on(disk, bench.clock).begin("k", "request");
        if is_used {
            assert_eq!(begin.replay().result(), b"result");
        } else {
            begin.fresh().release();
        }
    }
}
