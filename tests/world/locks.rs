//! The lock means what it says: while it is held, an operation may be running.

use std::fs::{self, File};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Execution, OpenError, Store};

use crate::clerk::Clerk;
use crate::stage::alone;
use crate::words::{
    answer, begin, check, check_in, close, complete, directory, open, permit, refused, small, start,
};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(100);

/// A closed store stays locked as long as this lives; after that its operation is interrupted.
fn check_locked_by<T>(name: &str, make: impl FnOnce(&Store) -> T) {
    let directory = directory();
    let store = open(directory.path());
    complete(&store, "before");
    let alive = make(&store);
    assert_eq!(store.close().expect("the store closes"), 1, "{name}");
    let error = refused(small(), directory.path());
    assert!(matches!(error, OpenError::Locked), "{error:?}");
    let (send, opened) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let store = small().wait_for_lock(LONG).open(directory.path());
            let store = store.expect("the store opens");
            send.send(answer(&store, name)).expect("somebody waits");
            check(&store, ["before"]);
            close(store);
        });
        // It waits for as long as that handle lives.
        let early = opened.recv_timeout(Duration::from_millis(50));
        assert!(early.is_err(), "it was opened beside an execution: {early:?}");
        drop(alive);
        assert_eq!(opened.recv_timeout(LONG).expect("it is opened"), "interrupted");
    });
}

#[test]
fn a_store_stays_locked_while_an_execution_of_it_lives() {
    alone(|| check_locked_by("started", |store| start(store, "started")));
}

#[test]
fn a_store_stays_locked_while_a_thread_is_in_its_effect() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        let (in_effect, begun) = mpsc::channel();
        let (go_on, effect) = mpsc::channel::<()>();
        let execution = start(&store, "started");
        let worker = thread::spawn(move || {
            in_effect.send(()).expect("somebody waits");
            effect.recv().expect("somebody tells");
            // The effect has now happened, and its result comes too late.
            assert!(execution.complete("result").is_err());
        });
        begun.recv().expect("it begins");
        assert_eq!(store.close().expect("the store closes"), 1);
        let error = refused(small(), directory.path());
        assert!(matches!(error, OpenError::Locked), "{error:?}");
        go_on.send(()).expect("it waits");
        worker.join().expect("it ends");
        let store = open(directory.path());
        assert_eq!(answer(&store, "started"), "interrupted");
    });
}

/// An execution in a future that is no longer polled, like one that waits for another service.
fn polled<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    future
}

#[test]
fn a_store_stays_locked_while_a_future_is_in_its_effect() {
    alone(|| {
        let (send, started) = mpsc::channel();
        check_locked_by("started", move |store| {
            let permit = permit(store, "started");
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
            let runtime = runtime.expect("there is room for a thread");
            let task = runtime.spawn(async move {
                let execution = permit.start_async().await.expect("it starts");
                send.send(()).expect("somebody waits");
                std::future::pending::<()>().await;
                drop(execution);
            });
            started.recv().expect("it starts");
            // The task is dropped with its runtime.
            (task, runtime)
        });
        check_locked_by("started", |store| {
            let execution = start(store, "started");
            polled(async move {
                std::future::pending::<()>().await;
                drop(execution);
            })
        });
    });
}

#[test]
fn a_store_stays_locked_while_an_operation_is_tried_again() {
    alone(|| {
        check_locked_by("started", |store| -> Execution {
            drop(start(store, "started"));
            match begin(store, "started").expect("begin answers") {
                Begin::Interrupted(interrupted) => interrupted.retry().expect("it starts"),
                other => panic!("{other:?}"),
            }
        });
    });
}

#[test]
fn a_store_that_is_dropped_stays_locked_while_an_execution_lives() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        let clone = store.clone();
        let execution = start(&store, "started");
        drop(store);
        drop(clone);
        // The last handle keeps the store open: it was never closed.
        let error = refused(small(), directory.path());
        assert!(matches!(error, OpenError::Locked), "{error:?}");
        execution.complete("result of started").expect("the store is open");
        check_in(directory.path(), &["started"]);
    });
}

