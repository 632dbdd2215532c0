//! Transactions in each state of a key.

use super::*;

#[test]
fn a_key_is_in_flight_while_its_closure_runs() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|_| {
        bench.begin("k", "request").in_flight();
        // Nothing has started, so there is no request to differ from.
        bench.begin("k", "another").in_flight();
        thread::scope(|scope| {
            scope.spawn(|| drop(bench.begin("k", "request").in_flight()));
        });
        Ok::<_, Infallible>("result")
    });
    completed.expect("it is committed");
    for settle in [false, true] {
        bench.begin("k", "request").replay();
        assert!(bench.begin("k", "another").mismatches());
        if settle {
            bench.store.settle().expect("it settles");
        }
    }
}

/// Waits for `k` in another thread while a closure of its transaction runs, and lets that end in
/// this way.
fn wait_while<R: AsRef<[u8]>>(
    bench: &Bench,
    end: impl FnOnce() -> Result<R, &'static str>,
) -> Result<Begin, Error> {
    let permit = bench.begin("k", "request").fresh();
    let in_flight = bench.begin("k", "request").in_flight();
    let waiter = thread::spawn(move || in_flight.wait(LONG));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        drop(permit.complete_with(|transaction| {
            put(transaction, "k", "row");
            while bench.store.stats().waited_for == 0 {
                thread::yield_now();
            }
            end()
        }));
    }));
    drop(unwound);
    waiter.join().expect("the thread ends")
}

#[test]
fn a_waiter_replays_the_result() {
    let bench = Bench::new();
    let answer = wait_while(&bench, || Ok("result"));
    assert_eq!(answer.expect("wait answers").replay().result(), b"result");
    assert_eq!(bench.store.stats().waited_for, 0);
}

#[test]
fn a_waiter_replays_a_result_whose_retention_is_over() {
    let bench = Bench::new();
    let answer = wait_while(&bench, || {
        bench.tick(RETENTION_MS);
        Ok("late")
    });
    assert_eq!(answer.expect("wait answers").replay().result(), b"late");
    bench.begin("k", "request").replay();
    bench.tick(RETENTION_MS);
    bench.begin("k", "request").fresh();
}

#[test]
fn a_waiter_gets_the_key_of_a_closure_that_stores_nothing() {
    let check = |end: fn() -> Result<Vec<u8>, &'static str>| {
        let bench = Bench::new();
        let permit = wait_while(&bench, end).expect("wait answers").fresh();
        complete_with_row(permit, "k", "second");
        assert_eq!(row(&bench.store, "k").as_deref(), Some("second"));
    };
    check(|| Err("refused"));
    check(|| panic!("17 is no number"));
    check(|| Ok(vec![7; RESULT_LEN_MAX + 1]));
}

#[test]
fn of_many_callers_on_one_key_one_writes() {
    let bench = Bench::new();
    let ran = AtomicUsize::new(0);
    for round in 0..20 {
        let name = format!("{round}");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let begin = match bench.begin(&name, "request") {
                        Begin::InFlight(in_flight) => in_flight.wait(LONG).expect("wait answers"),
                        begin => begin,
                    };
                    let completed = match begin {
                        Begin::Fresh(permit) => {
                            ran.fetch_add(1, Ordering::Relaxed);
                            complete_with_row(permit, &name, &name)
                        }
                        begin => begin.replay(),
                    };
                    assert_eq!(completed.result(), name.as_bytes());
                });
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), round + 1);
    }
    assert_eq!(rows(&bench.store).len(), 20);
}

