//! Marks in the log: the store notices if the vault has lost a transaction, whatever came after it,
//! and never reports one that it has as lost.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use idemstore::redb::{self, TableDefinition};
use idemstore::sim::OpenOn;
use idemstore::{Error, OpenError, TransactionError};

use crate::support::choice::by_seed;
use crate::support::disk::{Fault, Manner, Op};
use crate::support::{Answers, Bench, SimDisk, Started, builder};

const VAULT: &str = "vault.redb";
const LOGS: [&str; 2] = ["log-0", "log-1"];
const ROWS: TableDefinition<'_, &str, u64> = TableDefinition::new("rows");

fn complete_with(bench: &Bench, name: &str) {
    let completed = bench.begin(name, "request").fresh().complete_with(|transaction| {
        transaction.open_table(ROWS)?.insert(name, 1)?;
        Ok::<_, redb::Error>(name)
    });
    completed.expect("it completes");
}

fn write(bench: &Bench) {
    bench.store.transaction(|_| Ok::<_, Infallible>(())).expect("it is written");
}

/// A transaction during which other callers fill the segment of the log, so that the next write
/// goes to the other one.
fn complete_with_beside_others(bench: &Bench, name: &str) {
    let permit = bench.begin(name, "request").fresh();
    let completed = permit.complete_with(|_| {
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                for number in 0..3 {
                    let name = format!("beside {name} {number}");
                    bench.begin(&name, "request").fresh().complete([7; 9_000]).expect("it fits");
                }
            });
            others.join().expect("the thread ends");
        });
        Ok::<_, Infallible>(name)
    });
    completed.expect("it completes");
}

/// A store with two transactions; the second was the last one acknowledged.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.complete("logged", "request", "logged");
    complete_with(&bench, "first");
    complete_with(&bench, "second");
    bench
}

/// Everything that callers were told is true.
fn check(bench: &Bench) {
    for name in ["logged", "first", "second"] {
        assert_eq!(bench.begin(name, "request").replay().result(), name.as_bytes());
    }
}

/// redb's vault as of the commit before the last one.
fn roll_back(disk: &SimDisk) {
    disk.damage(VAULT, |bytes| bytes[9] ^= 1);
}

