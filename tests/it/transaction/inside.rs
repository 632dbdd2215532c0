//! Calls from inside a closure.

use super::*;

/// Whether an error reports that the call comes from inside a transaction.
pub(super) trait Refusal: Debug {
    fn is_refusal(&self) -> bool;
}

impl Refusal for Error {
    fn is_refusal(&self) -> bool {
        matches!(self, Error::InTransaction)
    }
}

impl Refusal for CopyError {
    fn is_refusal(&self) -> bool {
        matches!(self, CopyError::Store(Error::InTransaction))
    }
}

impl<H: Debug> Refusal for CompleteError<H> {
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            CompleteError::InTransaction { .. } | CompleteError::Store(Error::InTransaction)
        )
    }
}

impl Refusal for FinishError {
    fn is_refusal(&self) -> bool {
        matches!(self, FinishError::Store(error) if error.is_refusal())
    }
}

impl<E: Debug> Refusal for TransactionError<E> {
    fn is_refusal(&self) -> bool {
        matches!(self, TransactionError::Store(Error::InTransaction))
    }
}

#[track_caller]
pub(super) fn is_refused<T: Debug, E: Refusal>(answer: Result<T, E>) {
    let error = answer.expect_err("it would wait for itself");
    assert!(error.is_refusal(), "{error:?}");
}

#[test]
fn a_closure_that_starts_or_completes_is_refused() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    let others = bench.begin("many", "request").started();
    bench.begin("detached", "request").started().detach();
    drop(bench.begin("interrupted", "request").started());
    drop(bench.begin("retried", "request").started());
    bench.complete("completed", "request", "result");
    let store = &bench.store;
    let before = store.stats().changes;
    inside(&bench, || {
        is_refused(bench.begin("start", "request").fresh().start());
        is_refused(bench.begin("complete", "request").fresh().complete("result"));
        is_refused(execution.complete("result"));
        is_refused(bench.begin("retried", "request").interrupted().retry());
        is_refused(bench.begin("interrupted", "request").interrupted().resolve("it"));
        is_refused(bench.begin("interrupted", "request").interrupted().abandon());
        is_refused(store.forget(&key("completed")));
        is_refused(store.complete(&key("detached"), "result"));
        let permits = ["a", "b"].map(|name| bench.begin(name, "request").fresh());
        store.start_many(permits).into_iter().for_each(is_refused);
        store.complete_many([(others, "result")]).into_iter().for_each(is_refused);
    });
    assert_eq!(store.stats().changes, before);
    // What had not started is free again, and nothing that had started has become free.
    for name in ["start", "complete", "a", "b"] {
        bench.begin(name, "request").fresh();
    }
    for name in ["executing", "many", "detached", "interrupted", "retried"] {
        let status = store.get(&key(name)).expect("it can be looked at").map(|info| info.status());
        let held = matches!(status, Some(Status::Executing | Status::Interrupted));
        assert!(held, "{name}: {status:?}");
    }
    bench.begin("completed", "request").replay();
    // And all of it can be done now.
    bench.begin("retried", "request").interrupted().retry().expect("it starts").detach();
    store.abandon(&key("retried")).expect("it is abandoned");
    store.complete(&key("interrupted"), "result").expect("it completes");
    assert!(store.forget(&key("completed")).expect("it is forgotten"));
}

#[test]
fn a_closure_that_opens_a_transaction_of_the_same_store_is_refused() {
    let never = |_: &Transaction<'_>| -> Result<&str, Infallible> { panic!("it runs") };
    let bench = Bench::new();
    inside(&bench, || {
        is_refused(bench.store.transaction(never));
        is_refused(bench.begin("inner", "request").fresh().complete_with(never));
        bench.begin("inner", "another").fresh();
    });
    complete_with_row(bench.begin("inner", "request").fresh(), "inner", "result");
}

#[test]
fn a_closure_that_looks_after_the_store_is_refused() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let backup = SimDisk::new();
    let names = || bench.disk.bytes().into_keys().collect::<Vec<_>>();
    let before = names();
    inside(&bench, || {
        is_refused(bench.store.settle());
        is_refused(bench.store.sweep());
        is_refused(bench.store.clone().close());
        // A listing settles first, so that changes in the log are listed too.
        is_refused(bench.store.keys().next().expect("it says so"));
        is_refused(bench.store.compact());
        is_refused(bench.store.backup_on(backup.clone()));
    });
    assert_eq!(names(), before);
    assert!(backup.bytes().is_empty(), "a backup that is refused has left something");
    bench.store.backup_on(backup.clone()).expect("it is backed up");
    bench.store.compact().expect("it is compacted");
    bench.store.settle().expect("it settles");
    bench.store.sweep().expect("it sweeps");
    bench.reopen().begin("outer", "request").replay();
}

#[test]
fn a_closure_that_writes_through_a_clone_is_refused() {
    let bench = Bench::new();
    let clone = bench.store.clone();
    inside(&bench, || is_refused(clone.settle()));
    clone.settle().expect("it settles");
}