#[test]
fn of_many_callers_one_at_a_time_is_refused_until_one_writes() {
    const REFUSALS: usize = 7;
    let bench = Bench::new();
    let ran = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..=REFUSALS {
            scope.spawn(|| {
                loop {
                    let begin = match bench.begin("k", "request") {
                        Begin::InFlight(in_flight) => in_flight.wait(LONG).expect("wait answers"),
                        begin => begin,
                    };
                    let Begin::Fresh(permit) = begin else {
                        assert_eq!(begin.replay().result(), b"result");
                        return;
                    };
                    let completed = permit.complete_with(|transaction| {
                        put(transaction, "k", "row");
                        let is_last = ran.fetch_add(1, Ordering::Relaxed) == REFUSALS;
                        if is_last { Ok("result") } else { Err("refused") }
                    });
                    match completed {
                        Ok(_) => return,
                        Err(error) => {
                            assert!(matches!(error, TransactionError::Operation("refused")));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), REFUSALS + 1);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("row"));
}

#[test]
fn an_expired_key_is_used_again() {
    for (settle, sweep, first_in_log) in
        [(false, false, false), (false, false, true), (true, false, true), (true, true, false)]
    {
        let bench = Bench::new();
        let permit = bench.begin("k", "request").fresh();
        if first_in_log {
            permit.complete("first").expect("it completes");
        } else {
            complete_with_row(permit, "first", "first");
        }
        if settle {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS);
        if sweep {
            assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
        }
        complete_with_row(bench.begin("k", "another").fresh(), "second", "second");
        let check = |bench: &Bench| {
            assert_eq!(bench.begin("k", "another").replay().result(), b"second");
            assert!(bench.begin("k", "request").mismatches());
            assert_eq!(row(&bench.store, "second").as_deref(), Some("second"));
        };
        check(&bench);
        // The first record, if it is still there, is the sweeper's, and the second is not.
        bench.store.sweep().expect("it sweeps");
        assert_eq!(bench.store.stats().records, 1);
        check(&bench);
        let image = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        check(&image);
        check(&bench.reopen());
    }
}

#[test]
fn an_interrupted_key_that_expires_is_used_again() {
    for settle in [false, true] {
        let bench = Bench::new();
        drop(bench.begin("k", "request").started());
        if settle {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS);
        complete_with_row(bench.begin("k", "another").fresh(), "k", "second");
        bench.store.sweep().expect("it sweeps");
        let stats = bench.store.stats();
        assert_eq!((stats.records, stats.interrupted), (1, 0));
        let bench = bench.kill();
        assert_eq!(bench.begin("k", "another").replay().result(), b"second");
        assert_eq!(bench.store.stats().interrupted, 0);
    }
}

#[test]
fn a_key_that_expires_while_its_closure_runs_begins_a_new_retention() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "first", "row");
        bench.tick(RETENTION_MS);
        Ok::<_, Infallible>("late")
    });
    // Its retention was over when it was completed, so it begins a new one.
    assert_eq!(completed.expect("it is committed").result(), b"late");
    bench.tick(RETENTION_MS - 1);
    bench.begin("k", "request").replay();
    bench.tick(1);
    complete_with_row(bench.begin("k", "another").fresh(), "second", "second");
    assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
    let bench = bench.reopen();
    assert_eq!(bench.begin("k", "another").replay().result(), b"second");
    assert_eq!(rows(&bench.store).len(), 2);
}

#[test]
fn a_forgotten_key_is_used_again() {
    let bench = Bench::new();
    complete_with_row(bench.begin("k", "request").fresh(), "first", "first");
    assert!(bench.store.forget(&key("k")).expect("it is forgotten"));
    // The row is the caller's, and stays.
    complete_with_row(bench.begin("k", "another").fresh(), "second", "second");
    let bench = bench.kill();
    assert_eq!(bench.begin("k", "another").replay().result(), b"second");
    assert_eq!(rows(&bench.store).len(), 2);
    assert_eq!(bench.store.stats().records, 1);
}

#[test]
fn keys_that_collide_are_kept_apart() {
    let bench = Bench::with(SimDisk::new(), manual_clock(), 0);
    for step in 0..10 {
        let name = format!("{step}");
        bench.begin(&format!("log {step}"), "request").started().detach();
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name);
    }
    let bench = bench.kill();
    for step in 0..10 {
        let name = format!("{step}");
        assert_eq!(bench.begin(&name, "request").replay().result(), name.as_bytes());
        bench.begin(&format!("log {step}"), "request").interrupted();
    }
}
