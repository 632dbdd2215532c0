//! Transactions and disks that fail.

use super::*;

#[test]
fn an_ended_store_runs_no_closure() {
    let never = |_: &Transaction<'_>| -> Result<&str, Infallible> { panic!("it runs") };
    let bench = Bench::new();
    let permits = ["a", "b"].map(|name| bench.begin(name, "request").fresh());
    let failing = bench.begin("failing", "request").fresh();
    bench.disk.fail(fault(Op::Sync));
    assert!(matches!(failing.start(), Err(Error::OutcomeUnknown(_))));
    for permit in permits {
        let refused = permit.complete_with(never);
        let poisoned = matches!(refused, Err(TransactionError::Store(Error::Poisoned(_))));
        assert!(poisoned, "{refused:?}");
    }
    let refused = bench.store.transaction(never);
    assert!(matches!(refused, Err(TransactionError::Store(Error::Poisoned(_)))), "{refused:?}");

    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    bench.store.clone().close().expect("the store closes");
    let refused = permit.complete_with(never);
    assert!(matches!(refused, Err(TransactionError::Store(Error::Closed))), "{refused:?}");
    let refused = bench.store.transaction(never);
    assert!(matches!(refused, Err(TransactionError::Store(Error::Closed))), "{refused:?}");
    Bench::on(bench.disk, bench.clock).begin("k", "request").fresh();
}

#[test]
fn a_commit_that_fails_has_an_unknown_outcome() {
    for on in [Op::Write, Op::VaultSync] {
        let bench = Bench::new();
        bench.complete("in the log", "request", "result");
        complete_with_row(bench.begin("settled", "request").fresh(), "settled", "result");
        let in_flight = {
            let permit = bench.begin("k", "request").fresh();
            let in_flight = bench.begin("k", "request").in_flight();
            bench.disk.fail(fault(on));
            let failed = permit.complete_with(|transaction| {
                put(transaction, "k", "row");
                Ok::<_, Infallible>("row")
            });
            let error = failed.expect_err("the disk has failed");
            let unknown = matches!(error, TransactionError::Store(Error::OutcomeUnknown(_)));
            assert!(unknown, "{error:?}");
            in_flight
        };
        // No caller may get the key as free: that isn't known.
        let waited = in_flight.wait(LONG);
        assert!(matches!(waited, Err(Error::Poisoned(_))), "{waited:?}");
        let begin = bench.store.begin(&key("k"), Fingerprint::of("request"));
        assert!(matches!(begin, Err(Error::Poisoned(_))), "{begin:?}");
        let bench = bench.kill();
        bench.begin("in the log", "request").replay();
        bench.begin("settled", "request").replay();
        match bench.begin("k", "request") {
            Begin::Replay(completed) => assert_eq!(completed.result(), b"row"),
            begin => drop(begin.fresh()),
        }
        let replays = matches!(bench.begin("k", "request"), Begin::Replay(_));
        assert_eq!(row(&bench.store, "k").is_some(), replays);
    }
}

/// The commit may be durable: a caller that got the key then would run the operation again.
#[test]
fn a_key_whose_outcome_is_unknown_is_given_to_nobody() {
    let (mut given, mut failed) = (0, 0);
    for round in 0..800 {
        let bench = Bench::new();
        let permit = bench.begin("k", "request").fresh();
        let ask = || {
            // Until the store is poisoned, or the result is there.
            loop {
                match bench.store.begin(&key("k"), Fingerprint::of("request")) {
                    Ok(Begin::InFlight(_)) => {}
                    answer => return matches!(answer, Ok(Begin::Fresh(_))),
                }
            }
        };
        thread::scope(|scope| {
            let asking = [(); 4].map(|()| scope.spawn(ask));
            let completed = permit.complete_with(|transaction| {
                put(transaction, "k", "row");
                let after = round % 3;
                bench.disk.fail(Fault { after, for_good: true, ..fault(Op::VaultSync) });
                Ok::<_, Infallible>("row")
            });
            failed += usize::from(completed.is_err());
            for asked in asking {
                given += usize::from(asked.join().expect("the thread ends"));
            }
        });
    }
    assert!(400 < failed, "only {failed} commits have failed");
    assert_eq!(given, 0);
}

#[test]
fn a_log_that_fails_under_a_closure_costs_nothing_that_is_acknowledged() {
    let bench = Bench::new();
    bench.complete("before", "request", "result");
    let other = bench.begin("other", "request").fresh();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "k", "row");
        bench.disk.fail(fault(Op::Sync));
        let failed = thread::scope(|scope| scope.spawn(|| other.start()).join());
        let failed = failed.expect("the thread ends");
        assert!(matches!(failed, Err(Error::OutcomeUnknown(_))), "{failed:?}");
        Ok::<_, Infallible>("row")
    });
    // The vault is well, so either answer is acceptable, as long as it is true.
    let acknowledged = completed.is_ok();
    let bench = bench.cut(|_| 0);
    bench.begin("before", "request").replay();
    bench.begin("other", "request").fresh();
    let replays = matches!(bench.begin("k", "request"), Begin::Replay(_));
    assert_eq!(row(&bench.store, "k").is_some(), replays);
    assert!(replays || !acknowledged);
}

#[test]
fn a_closure_that_passes_over_a_failed_disk_is_not_committed() {
    let bench = Bench::new();
    let large = "row".repeat(100_000);
    complete_with_row(bench.begin("settled", "request").fresh(), "settled", "result");
    // An empty page cache, so that the closure has to read.
    let bench = bench.reopen();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        bench.disk.fail(Fault { for_good: true, ..fault(Op::Any) });
        // Its result doesn't matter. It is more than redb keeps in memory before it writes.
        for step in 0..20 {
            drop(write_row(transaction, &format!("{step}"), &large));
        }
        Ok::<_, Infallible>("result")
    });
    assert!(completed.is_err());
    bench.disk.heal();
    let bench = bench.kill();
    bench.begin("settled", "request").replay();
    bench.begin("k", "request").fresh();
    assert_eq!(rows(&bench.store).len(), 1);
}

#[test]
fn a_reader_finds_a_failed_disk_out_by_an_error() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
    }
    let bench = bench.reopen();
    let reading = bench.store.read_transaction().expect("the store is open");
    bench.disk.fail(Fault { for_good: true, ..fault(Op::Read) });
    if let Ok(count) = read_on(&reading) {
        assert_eq!(count, 20);
    }
}
