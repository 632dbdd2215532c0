//! Transactions and the log beside them.

use super::*;

#[test]
fn what_the_log_holds_is_settled_with_it() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    let execution = bench.begin("executing", "request").started();
    bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
    bench.complete("forgotten", "request", "result");
    bench.store.forget(&key("forgotten")).expect("it is forgotten");
    assert_eq!(bench.store.stats().unsettled_changes, 8);
    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
    let stats = bench.store.stats();
    assert_eq!((stats.unsettled_changes, stats.log_bytes), (0, 0));
    assert_eq!((stats.records, stats.settles), (3, 1));
    // Without the log everything is still there.
    let check = |bench: &Bench| {
        assert_eq!(bench.begin("completed", "request").replay().result(), b"result");
        bench.begin("abandoned", "another").fresh();
        bench.begin("forgotten", "another").fresh();
        bench.begin("k", "request").replay();
    };
    check(&bench);
    bench.begin("executing", "request").in_flight();
    let bench = bench.kill();
    check(&bench);
    bench.begin("executing", "request").interrupted();
    drop(execution);
}

#[test]
fn both_segments_are_settled_with_it() {
    let bench = Bench::new();
    let mut step = 0;
    // Until one segment is sealed and the other one is in use.
    while bench.store.stats().unsettled_changes < 40 {
        let permit = bench.begin(&format!("{step}"), "request").fresh();
        permit.complete([step; 1_000]).expect("it completes");
        step += 1;
    }
    assert!(bench.store.stats().log_bytes < 32 * 1024);
    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
    assert_eq!(bench.store.stats().unsettled_changes, 0);
    let bench = bench.cut(|_| 0);
    for step in 0..step {
        let replay = bench.begin(&format!("{step}"), "request").replay();
        assert_eq!(replay.result(), [step; 1_000]);
    }
    bench.begin("k", "request").replay();
}

#[test]
fn a_closure_that_fails_leaves_the_log_as_it_is() {
    for panics in [false, true] {
        let bench = Bench::new();
        bench.complete("completed", "request", "result");
        bench.begin("executing", "request").started().detach();
        let refused = catch_unwind(AssertUnwindSafe(|| {
            bench.begin("k", "request").fresh().complete_with(|_| {
                assert!(!panics, "17 is no number");
                Err::<&str, _>("refused")
            })
        }));
        assert_eq!(refused.is_err(), panics);
        assert_eq!(bench.store.stats().unsettled_changes, 3);
        let image = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        image.begin("completed", "request").replay();
        image.begin("executing", "request").interrupted();
        // The segment that was sealed for it is settled by the next caller.
        bench.store.complete(&key("executing"), "result").expect("it completes");
        complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
        assert_eq!(bench.store.stats().unsettled_changes, 0);
        let bench = bench.reopen();
        bench.begin("completed", "request").replay();
        bench.begin("executing", "request").replay();
    }
}

#[test]
fn nothing_is_lost_while_log_and_transactions_take_turns() {
    let mut bench = Bench::with(SimDisk::new(), manual_clock(), 0);
    let mut expected = BTreeSet::new();
    for step in 0..120 {
        let name = format!("{step}");
        let permit = bench.begin(&name, "request").fresh();
        match step % 4 {
            0 => drop(complete_with_row(permit, &name, &name)),
            1 => drop(permit.start().expect("it starts").complete(&name).expect("it completes")),
            2 => drop(permit.complete(&name).expect("it completes")),
            _ => {
                permit.start().expect("it starts").abandon().expect("it is abandoned");
                continue;
            }
        }
        expected.insert(name);
        if step % 17 == 0 {
            bench = bench.kill();
        }
    }
    for bench in [bench.reopen()] {
        for step in 0..120 {
            let name = format!("{step}");
            match bench.begin(&name, "request") {
                Begin::Replay(completed) => {
                    assert_eq!(completed.result(), name.as_bytes());
                    assert!(expected.remove(&name));
                }
                begin => drop(begin.fresh()),
            }
            assert_eq!(row(&bench.store, &name).is_some(), step % 4 == 0);
        }
        assert!(expected.is_empty(), "{expected:?} are lost");
    }
}
