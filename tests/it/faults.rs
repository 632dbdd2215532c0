//! A disk that fails: errors are typed, only durable changes are acknowledged, and nothing is lost.

mod every;
mod opens;
mod panics;
mod syncs;

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use idemstore::{Begin, CompleteError, Error, Fingerprint};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, Started, key, write_from_many_threads};

fn fault(on: Op, kind: ErrorKind) -> Fault {
    Fault { on, after: 0, for_good: false, kind }
}

#[test]
fn a_start_that_was_not_synced_has_an_unknown_outcome() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    bench.disk.fail(fault(Op::Sync, ErrorKind::Other));
    assert!(matches!(permit.start(), Err(Error::OutcomeUnknown(_))));
    // Only a new open can tell. The frame was written, so here the open reports it as started.
    bench.kill().begin("k", "request").interrupted();
}

#[test]
fn a_completion_that_was_not_written_has_an_unknown_outcome() {
    for (on, kind) in [(Op::Write, ErrorKind::StorageFull), (Op::Sync, ErrorKind::Other)] {
        let bench = Bench::new();
        let execution = bench.begin("k", "request").started();
        bench.disk.fail(fault(on, kind));
        let error = execution.complete("result").expect_err("the disk has failed");
        assert!(matches!(error, CompleteError::Store(Error::OutcomeUnknown(_))), "{error}");
        let bench = bench.kill();
        match bench.begin("k", "request") {
            Begin::Replay(completed) => assert_eq!(completed.result(), b"result"),
            begin => drop(begin.interrupted()),
        }
    }
}

#[test]
fn a_failed_write_poisons_the_store_for_all_but_what_was_durable() {
    let bench = Bench::new();
    bench.complete("settled", "request", "result");
    bench.store.settle().expect("it settles");
    bench.complete("in the log", "request", "result");
    let execution = bench.begin("executing", "request").started();
    bench.disk.fail(fault(Op::Sync, ErrorKind::Other));
    let failed = bench.begin("failed", "request").fresh().start();
    assert!(matches!(failed, Err(Error::OutcomeUnknown(_))));

    bench.begin("settled", "request").replay();
    bench.begin("in the log", "request").replay();
    assert!(bench.begin("settled", "another").mismatches());
    let begin = |name| bench.store.begin(&key(name), Fingerprint::of("request"));
    for name in ["new", "failed", "executing"] {
        assert!(matches!(begin(name), Err(Error::Poisoned(_))), "{name}");
    }
    let completed = execution.complete("result");
    assert!(matches!(completed, Err(CompleteError::Store(Error::Poisoned(_)))));
    assert!(matches!(bench.store.settle(), Err(Error::Poisoned(_))));
    assert!(matches!(bench.store.sweep(), Err(Error::Poisoned(_))));
    assert!(matches!(bench.store.clone().close(), Err(Error::Poisoned(_))));

    // The disk is well again, and a new open decides.
    let bench = Bench::on(bench.disk, bench.clock);
    bench.begin("settled", "request").replay();
    bench.begin("in the log", "request").replay();
    bench.begin("executing", "request").interrupted();
}

#[test]
fn an_fsync_is_never_tried_again() {
    let bench = Bench::new();
    bench.disk.fail(fault(Op::Sync, ErrorKind::Other));
    drop(bench.begin("k", "request").fresh().start());
    let counts = bench.disk.counts();
    drop(bench.store.begin(&key("l"), Fingerprint::of("request")));
    drop(bench.store.settle());
    drop(bench.store.clone().close());
    assert_eq!(bench.disk.counts().log_syncs, counts.log_syncs);
}

#[test]
fn a_failed_settle_loses_nothing() {
    for on in [Op::Write, Op::Sync] {
        let bench = Bench::new();
        bench.complete("k", "request", "result");
        bench.disk.fail(fault(on, ErrorKind::StorageFull));
        assert!(matches!(bench.store.settle(), Err(Error::Poisoned(_))));
        // It is in the log, and in memory too.
        bench.begin("k", "request").replay();
        assert_eq!(bench.kill().begin("k", "request").replay().result(), b"result");
    }
}

#[test]
fn a_failed_settle_beside_many_writers_answers_each_of_them_and_the_close() {
    for round in 0..100 {
        let bench = Bench::new();
        write_from_many_threads(&bench, || {
            // The vault fails and not the log, so it isn't the leader that notices.
            thread::sleep(Duration::from_micros(50 * round));
            bench.disk.fail(Fault { for_good: true, ..fault(Op::VaultSync, ErrorKind::Other) });
            assert!(matches!(bench.store.settle(), Ok(()) | Err(Error::Poisoned(_))));
            bench.disk.fail(fault(Op::Sync, ErrorKind::Other));
        });
        drop(bench.store.clone().close());
    }
}

#[test]
fn no_caller_of_a_batch_is_answered_before_it_is_durable() {
    let mut all = 0;
    for after in 0..60 {
        let bench = Bench::new();
        let sync = Fault { after, for_good: true, ..fault(Op::Sync, ErrorKind::Other) };
        let acknowledged = write_from_many_threads(&bench, || bench.disk.fail(sync));
        // Unsynced changes don't survive this power cut.
        let disk = bench.disk.after_power_cut(|_| 0);
        let bench = Bench::on(disk, bench.clock);
        for name in &acknowledged {
            assert_eq!(bench.begin(name, "request").replay().result(), name.as_bytes());
        }
        all += acknowledged.len();
    }
    assert!(60 < all, "only {all} were acknowledged");
}

#[test]
fn a_call_that_finds_the_log_full_and_cannot_settle_it_was_not_written() {
    let bench = Bench::new();
    bench.disk.fail(Fault { on: Op::VaultSync, after: 0, for_good: true, kind: ErrorKind::Other });
    for step in 0.. {
        let name = format!("{step}");
        match bench.begin(&name, "request").fresh().complete([7; 10_000]) {
            Ok(_) => assert!(step < 100, "the log is never full"),
            Err(error) => {
                // Nothing of it has reached the log, so its outcome is known.
                assert!(matches!(error, CompleteError::Store(Error::Poisoned(_))), "{error}");
                bench.kill().begin(&name, "request").fresh();
                return;
            }
        }
    }
}

/// Prints what was tried, if it fails.
fn named<T>(what: String, try_it: impl FnOnce() -> T) -> T {
    struct Name(String);
    impl Drop for Name {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("it has failed with {}", self.0);
            }
        }
    }
    let _name = Name(what);
    try_it()
}