#[test]
fn a_store_that_is_closed_counts_what_lives_and_not_what_has_ended() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        let running: Vec<_> = (0..3).map(|n| start(&store, &format!("running {n}"))).collect();
        drop(start(&store, "dropped"));
        start(&store, "detached").detach();
        start(&store, "abandoned").abandon().expect("there is room");
        complete(&store, "completed");
        let reserved = permit(&store, "reserved");
        let clone = store.clone();
        assert_eq!(store.close().expect("the store closes"), 3);
        drop((reserved, clone));
        drop(running);
        let store = open(directory.path());
        for name in ["running 0", "running 1", "running 2", "dropped", "detached"] {
            assert_eq!(answer(&store, name), "interrupted", "{name}");
        }
        for name in ["abandoned", "reserved"] {
            assert_eq!(answer(&store, name), "fresh", "{name}");
        }
        check(&store, ["completed"]);
    });
}

#[test]
fn a_store_is_locked_at_once_for_an_open_that_does_not_wait() {
    alone(|| {
        let directory = directory();
        let mut clerk = Clerk::hire();
        clerk.hears(&format!("open {}", directory.path().display()), "opened");
        let error = refused(small(), directory.path());
        assert!(matches!(error, OpenError::Locked), "{error:?}");
        clerk.kill();
        open(directory.path());
    });
}

#[test]
fn a_program_that_is_started_while_the_one_before_it_ends_waits_for_it() {
    alone(|| {
        let directory = directory();
        let path = directory.path().display();
        let mut before = Clerk::hire();
        before.hears(&format!("open {path}"), "opened");
        before.hears("complete one", "completed");
        before.hears("start two", "started");
        let mut after = Clerk::hire();
        // With default options.
        after.tell(&format!("open {path}"));
        assert_eq!(after_a_while(&mut before), "closed 1");
        before.hears("drop two", "dropped");
        assert_eq!(after.hear(), "opened");
        after.hears("begin one", "replay");
        after.hears("begin two", "interrupted");
        // And one that is killed.
        before.tell(&format!("open {path}"));
        after.kill();
        assert_eq!(before.hear(), "opened");
        before.hears("begin one", "replay");
    });
}

/// Closes the store once the other process has had time to start waiting.
fn after_a_while(clerk: &mut Clerk) -> String {
    thread::sleep(Duration::from_millis(100));
    clerk.ask("close")
}

#[test]
fn a_lock_of_somebody_else_on_the_directory_keeps_no_store_closed() {
    alone(|| {
        let directory = directory();
        let here = File::open(directory.path()).expect("it is there");
        here.lock_shared().expect("nobody has locked it");
        let store = open(directory.path());
        complete(&store, "one");
        close(store);
        here.unlock().expect("it is ours");
        here.lock().expect("nobody has locked it");
        check_in(directory.path(), &["one"]);
    });
}

#[test]
fn a_lock_whose_line_a_power_cut_has_taken_is_written_anew() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        complete(&store, "before");
        close(store);
        let line = || {
            let lock = fs::read_to_string(path.join("lock")).expect("it is text");
            // The room that the disk keeps for the store comes after it.
            lock.trim_end_matches('\0').to_owned()
        };
        let whole = line();
        assert!(whole.ends_with('\n'), "a whole store has a line in its lock");
        for left in [Vec::new(), vec![0; whole.len()], vec![0; 7]] {
            fs::write(path.join("lock"), &left).expect("it is ours");
            check_in(&path, &["before"]);
            assert_eq!(line(), whole);
        }
        // A line that is not ours means that the file belongs to someone else.
        fs::write(path.join("lock"), "mine").expect("it is ours");
        let error = refused(small(), &path);
        assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
        assert_eq!(fs::read(path.join("lock")).expect("it is there"), b"mine");
    });
}