type Step = (&'static str, fn(&Bench));

/// Operations after the last commit of the vault that don't commit it again.
const NO_COMMITS: [Step; 7] = [
    ("nothing", |_| ()),
    ("a reservation", |bench| drop(bench.begin("reserved", "request").fresh())),
    ("a start", |bench| drop(bench.begin("started", "request").started())),
    ("a closure that fails", |bench| {
        let refused = bench.store.transaction(|_| Err::<(), _>("refused"));
        assert!(matches!(refused, Err(TransactionError::Operation("refused"))), "{refused:?}");
    }),
    ("a segment that is full", |bench| {
        for number in 0..4 {
            let name = format!("long {number}");
            bench.begin(&name, "request").fresh().complete([7; 9_000]).expect("it completes");
        }
    }),
    ("a transaction beside others", |bench| complete_with_beside_others(bench, "third")),
    ("a switch with a mark that no frame has said", |bench| {
        complete_with_beside_others(bench, "third");
        bench.begin("long", "request").fresh().complete([7; 9_000]).expect("it completes");
    }),
];

#[test]
fn a_transaction_that_the_vault_has_lost_is_missed() {
    let transactions: [Step; 2] = [("complete_with", |_| ()), ("write", write)];
    for (last, transact) in transactions {
        for (what, step) in NO_COMMITS {
            let bench = bench();
            transact(&bench);
            step(&bench);
            let (whole, behind) = (bench.disk.after_kill(), bench.disk.after_kill());
            check(&Bench::on(whole, bench.clock.clone()));
            roll_back(&behind);
            let opened = builder(&bench.clock).open_on(behind);
            let Err(OpenError::Corrupt { file, detail }) = opened else {
                panic!("{last}, then {what}: {opened:?}")
            };
            assert_eq!((file, &*detail), (VAULT, "a transaction is missing"), "{last}, {what}");
        }
    }
}

/// Operations after a transaction that commit the vault again.
const COMMITS: [Step; 7] = [
    ("a settle", |bench| {
        bench.begin("settled", "request").fresh().complete("result").expect("it completes");
        bench.store.settle().expect("it settles");
    }),
    ("a settle of what was written beside it", |bench| {
        complete_with_beside_others(bench, "third");
        bench.store.settle().expect("it settles");
    }),
    ("a transaction after what was written beside it", |bench| {
        complete_with_beside_others(bench, "third");
        write(bench);
    }),
    ("a sweep", |bench| {
        let swept =
            bench.begin("swept", "request").fresh().with_retention(Duration::from_millis(1));
        swept.complete("result").expect("it completes");
        bench.store.settle().expect("it settles");
        write(bench);
        bench.tick(2);
        assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
    }),
    ("a compaction", |bench| assert!(bench.store.compact().is_ok())),
    ("a transaction", |bench| complete_with(bench, "third")),
    ("many of all", |bench| {
        for number in 0..20 {
            complete_with_beside_others(bench, &format!("many {number}"));
            bench.store.settle().expect("it settles");
            write(bench);
        }
    }),
];

#[test]
fn a_store_that_has_lost_nothing_opens_whatever_came_after_a_transaction() {
    for (what, step) in NO_COMMITS.into_iter().chain(COMMITS) {
        let mut bench = bench();
        step(&bench);
        for seed in 0..20 {
            let disk = bench.disk.after_power_cut(by_seed(seed));
            let opened = builder(&bench.clock).open_on(disk);
            assert!(opened.is_ok(), "{what}, a power cut by {seed}: {opened:?}");
        }
        check(&Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone()));
        // Every open continues from what the one before it has left.
        for _ in 0..3 {
            bench = bench.kill();
            check(&bench);
            write(&bench);
            bench = bench.reopen();
            bench.begin("after", "request");
        }
    }
}

