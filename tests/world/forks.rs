//! A forked child is not its parent: what it does with its parent's store has no effect.

use std::cell::RefCell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fork::Fork;
use idemstore::redb::TableDefinition;
use idemstore::{Begin, Error, Execution, Interrupted, OpenError, Permit, Store};

use crate::stage::{alone, until};
use crate::words::{
    begin, check, check_in, close, complete, complete_started, directory, key, names, open, permit,
    small, start,
};

const TABLE: TableDefinition<u64, u64> = TableDefinition::new("mine");

/// A child that does something and ends.
struct Child(i32);

impl Child {
    /// The child has none of this process's other threads.
    fn fork(act: impl FnOnce()) -> Self {
        match fork::fork().expect("there is room for a process") {
            Fork::Parent(child) => Self(child),
            Fork::Child => {
                let acted = catch_unwind(AssertUnwindSafe(act));
                std::process::exit(i32::from(acted.is_err()));
            }
        }
    }

    /// Waits for the child, which must exit successfully.
    fn join(self) {
        let status =
            until("the end of the child", || fork::waitpid_nohang(self.0).expect("it is ours"));
        let ended = fork::WIFEXITED(status) && fork::WEXITSTATUS(status) == 0;
        assert!(ended, "the child has failed: {status}");
    }
}

/// A handle that a child has a copy of. The child must be able to drop it.
struct Inherited {
    store: RefCell<Option<Store>>,
}

impl Inherited {
    fn of(store: Store) -> Self {
        Self { store: RefCell::new(Some(store)) }
    }

    fn take(&self) -> Store {
        self.store.borrow_mut().take().expect("nobody has it")
    }
}

/// A parent with a store forks, the child does this with its copy, and the parent continues.
fn with_child(sweeper: bool, act: impl Fn(Store)) {
    for settled in [false, true] {
        let directory = directory();
        let store =
            small().background_thread(sweeper).open(directory.path()).expect("the store opens");
        complete(&store, "before");
        let execution = start(&store, "started");
        if settled {
            store.settle().expect("there is room");
        }
        let inherited = Inherited::of(store);
        Child::fork(|| act(inherited.take())).join();
        let store = inherited.take();
        complete(&store, "after");
        complete_started(execution);
        store.settle().expect("there is room");
        complete(&store, "last");
        let names_before = names(directory.path());
        close(store);
        assert_eq!(names(directory.path()), names_before);
        check_in(directory.path(), &["before", "started", "after", "last"]);
    }
}

#[test]
fn a_child_that_just_ends_leaves_its_parents_store_alone() {
    alone(|| {
        with_child(false, std::mem::forget);
        with_child(true, std::mem::forget);
    });
}

#[test]
fn a_child_that_drops_its_parents_store_leaves_it_alone() {
    alone(|| {
        with_child(false, drop);
        with_child(true, drop);
    });
}

#[test]
fn a_child_that_closes_its_parents_store_leaves_it_alone() {
    alone(|| {
        let act = |store: Store| {
            assert_eq!(store.clone().close().expect("it is nothing"), 0);
            assert_eq!(store.close().expect("it is nothing"), 0);
        };
        with_child(false, act);
        with_child(true, act);
    });
}

#[test]
fn a_child_that_panics_with_its_parents_store_leaves_it_alone() {
    alone(|| {
        with_child(false, |store| {
            let held = AssertUnwindSafe(store);
            let panicked = catch_unwind(move || {
                let _held = held;
                panic!("as a child may");
            });
            assert!(panicked.is_err());
        });
    });
}

#[track_caller]
fn check_refused<T: Debug>(answer: Result<T, Error>) {
    let error = answer.expect_err("it is refused");
    assert!(matches!(error, Error::OtherProcess), "{error:?}");
}

/// For errors that only wrap a store error.
#[track_caller]
fn check_said<T: Debug, E: Debug>(answer: Result<T, E>) {
    let said = format!("{:?}", answer.expect_err("it is refused"));
    assert!(said.contains("OtherProcess"), "{said}");
}

#[test]
fn every_call_of_a_child_is_refused() {
    alone(|| {
        with_child(false, |store| {
            let (one, before) = (key("child"), key("before"));
            check_refused(begin(&store, "child"));
            check_refused(begin(&store, "before"));
            check_said(store.complete(&one, "result"));
            check_said(store.abandon(&one));
            check_refused(store.forget(&before));
            check_refused(store.settle());
            check_refused(store.sweep());
            check_said(store.compact());
            let elsewhere = directory();
            check_said(store.backup(elsewhere.path()));
            assert_eq!(names(elsewhere.path()), [""; 0]);
            check_refused(store.get(&before).map(drop));
            let listed: Vec<_> = store.keys().map(|info| info.map(drop)).collect();
            assert!(matches!(listed[..], [Err(Error::OtherProcess)]), "{listed:?}");
            check_said(store.transaction(|transaction| {
                transaction.open_table(TABLE)?.insert(1, 1)?;
                Ok::<_, redb::Error>(())
            }));
            check_refused(store.read_transaction().map(drop));
            let many = store.begin_many([(&one, idemstore::Fingerprint::NONE)]);
            many.into_iter().for_each(check_refused);
            assert_eq!(store.stats().changes, 0);
            assert_eq!(store.close().expect("it is nothing"), 0);
        });
    });
}

