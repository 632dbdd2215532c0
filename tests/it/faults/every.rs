//! Each operation of a run fails in turn, in every way.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{Clock, ManualClock, Store, Timestamp};

use crate::support::choice::by_seed;
use crate::support::crashes::{Findings, Moment, try_check_rows};
use crate::support::disk::{Fault, Image, Manner, Op};
use crate::support::oracle::{Found, Truth, try_check_whole};
use crate::support::script::{self, Told};
use crate::support::{Answers, START_MS, SimDisk, builder, crew, key, size};

/// The error with which an operation fails, and how much of it was done.
const WAYS: [(ErrorKind, Manner); 6] = [
    (ErrorKind::Other, Manner::Nothing),
    (ErrorKind::Other, Manner::All),
    (ErrorKind::StorageFull, Manner::Part),
    (ErrorKind::QuotaExceeded, Manner::Nothing),
    (ErrorKind::FileTooLarge, Manner::Part),
    (ErrorKind::ReadOnlyFilesystem, Manner::Nothing),
];

/// A run whose disk fails, and what its callers were told.
pub(super) struct Failing {
    pub(super) disk: SimDisk,
    pub(super) clock: ManualClock,
    pub(super) told: Told,
}

impl Failing {
    pub(super) fn new(fault: Fault, manner: Manner) -> Self {
        let disk = SimDisk::new();
        disk.fail_as(fault, manner);
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        Self { disk, clock, told: Told::default() }
    }

    /// What this disk has must be a store, with each of its keys in an allowed state.
    pub(super) fn check(&self, disk: SimDisk) -> Vec<Found> {
        let clock = ManualClock::new(self.clock.now());
        let store = builder(&clock).open_on(disk).expect("the store opens");
        let found = self.told.lock().check(&store);
        try_check_whole(&store, &found).expect("one thread has made all calls");
        try_check_rows(&store, &found).expect("results and rows agree");
        found
    }

    /// Keeps the disk's state now and then, once one of its operations has failed.
    fn watch(&self) -> Arc<Mutex<Vec<Moment>>> {
        let moments = Arc::<Mutex<Vec<_>>>::default();
        let (kept, clock, told) = (Arc::clone(&moments), self.clock.clone(), self.told.clone());
        let mut operation = 0;
        self.disk.observe(move |disk| {
            if disk.has_failed() {
                operation += 1;
            }
            if operation % 8 == 7 {
                let (disk, truth) = (disk.after_kill_of_process(), told.lock().clone());
                let moment = Moment::new(operation, disk, clock.now(), truth);
                kept.lock().expect("no observer panics").push(moment);
            }
        });
        moments
    }

    /// The disk is well again, and the same machine opens the store and continues: it reads what
    /// was written, whether or not that is on the disk. Then the power is cut.
    pub(super) fn go_on_and_cut(&self, seed: u64) {
        self.disk.heal();
        drop(self.check(self.disk.after_power_cut_as(Image::ANY_NAME, by_seed(seed))));
        let store = builder(&self.clock).open_on(self.disk.clone()).expect("the disk is well");
        self.told.lock().adopt(&store);
        for step in 0..2 {
            complete(&store, &self.told, &format!("later {step}")).expect("the disk is well");
            store.settle().expect("it settles");
        }
        drop(self.check(self.disk.after_power_cut(|_| 0)));
    }
}

pub(super) fn complete(store: &Store, told: &Told, name: &str) -> Result<(), String> {
    let begin = store.begin(&key(name), idemstore::Fingerprint::of(name));
    let permit = begin.map_err(|error| error.to_string())?.fresh();
    let completed = Truth::Completed(b"result".to_vec());
    let said = told.call(name, completed, || permit.complete("result").map_err(|e| e.to_string()));
    said.map(drop).map_err(|unsaid| unsaid.0)
}

