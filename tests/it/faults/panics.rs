//! A disk that panics: no thread waits forever, and everything acknowledged is there.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Error, Fingerprint};

use crate::support::disk::{Fault, Manner, Op, SIMULATED};
use crate::support::script;
use crate::support::{Answers, Bench, crew, key, size};

use super::every::{Failing, operations, use_it_all_the_same};

/// How a run ends in which an operation of the disk panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    /// The operation did not affect the run.
    Done,
    Error,
    Panic,
}

/// Works through the script until an operation of this kind panics, after this many have succeeded.
fn panic_at(on: Op, after: u64, manner: Manner) -> Said {
    let fault = Fault { on, after, for_good: false, kind: ErrorKind::Other };
    let failing = Failing::new(fault, manner);
    let Failing { disk, clock, told } = &failing;
    let run = catch_unwind(AssertUnwindSafe(|| {
        script::run_and_show(disk, clock, told, |store| use_it_all_the_same(store, told))
    }));
    assert!(disk.has_failed(), "operation {after} is one of the run");
    failing.go_on_and_cut(after);
    match run {
        Ok(Ok(())) => Said::Done,
        Ok(Err(_)) => Said::Error,
        Err(panic) => {
            assert_eq!(panic.downcast_ref(), Some(&SIMULATED), "another panic");
            Said::Panic
        }
    }
}

#[test]
fn no_operation_that_panics_costs_what_was_acknowledged() {
    let all = operations().operations(Op::NoVault);
    let cases = [Manner::Panic, Manner::PanicLate];
    let cases = cases.into_iter().flat_map(|manner| (0..all).map(move |after| (after, manner)));
    let runs = AtomicU64::new(0);
    crew::each(cases, |(after, manner)| {
        super::named(format!("{after} {manner:?}"), || {
            let said = panic_at(Op::NoVault, after, manner);
            assert_eq!(said, Said::Panic, "the panic is taken for something else");
        });
        runs.fetch_add(1, Ordering::Relaxed);
    });
    let runs = runs.into_inner();
    println!("{runs} runs, in each of which one of {all} operations panics");
    assert!(200 < runs, "only {runs} runs");
}

/// redb holds its own locks while it reads and writes its file. If one of them were poisoned, redb
/// would panic again when it is dropped, and that would abort the process.
#[test]
fn a_panic_under_redb_is_an_error() {
    let all = operations().operations(Op::Vault);
    let step = size("PANIC_STEP", 11);
    let cases = [Manner::Panic, Manner::PanicLate].into_iter().zip([0, step / 2]);
    let cases = cases.flat_map(|(manner, first)| {
        (first..all).step_by(step as usize).map(move |after| (after, manner))
    });
    let tally = Mutex::new(BTreeMap::<_, u64>::new());
    crew::each(cases, |(after, manner)| {
        let said = super::named(format!("{after} {manner:?} of the vault"), || {
            panic_at(Op::Vault, after, manner)
        });
        *tally.lock().expect("no thread panics").entry(said).or_default() += 1;
    });
    let tally = tally.into_inner().expect("no thread panics");
    println!("of {all} operations of the vault: {tally:?}");
    // What the store itself does with the file, to name it or to copy it, propagates the panic.
    let count = |said| tally.get(&said).copied().unwrap_or_default();
    let errors = count(Said::Error);
    assert!(20 < errors && count(Said::Panic) < errors / 4, "{tally:?}");
}

/// What the callers get from a store whose disk panics under a leader.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<String>>,
    unknown: AtomicU64,
    poisoned: AtomicU64,
    panicked: AtomicU64,
}

impl Told {
    /// Completes keys until a call is refused.
    fn write(&self, bench: &Bench, writer: usize) {
        for step in 0.. {
            let name = format!("{writer} {step}");
            let completed = catch_unwind(AssertUnwindSafe(|| {
                match bench.store.begin(&key(&name), Fingerprint::of("request"))? {
                    Begin::Fresh(permit) => permit.complete(&name).map_err(|error| match error {
                        idemstore::CompleteError::Store(error) => error,
                        other => panic!("{other}"),
                    }),
                    other => panic!("{other:?}"),
                }
            }));
            let counter = match completed {
                Ok(Ok(_)) => {
                    self.acknowledged.lock().expect("no thread panics").push(name);
                    continue;
                }
                Ok(Err(Error::OutcomeUnknown(_))) => &self.unknown,
                Ok(Err(Error::Poisoned(_))) => &self.poisoned,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => &self.panicked,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

#[test]
fn every_caller_of_a_batch_whose_leader_panics_is_answered() {
    let (mut unknown, mut acknowledged) = (0, 0);
    for after in 0..40 {
        let (bench, told) = (Bench::new(), Told::default());
        let on = if after % 2 == 0 { Op::LogSync } else { Op::LogWrite };
        let manner = if after % 3 == 0 { Manner::PanicLate } else { Manner::Panic };
        bench.disk.fail_as(Fault { on, after, for_good: true, kind: ErrorKind::Other }, manner);
        // So that a batch fills up while the previous one is written.
        bench.disk.observe(|_| thread::sleep(Duration::from_micros(100)));
        thread::scope(|scope| {
            for writer in 0..8 {
                let (bench, told) = (&bench, &told);
                scope.spawn(move || told.write(bench, writer));
            }
        });
        bench.disk.heal();
        bench.disk.ignore();
        let disk = bench.disk.after_power_cut(|_| 0);
        let cut = Bench::on(disk, bench.clock.clone());
        let written = told.acknowledged.into_inner().expect("no thread panics");
        for name in &written {
            assert_eq!(cut.begin(name, "request").replay().result(), name.as_bytes());
        }
        let answered = [&told.unknown, &told.poisoned, &told.panicked];
        let answered: u64 = answered.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(answered, 8, "each thread was told at last");
        unknown += told.unknown.into_inner();
        acknowledged += written.len();
    }
    assert!(0 < unknown && 40 < acknowledged, "{unknown} unknown, {acknowledged} acknowledged");
}

#[test]
fn a_key_whose_leader_has_panicked_is_not_given_out_again() {
    let fault = Fault { on: Op::LogSync, after: 0, for_good: false, kind: ErrorKind::Other };
    for manner in [Manner::Panic, Manner::PanicLate] {
        let bench = Bench::new();
        let permit = bench.begin("k", "request").fresh();
        bench.disk.fail_as(fault, manner);
        assert!(catch_unwind(AssertUnwindSafe(|| permit.start())).is_err());
        // Its frame may be durable, so it may have started.
        let begin = bench.store.begin(&key("k"), Fingerprint::of("request"));
        assert!(matches!(begin, Err(Error::Poisoned(_))), "{begin:?}");
        assert!(matches!(bench.store.settle(), Err(Error::Poisoned(_))));
        bench.kill().begin("k", "request").interrupted();
    }
}