#[test]
fn a_closure_may_read_the_store() {
    let bench = Bench::new();
    complete_with_row(bench.begin("settled", "request").fresh(), "settled", "result");
    bench.complete("in the log", "request", "result");
    let _execution = bench.begin("executing", "request").started();
    let store = &bench.store;
    inside(&bench, || {
        bench.begin("settled", "request").replay();
        bench.begin("in the log", "request").replay();
        assert!(bench.begin("settled", "another").mismatches());
        bench.begin("executing", "request").in_flight();
        bench.begin("new", "request").fresh().release();
        let in_flight = bench.begin("outer", "request").in_flight();
        in_flight.wait(Duration::ZERO).expect("wait answers").in_flight();
        let status = |name| {
            let info = store.get(&key(name)).expect("it can be looked at");
            info.map(|info| info.status())
        };
        assert_eq!(status("settled"), Some(Status::Completed));
        assert_eq!(status("outer"), Some(Status::Reserved));
        assert_eq!(status("new"), None);
        assert_eq!(store.stats().in_flight, 2);
        // Its own row isn't committed yet.
        assert_eq!(rows(store).into_keys().collect::<Vec<_>>(), ["settled"]);
    });
}

#[test]
fn a_permit_that_a_closure_was_given_can_be_used_after_it() {
    let bench = Bench::new();
    let permit = inside(&bench, || bench.begin("inner", "request").fresh());
    bench.begin("inner", "request").in_flight();
    complete_with_row(permit, "inner", "result");
    bench.begin("inner", "request").replay();
}

#[test]
fn a_closure_may_write_another_store() {
    let (bench, other) = (Bench::new(), Bench::new());
    inside(&bench, || {
        other.complete("k", "request", "result");
        inside(&other, || {
            is_refused(bench.store.settle());
            is_refused(other.store.settle());
        });
        // The innermost transaction is over, and this one isn't.
        other.store.settle().expect("it settles");
        is_refused(bench.store.settle());
        let third = Bench::new();
        third.complete("k", "request", "result");
        drop(third);
    });
    bench.store.settle().expect("it settles");
}

#[test]
fn other_threads_start_and_complete_while_a_closure_runs() {
    let bench = Bench::new();
    inside(&bench, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0..20 {
                    bench.complete(&format!("{step}"), "request", "result");
                }
                bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
            });
        });
    });
    // They are in the log, since the transaction had begun before.
    assert_eq!(bench.store.stats().unsettled_changes, 42);
    let bench = bench.kill();
    for step in 0..20 {
        bench.begin(&format!("{step}"), "request").replay();
    }
    bench.begin("abandoned", "request").fresh();
    assert_eq!(row(&bench.store, "outer").as_deref(), Some("before"));
}

#[test]
fn other_threads_that_need_the_vault_wait_for_a_closure() {
    let bench = Bench::new();
    let (began, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = inside(&bench, || {
            let threads = [
                scope.spawn(|| {
                    began.clone().send(()).expect("the test waits");
                    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
                }),
                scope.spawn(|| {
                    began.clone().send(()).expect("the test waits");
                    bench.store.settle().expect("it settles");
                    bench.store.sweep().expect("it sweeps");
                }),
                scope.spawn(|| {
                    began.clone().send(()).expect("the test waits");
                    // More than the log has room for.
                    for step in 0..100 {
                        let permit = bench.begin(&format!("{step}"), "request").fresh();
                        permit.complete([7; 1_000]).expect("it completes");
                    }
                }),
            ];
            (0..3).for_each(|_| has_begun.recv().expect("the threads run"));
            bench.begin("inside", "request").fresh().release();
            threads
        });
        waiting.map(|thread| thread.join().expect("the thread ends"));
    });
    let bench = bench.kill();
    assert_eq!(row(&bench.store, "k").as_deref(), Some("result"));
    for step in 0..100 {
        assert_eq!(bench.begin(&format!("{step}"), "request").replay().result(), [7; 1_000]);
    }
}

#[test]
fn a_close_waits_for_a_closure() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let closed = thread::scope(|scope| {
        let mut closing = None;
        let completed = permit.complete_with(|transaction| {
            put(transaction, "k", "row");
            closing = Some(scope.spawn(|| bench.store.clone().close()));
            // Until the close has begun, most likely. The log has no room for more than this.
            let others = scope.spawn(|| {
                for step in 0..100 {
                    let name = format!("{step}");
                    let permit = match bench.store.begin(&key(&name), Fingerprint::of("request")) {
                        Ok(begin) => begin.fresh(),
                        Err(Error::Closed) => return,
                        Err(error) => panic!("{error}"),
                    };
                    match permit.complete("") {
                        Ok(_) => thread::yield_now(),
                        Err(CompleteError::Store(Error::Closed)) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            others.join().expect("the thread ends");
            Ok::<_, Infallible>("result")
        });
        completed.expect("it is committed");
        closing.expect("the closure has run").join().expect("the thread ends")
    });
    closed.expect("the store closes");
    let bench = Bench::on(bench.disk, bench.clock);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("row"));
    bench.begin("k", "request").replay();
}
