//! Futures beside blocking calls: none waits forever, and what a dropped future leaves behind is in
//! no call's way.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use idemstore::{Begin, CompleteError, Error, Fingerprint, Status};
use shuttle::future::block_on;
use shuttle::rand::Rng;
use shuttle::thread;

use super::support::{Answers, Bench, Started, key};
use super::{ask, call, explore};

/// Polls a future this many times, each time after it was woken, and then drops it, unless it is
/// ready.
async fn poll_at_most<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The next poll is the last: the future isn't woken before it is ready.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn times() -> usize {
    shuttle::rand::thread_rng().gen_range(0..3)
}

#[test]
fn futures_and_threads_share_batches_that_are_durable() {
    explore(
        |_| {},
        |bench| {
            thread::scope(|scope| {
                for writer in 0..3 {
                    let bench = &bench;
                    scope.spawn(move || {
                        let name = format!("writer {writer}");
                        let permit = ask(bench, &name).fresh();
                        if writer == 0 {
                            permit.complete(&name).expect("it completes");
                        } else {
                            let execution = block_on(permit.start_async()).expect("it starts");
                            block_on(execution.complete_async(&name)).expect("it completes");
                        }
                        let disk = bench.disk.after_power_cut(|_| 0);
                        let after = Bench::on(disk, bench.clock.clone());
                        assert_eq!(ask(&after, &name).replay().result(), name.as_bytes());
                    });
                }
            });
        },
    );
}

#[test]
fn a_start_that_is_dropped_leaves_its_key_to_others() {
    explore(
        |_| {},
        |bench| {
            let effects = AtomicUsize::new(0);
            let permit = ask(&bench, "key").fresh();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let started = block_on(poll_at_most(times(), permit.start_async()));
                    if let Some(execution) = started {
                        effects.fetch_add(1, Ordering::SeqCst);
                        execution.expect("it starts").complete("key").expect("it completes");
                    }
                });
                scope.spawn(|| assert_eq!(call(&bench, "key", &effects).result(), b"key"));
            });
            assert_eq!(effects.into_inner(), 1);
        },
    );
}

#[test]
fn what_is_dropped_on_its_way_never_leaves_a_key_in_flight() {
    explore(
        |bench| drop(bench.begin("interrupted", "request").started()),
        |bench| {
            let execution = ask(&bench, "executing").started();
            let retried = ask(&bench, "interrupted").interrupted();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut execution = execution;
                    block_on(poll_at_most(times(), execution.checkpoint_async("half")));
                    block_on(poll_at_most(times(), execution.complete_async("executing")));
                });
                scope.spawn(|| drop(block_on(poll_at_most(times(), retried.retry_async()))));
                scope.spawn(|| {
                    let permit = ask(&bench, "other").fresh();
                    permit.complete("other").expect("it completes");
                });
            });
            // A call under way arrives, whether or not a caller waits for it.
            while bench.store.stats().in_flight != 0 {
                thread::yield_now();
            }
            for name in ["executing", "interrupted"] {
                let info = bench.store.get(&key(name)).expect("get answers");
                let status = info.expect("it is stored").status();
                assert!(matches!(status, Status::Completed | Status::Interrupted), "{status:?}");
            }
        },
    );
}

#[test]
fn of_futures_that_wait_one_gets_the_key_and_all_its_result() {
    explore(
        |_| {},
        |bench| {
            let effects = AtomicUsize::new(0);
            let permit = ask(&bench, "key").fresh();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mut begin = ask(&bench, "key");
                        loop {
                            begin = match begin {
                                Begin::InFlight(in_flight) => {
                                    let wait = poll_at_most(times() + 1, in_flight.wait_async());
                                    match block_on(wait) {
                                        Some(begin) => begin.expect("wait answers"),
                                        None => ask(&bench, "key"),
                                    }
                                }
                                Begin::Fresh(permit) => {
                                    effects.fetch_add(1, Ordering::SeqCst);
                                    let complete = block_on(permit.complete_async("key"));
                                    complete.expect("it completes");
                                    break;
                                }
                                begin => {
                                    assert_eq!(begin.replay().result(), b"key");
                                    break;
                                }
                            };
                        }
                    });
                }
                scope.spawn(|| drop(permit));
            });
            assert_eq!(effects.into_inner(), 1);
            assert_eq!(bench.store.stats().waited_for, 0);
        },
    );
}

#[test]
fn a_close_beside_futures_answers_each_of_them() {
    explore(
        |_| {},
        |bench| {
            let store = bench.store.clone();
            let done = thread::scope(|scope| {
                let writers: Vec<_> = (0..2)
                    .map(|writer| {
                        let bench = &bench;
                        scope.spawn(move || {
                            let name = format!("writer {writer}");
                            let begin = bench.store.begin(&key(&name), Fingerprint::of("request"));
                            let Ok(Begin::Fresh(permit)) = begin else { return None };
                            match block_on(permit.complete_async(&name)) {
                                Ok(_) => Some(name),
                                Err(CompleteError::Store(Error::Closed)) => None,
                                Err(error) => panic!("{error}"),
                            }
                        })
                    })
                    .collect();
                scope.spawn(|| store.close().expect("it closes"));
                let done = writers.into_iter().filter_map(|writer| writer.join().expect("it ends"));
                done.collect::<Vec<_>>()
            });
            let after = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
            for name in done {
                assert_eq!(ask(&after, &name).replay().result(), name.as_bytes());
            }
        },
    );
}

#[test]
fn a_sync_that_fails_answers_each_future() {
    use super::support::disk::{Fault, Op};
    explore(
        |_| {},
        |bench| {
            bench.disk.fail(Fault {
                on: Op::Sync,
                after: times() as u64,
                for_good: true,
                kind: std::io::ErrorKind::Other,
            });
            thread::scope(|scope| {
                for writer in 0..3 {
                    let bench = &bench;
                    scope.spawn(move || {
                        let name = format!("writer {writer}");
                        let begin = bench.store.begin(&key(&name), Fingerprint::of("request"));
                        let Ok(Begin::Fresh(permit)) = begin else { return };
                        match block_on(poll_at_most(times(), permit.complete_async(&name))) {
                            None
                            | Some(
                                Ok(_)
                                | Err(CompleteError::Store(
                                    Error::OutcomeUnknown(_) | Error::Poisoned(_),
                                )),
                            ) => {}
                            Some(Err(error)) => panic!("{error}"),
                        }
                    });
                }
            });
        },
    );
}