#[test]
fn a_settle_that_the_vault_has_lost_is_in_the_log_or_missed() {
    let (mut opened, mut refused) = (0, 0);
    for (what, step) in COMMITS {
        let bench = bench();
        step(&bench);
        let disk = bench.disk.after_kill();
        roll_back(&disk);
        match builder(&bench.clock).open_on(disk.clone()) {
            Ok(store) => {
                drop(store);
                check(&Bench::on(disk.after_kill(), bench.clock.clone()));
                opened += 1;
            }
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
    assert!(0 < opened && 0 < refused, "{opened} opened, {refused} refused");
}

#[test]
fn a_mark_that_is_torn_at_any_byte_costs_nothing() {
    let bench = bench();
    let before = bench.disk.bytes();
    complete_with(&bench, "third");
    let after = bench.disk.bytes();
    let log = LOGS.into_iter().find(|log| before[*log] != after[*log]).expect("it is marked");
    let differs: Vec<_> =
        (0..after[log].len()).filter(|at| before[log][*at] != after[log][*at]).collect();
    let (first, last) = (differs[0], differs[differs.len() - 1]);
    assert!(last - first < 64, "more than a mark was written");
    let mut after_all = 0;
    for torn in first..=last + 1 {
        let disk = bench.disk.after_kill();
        disk.damage(log, |bytes| bytes[torn..].copy_from_slice(&before[log][torn..]));
        let torn = Bench::on(disk, bench.clock.clone());
        check(&torn);
        assert_eq!(torn.begin("third", "request").replay().result(), b"third");
        // The next write overwrites it.
        drop(torn.begin("started", "request").started());
        complete_with(&torn, "fourth");
        let torn = torn.kill();
        torn.begin("started", "request").interrupted();
        check(&torn);
        after_all += 1;
    }
    assert!(20 < after_all, "only {after_all} bytes");
}

#[test]
fn there_is_room_for_a_mark_however_full_a_segment_is() {
    let (mut in_one, mut in_both) = (0, 0);
    // Two results fill the segment to its last bytes, and the longest of the second pair goes into
    // the other one.
    for len in (14_100..14_500).step_by(4) {
        let bench = Bench::new();
        let complete = |name: &str, len| {
            bench.begin(name, "request").fresh().complete(vec![7; len]).expect("it completes");
        };
        let both = || {
            complete("first", 14_000);
            complete("second", len);
        };
        let written = bench.store.transaction(|_| {
            thread::scope(|scope| scope.spawn(both).join().expect("the thread ends"));
            Ok::<_, Infallible>(())
        });
        written.expect("it is written");
        let count = if 28_000 < bench.store.stats().log_bytes { &mut in_one } else { &mut in_both };
        *count += 1;
        let marked = Bench::on(bench.disk.after_kill(), bench.clock.clone());
        complete("third", 6);
        for bench in [marked, bench.kill()] {
            for (name, len) in [("first", 14_000), ("second", len)] {
                assert_eq!(bench.begin(name, "request").replay().result().len(), len);
            }
        }
    }
    assert!(0 < in_one && 0 < in_both, "{in_one} fit into one segment, {in_both} do not");
}

#[test]
fn a_mark_costs_no_sync() {
    let bench = bench();
    let before = bench.disk.counts();
    complete_with(&bench, "third");
    write(&bench);
    let after = bench.disk.counts();
    assert_eq!((after.log_syncs, after.log_writes), (before.log_syncs, before.log_writes + 2));
}

#[test]
fn a_mark_that_cannot_be_written_costs_no_transaction() {
    for manner in [Manner::Nothing, Manner::Part, Manner::All] {
        let bench = bench();
        let fault = Fault { on: Op::LogWrite, after: 0, for_good: false, kind: ErrorKind::Other };
        bench.disk.fail_as(fault, manner);
        complete_with(&bench, "third");
        assert!(bench.disk.has_failed());
        let next = bench.store.transaction(|_| Ok::<_, Infallible>(()));
        let is_poisoned = matches!(&next, Err(TransactionError::Store(Error::Poisoned(_))));
        assert!(is_poisoned, "{next:?}");
        let bench = bench.kill();
        check(&bench);
        assert_eq!(bench.begin("third", "request").replay().result(), b"third");
    }
}

#[test]
fn a_log_that_has_failed_gets_no_mark() {
    let bench = bench();
    let fault = Fault { on: Op::LogSync, after: 0, for_good: false, kind: ErrorKind::Other };
    let mut failed = None;
    let committed = bench.store.transaction(|_| {
        bench.disk.fail(fault);
        thread::scope(|scope| {
            let other = || bench.begin("other", "request").fresh().complete("result").is_err();
            assert!(scope.spawn(other).join().expect("the thread ends"));
        });
        failed = Some(bench.disk.counts().log_writes);
        Ok::<_, Infallible>(())
    });
    committed.expect("the vault is well");
    assert_eq!(Some(bench.disk.counts().log_writes), failed);
    check(&bench.kill());
}

#[test]
fn a_switch_whose_mark_cannot_be_made_durable_writes_nothing_more() {
    let bench = bench();
    complete_with_beside_others(&bench, "third");
    let fault = Fault { on: Op::LogSync, after: 0, for_good: false, kind: ErrorKind::Other };
    bench.disk.fail(fault);
    let completed = bench.begin("long", "request").fresh().complete([7; 9_000]);
    assert!(completed.is_err() && bench.disk.has_failed());
    let writes = bench.disk.counts();
    assert!(matches!(bench.store.settle(), Err(Error::Poisoned(_))));
    assert_eq!(bench.disk.counts(), writes);
    for seed in 0..20 {
        let disk = bench.disk.after_power_cut(by_seed(seed));
        check(&Bench::on(disk, bench.clock.clone()));
    }
    let bench = bench.kill();
    check(&bench);
    bench.begin("long", "request").fresh();
}