/// A store on which something has failed may accept or refuse calls. Its answers are true, and what
/// it reports as done is durable.
pub(super) fn use_it_all_the_same(store: &Store, told: &Told) {
    told.lock().check_what_it_says(store);
    // Both segments of the log are written anew.
    for step in 0..3 {
        drop(complete(store, told, &format!("completed afterwards {step}")));
        drop(store.settle());
    }
    complete_with_a_row(store, told);
    let copy = SimDisk::new();
    if store.backup_on(copy.clone()).is_ok() {
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        let copy = builder(&clock).open_on(copy.after_power_cut(|_| 0)).expect("it is whole");
        told.lock().check_what_it_says(&copy);
    }
    drop(store.sweep());
    drop(store.compact());
    drop(complete(store, told, "completed after it was made smaller"));
    told.lock().check_what_it_says(store);
    drop(store.clone().close());
}

#[cfg(feature = "transaction")]
fn complete_with_a_row(store: &Store, told: &Told) {
    let name = "own afterwards";
    let begin = store.begin(&key(name), idemstore::Fingerprint::of(name));
    let Ok(idemstore::Begin::Fresh(permit)) = begin else { return };
    let completed = Truth::Completed(b"with a row".to_vec());
    drop(told.call(name, completed, || {
        let said = permit.complete_with(|transaction| {
            transaction.open_table(script::ROWS)?.insert(name, 1)?;
            Ok::<_, redb::Error>("with a row")
        });
        said.map_err(|error| error.to_string())
    }));
}

#[cfg(not(feature = "transaction"))]
fn complete_with_a_row(_: &Store, _: &Told) {}

/// Works through the script until its operation number `after` fails. Returns whether that stopped
/// it.
fn fail_at(
    after: u64,
    for_good: bool,
    (kind, manner): (ErrorKind, Manner),
    findings: &Findings,
) -> bool {
    let failing = Failing::new(Fault { on: Op::Every, after, for_good, kind }, manner);
    // A failed sync is never made good by a later one: what it covered is on the disk, or isn't.
    failing.disk.lose_what_a_failed_sync_had(after);
    let Failing { disk, clock, told } = &failing;
    let moments = failing.watch();
    let run = script::run_and_show(disk, clock, told, |store| use_it_all_the_same(store, told));
    assert!(disk.has_failed(), "operation {after} is one of the run");
    disk.ignore();
    for moment in moments.lock().expect("no observer panics").drain(..) {
        let what = format!("since operation {after} has failed with {kind} {manner:?}, power cut");
        findings.check(&moment, &moment.disk.after_power_cut(|_| 0), what);
    }
    failing.go_on_and_cut(after);
    run.is_err()
}

/// How many operations of each kind the script performs on its disk.
pub(super) fn operations() -> SimDisk {
    let disk = SimDisk::new();
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    script::run(&disk, &clock, &Told::default()).expect("the disk is well");
    disk
}

#[test]
fn no_operation_that_fails_costs_what_was_acknowledged() {
    let disk = operations();
    for op in Op::SINGLE {
        assert!(0 < disk.operations(op), "the script has no {op:?}");
    }
    let all = disk.operations(Op::Every);
    let step = size("FAULT_STEP", 37);
    // Each way begins at a different operation, so that together they cover more of them.
    let ways = WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]);
    let cases = (0..).zip(ways).flat_map(|(first, (way, for_good))| {
        (first * 3 % step..all).step_by(step as usize).map(move |after| (after, for_good, way))
    });
    let (runs, stopped) = (AtomicU64::new(0), AtomicU64::new(0));
    let findings = Findings::default();
    crew::each(cases, |(after, for_good, way)| {
        runs.fetch_add(1, Ordering::Relaxed);
        let has_stopped = super::named(format!("{after} {for_good} {way:?}"), || {
            fail_at(after, for_good, way, &findings)
        });
        stopped.fetch_add(has_stopped.into(), Ordering::Relaxed);
    });
    let (runs, stopped) = (runs.into_inner(), stopped.into_inner());
    findings.report("on the way");
    println!("{runs} runs, in each of which one of {all} operations fails; {stopped} were stopped");
    assert!(all * 12 / step <= runs, "only {runs} runs");
    // Some operations may fail without harm; they are so few that a sample may contain none.
    assert!((stopped < runs || 1 < step) && runs / 2 < stopped, "{stopped} were stopped");
}
