//! Each operation of an open fails in turn, and each read of a `begin`.

use std::io::ErrorKind;

use idemstore::sim::OpenOn;
use idemstore::{Begin, Error, Fingerprint, OpenError};

use crate::support::disk::{Fault, Manner, Op};
use crate::support::{Answers, Bench, SimDisk, builder, key, more_than_a_page};

const KINDS: [ErrorKind; 4] = [
    ErrorKind::Other,
    ErrorKind::StorageFull,
    ErrorKind::ReadOnlyFilesystem,
    ErrorKind::PermissionDenied,
];

/// A store with records in the vault and in the log, as a kill left it.
fn killed() -> Bench {
    let bench = Bench::new();
    bench.complete("settled", "request", "result");
    bench.store.settle().expect("it settles");
    bench.complete("in the log", "request", "result");
    bench
}

/// Opens it while one operation fails. Returns the error, if there is one.
fn open(disk: &SimDisk, bench: &Bench, fault: Fault, manner: Manner) -> Option<OpenError> {
    disk.fail_as(fault, manner);
    let opened = builder(&bench.clock).open_on(disk.clone());
    assert_eq!(opened.is_ok(), !disk.has_failed(), "{fault:?} {manner:?}");
    disk.heal();
    opened.err()
}

fn says_what_failed(error: &OpenError) -> bool {
    use OpenError::{DiskFull, Io, NotWritable, Storage};
    matches!(error, DiskFull { .. } | Io { .. } | NotWritable { .. } | Storage { .. })
}

#[test]
fn every_failed_operation_of_an_open_is_reported_and_costs_nothing() {
    let bench = killed();
    let mut failed = 0;
    for (kind, manner) in KINDS
        .into_iter()
        .flat_map(|kind| [Manner::Nothing, Manner::Part, Manner::All].map(|manner| (kind, manner)))
    {
        for after in 0.. {
            let disk = bench.disk.after_kill();
            let fault = Fault { on: Op::Every, after, for_good: after % 2 == 0, kind };
            let Some(error) = open(&disk, &bench, fault, manner) else { break };
            // The failure is never taken for damage, nor for a directory without a store.
            assert!(says_what_failed(&error), "{error:?} at {fault:?}");
            failed += 1;
            for disk in [disk.after_power_cut(|_| 0), disk] {
                let bench = Bench::on(disk, bench.clock.clone());
                bench.begin("settled", "request").replay();
                bench.begin("in the log", "request").replay();
            }
        }
    }
    println!("{failed} operations of opens have failed");
    assert!(12 * 20 < failed, "only {failed}");
}

#[test]
fn every_failed_operation_of_a_creation_is_reported_and_the_next_one_succeeds() {
    let bench = Bench::new();
    let mut failed = 0;
    for manner in [Manner::Nothing, Manner::Part, Manner::All] {
        for after in 0.. {
            let disk = SimDisk::new();
            let fault =
                Fault { on: Op::Every, after, for_good: false, kind: ErrorKind::StorageFull };
            if open(&disk, &bench, fault, manner).is_none() {
                break;
            }
            failed += 1;
            for disk in [disk.after_kill_of_process(), disk.after_power_cut(|_| 0)] {
                let made = Bench::on(disk, bench.clock.clone());
                made.complete("k", "request", "result");
                made.cut(|_| 0).begin("k", "request").replay();
            }
        }
    }
    println!("{failed} operations of creations have failed");
    assert!(3 * 20 < failed, "only {failed}");
}

#[test]
fn a_record_that_cannot_be_read_is_not_taken_for_free() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    bench.begin("interrupted", "request").fresh().start().expect("it starts");
    more_than_a_page(&bench);
    let disk = bench.disk.after_kill();
    let (mut refused, mut read) = (0, 0);
    for name in ["k", "interrupted"] {
        for after in 0.. {
            // Without a cache each page is read when it is needed.
            let builder = builder(&bench.clock).cache_bytes(0);
            let disk = disk.after_kill();
            let store = builder.open_on(disk.clone()).expect("the store opens");
            let fault = Fault { on: Op::Read, after, for_good: true, kind: ErrorKind::Other };
            disk.fail(fault);
            match store.begin(&key(name), Fingerprint::of("request")) {
                Ok(Begin::Replay(_) | Begin::Interrupted(_)) => read += 1,
                Err(Error::Storage(_)) => refused += 1,
                other => panic!("{other:?} at {fault:?}"),
            }
            if !disk.has_failed() {
                break;
            }
        }
    }
    assert!(0 < refused, "no read has failed");
    assert_eq!(read, 2, "once none fails, each is read");
}