/// Polls a future that is ready at once.
fn ready<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

/// What a child does with its copies of the parent's handles.
type Act = fn((Permit, Execution, Interrupted));

#[test]
fn every_handle_of_a_child_is_refused() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        drop(start(&store, "interrupted"));
        let interrupted = || match begin(&store, "interrupted").expect("begin answers") {
            Begin::Interrupted(interrupted) => interrupted,
            other => panic!("{other:?}"),
        };
        // The parent's handles, of which each child has a copy.
        let (kept, left, taken) = (permit(&store, "kept"), start(&store, "left"), interrupted());
        let handles = RefCell::new(Some((kept, left, taken)));
        let take = || handles.borrow_mut().take().expect("nobody has them");
        let acts: [Act; 6] = [
            |(kept, left, taken)| {
                check_refused(kept.start());
                check_said(left.complete("result"));
                check_refused(taken.retry());
            },
            |(kept, mut left, taken)| {
                check_said(kept.complete("result"));
                check_said(left.checkpoint("far"));
                check_refused(left.abandon());
                check_said(taken.resolve("result"));
            },
            |(kept, left, taken)| {
                kept.release();
                left.detach();
                check_refused(taken.abandon());
            },
            |(kept, left, taken)| {
                check_refused(ready(kept.start_async()));
                check_said(ready(left.complete_async("result")));
                check_refused(ready(taken.retry_async()));
            },
            |(kept, left, taken)| {
                check_said(kept.complete_with(|transaction| {
                    transaction.open_table(TABLE)?.insert(1, 1)?;
                    Ok::<_, redb::Error>("result")
                }));
                check_said(left.complete_digest("result"));
                check_said(ready(taken.resolve_async("result")));
            },
            drop,
        ];
        for act in acts {
            Child::fork(|| act(take())).join();
        }
        // In the parent they are all unchanged.
        let (kept, left, taken) = take();
        complete_started(kept.start().expect("it starts"));
        complete_started(left);
        complete_started(taken.retry().expect("it starts"));
        close(store);
        check_in(directory.path(), &["kept", "left", "interrupted"]);
    });
}

#[test]
fn a_child_may_wait_for_nothing_of_its_parents() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        let execution = start(&store, "started");
        let Begin::InFlight(waiter) = begin(&store, "started").expect("begin answers") else {
            panic!("it is in flight")
        };
        let waiter = RefCell::new(Some(waiter));
        let take = || waiter.borrow_mut().take().expect("nobody has it");
        Child::fork(|| check_refused(take().wait(Duration::from_secs(60)))).join();
        complete_started(execution);
        let answer = take().wait(Duration::from_secs(60)).expect("it is answered");
        assert!(matches!(answer, Begin::Replay(_)), "{answer:?}");
    });
}

#[test]
fn children_of_a_parent_that_writes_all_the_time_do_no_harm() {
    alone(|| {
        for sweeper in [false, true] {
            let directory = directory();
            let store =
                small().background_thread(sweeper).open(directory.path()).expect("the store opens");
            let inherited = Inherited::of(store.clone());
            let stop = AtomicBool::new(false);
            let done = thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    // Enough to fill and settle the log again and again.
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        complete(&store, &format!("key {done}"));
                        done += 1;
                    }
                    done
                });
                for round in 0..60 {
                    Child::fork(|| {
                        let store = inherited.take();
                        match round % 4 {
                            0 => drop(store),
                            1 => drop(store.close()),
                            2 => check_refused(begin(&store, "key 0")),
                            _ => check_refused(store.settle()),
                        }
                    })
                    .join();
                }
                stop.store(true, Ordering::Relaxed);
                writer.join().expect("the parent goes on")
            });
            drop(inherited);
            close(store);
            let store = open(directory.path());
            for number in 0..done {
                check(&store, [&*format!("key {number}")]);
            }
            close(store);
        }
    });
}

#[test]
fn a_child_that_outlives_its_parents_store_keeps_it_locked() {
    alone(|| {
        let directory = directory();
        let (ends, ended) = (directory.path().join("ends"), directory.path().join("store"));
        let store = open(&ended);
        complete(&store, "one");
        let child = Child::fork(|| until("the end", || ends.exists().then_some(())));
        close(store);
        // It shares the open files, and there's no telling what it does with them.
        let error = small().open(&ended).expect_err("the child is there");
        assert!(matches!(error, OpenError::Locked), "{error:?}");
        std::fs::write(&ends, "").expect("there is room");
        child.join();
        check_in(&ended, &["one"]);
    });
}

#[test]
fn a_child_may_open_a_store_of_its_own() {
    alone(|| {
        let directory = directory();
        let (of_parent, of_child) =
            (directory.path().join("parent"), directory.path().join("child"));
        let store = open(&of_parent);
        complete(&store, "of the parent");
        Child::fork(|| {
            let error = small().open(&of_parent).expect_err("the parent has it open");
            assert!(matches!(error, OpenError::Locked), "{error:?}");
            let store = open(&of_child);
            complete(&store, "of the child");
            close(store);
        })
        .join();
        complete(&store, "and again");
        close(store);
        check_in(&of_parent, &["of the parent", "and again"]);
        check_in(&of_child, &["of the child"]);
    });
}
