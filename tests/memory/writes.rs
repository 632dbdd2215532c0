//! What is on its way into the log, and what an open reads from it.

#[cfg(feature = "transaction")]
use std::{
    pin::pin,
    sync::mpsc,
    task::{Context, Waker},
    thread,
};

use super::{MIB, builder, check, clock, directory, live, peak_of, permit, turn};

/// Longer results than the queue has room for, all submitted while the log is full and can't be
/// settled.
#[cfg(feature = "transaction")]
#[test]
fn results_that_wait_for_their_place_are_not_copied() {
    const RESULTS: usize = 150;
    let _turn = turn();
    let directory = directory();
    let store = builder(&clock()).open(directory.path()).expect("the store opens");
    let result = vec![7; MIB];
    let executions: Vec<_> =
        (0..RESULTS).map(|number| permit(&store, number).start().expect("it starts")).collect();
    let (begun, may_begin) = mpsc::channel();
    let (ended, may_end) = mpsc::channel();
    let peak = thread::scope(|scope| {
        let store = &store;
        let hold = scope.spawn(move || {
            store.transaction(|_| {
                begun.send(()).expect("the test waits");
                may_end.recv().expect("the test says so");
                Ok::<_, ()>(())
            })
        });
        may_begin.recv().expect("it begins");
        let mut completing: Vec<_> = executions
            .into_iter()
            .map(|execution| Box::pin(execution.complete_async(&result)))
            .collect();
        let mut context = Context::from_waker(Waker::noop());
        let peak = peak_of(|| {
            for completing in &mut completing {
                assert!(pin!(completing).poll(&mut context).is_pending());
            }
        });
        ended.send(()).expect("it waits");
        hold.join().expect("it ends").expect("nothing was written");
        // They are stored whether or not a caller waits.
        drop(completing);
        peak
    });
    check("results on their way", peak, 64 * MIB + 16 * MIB);
    store.close().expect("it closes");
}

#[test]
fn a_call_of_complete_many_holds_what_it_returns_and_one_batch() {
    const RESULTS: usize = 300;
    let _turn = turn();
    let directory = directory();
    let store = builder(&clock()).open(directory.path()).expect("the store opens");
    let result = vec![7; MIB / 4];
    let permits = (0..RESULTS).map(|number| permit(&store, number));
    let peak = peak_of(|| {
        let completed = store.complete_many(permits.map(|permit| (permit, &result)));
        assert!(completed.iter().all(Result::is_ok));
    });
    check("a call of complete_many", peak, RESULTS * MIB / 4 + 16 * MIB);
}

#[test]
fn an_open_reads_a_long_log_in_parts() {
    let _turn = turn();
    let (directory, clock) = (directory(), clock());
    let open = || {
        let builder = builder(&clock).log_bytes(64 * MIB as u64).result_len_max(24 * MIB);
        builder.open(directory.path()).expect("the store opens")
    };
    open().close().expect("it closes");
    let log = directory.path().join("log-0");
    assert!(24 * MIB as u64 <= log.metadata().expect("it is there").len());
    let before = live();
    let peak = peak_of(|| assert_eq!(open().close().expect("it closes"), 0));
    check("an open", peak, 6 * MIB);
    check("after it", live().saturating_sub(before), MIB);
}
