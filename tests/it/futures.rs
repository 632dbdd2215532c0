//! The waiting calls as futures: they never block in any other way, and they are woken.

mod dropped;
mod ends;
mod waits;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use idemstore::{
    Begin, CheckpointError, CompleteError, Completed, Effect, Error, Fingerprint, Outcome, Permit,
    Status, Store,
};

use crate::support::disk::Op;
use crate::support::door::{Door, LONG};
use crate::support::waiting::block_on;
use crate::support::{Answers, Bench, Started, key};

/// A future that is polled by hand.
type Future<'f, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'f>>;

fn poll<T>(future: &mut Future<'_, T>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn hand_in<T>(future: &mut Future<'_, T>) {
    assert!(poll(future).is_pending(), "nothing is durable before the disk says so");
}

type Completing = Future<'static, Result<Completed, CompleteError<Permit>>>;

/// A completion of a new key, not yet submitted. Its result is the key.
fn completion(bench: &Bench, name: &'static str) -> Completing {
    Box::pin(bench.begin(name, "request").fresh().complete_async(name))
}

/// Returns once this is true. If it never becomes true, the test fails.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + LONG;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it never comes to that");
        thread::sleep(Duration::from_micros(200));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it is built")
}

#[test]
fn what_waits_for_no_disk_is_ready_at_once() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let name = key("k");
    let mut begin: Future<'_, _> =
        Box::pin(bench.store.begin_async(&name, Fingerprint::of("request")));
    let Poll::Ready(Ok(Begin::Fresh(permit))) = poll(&mut begin) else { panic!("it is new") };
    let mut get: Future<'_, _> = Box::pin(bench.store.get_async(&name));
    let Poll::Ready(Ok(Some(info))) = poll(&mut get) else { panic!("it is held") };
    assert_eq!(info.status(), Status::Reserved);
    drop(permit);
    let mut get: Future<'_, _> = Box::pin(bench.store.get_async(&name));
    assert!(matches!(poll(&mut get), Poll::Ready(Ok(None))), "it is free");
    door.open();
}

#[test]
fn one_thread_goes_on_while_the_disk_stands_still() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let order = |store: Store, name: String| async move {
        let permit = store.begin(&key(&name), Fingerprint::NONE)?.fresh();
        let completed = permit.start_async().await?.complete_async(&name).await;
        completed.map(|completed| completed.result().to_vec()).map_err(|_| Error::Closed)
    };
    let results: Vec<_> = runtime().block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| tokio::spawn(order(bench.store.clone(), format!("task {task}"))))
            .collect();
        // This one continues although nothing is durable, and so does the thread's other work.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        door.wait_for_a_stall();
        assert!(tasks.iter().all(|task| !task.is_finished()));
        assert_eq!(bench.store.stats().in_flight, 64);
        door.open();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.expect("no task panics").expect("it completes"));
        }
        results
    });
    for (task, result) in results.iter().enumerate() {
        assert_eq!(*result, format!("task {task}").into_bytes());
    }
    // All starts but the first shared a sync, and no completion waited for more than one.
    let stats = bench.store.stats();
    assert_eq!(stats.changes, 128);
    assert!(stats.batches <= 2 + 64, "{} batches", stats.batches);
}

#[test]
fn callers_that_block_and_futures_share_their_batches() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let mut first = completion(&bench, "first");
    hand_in(&mut first);
    door.wait_for_a_stall();
    thread::scope(|scope| {
        let mut others = [completion(&bench, "future 1"), completion(&bench, "future 2")];
        others.iter_mut().for_each(hand_in);
        for name in ["blocked 1", "blocked 2"] {
            let permit = bench.begin(name, "request").fresh();
            scope.spawn(move || permit.complete("result").expect("it completes"));
        }
        // Both wait in the queue, as far as can be seen from here.
        thread::sleep(Duration::from_millis(20));
        door.open();
        block_on(first).expect("it completes");
        for other in others {
            block_on(other).expect("it completes");
        }
    });
    let syncs = bench.disk.operations(Op::Sync);
    assert!(bench.store.stats().batches <= 3, "{syncs} syncs");
}

#[test]
fn a_result_that_is_refused_gives_its_handle_back() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let refused =
        block_on(execution.complete_async(vec![0; 17 * 1024])).expect_err("it is too long");
    let CompleteError::TooLarge { len: 17_408, max: 16_384, mut handle } = refused else {
        panic!("{refused:?}")
    };
    let refused =
        block_on(handle.checkpoint_async(vec![0; 17 * 1024])).expect_err("it is too long");
    assert!(matches!(refused, CheckpointError::TooLarge { .. }), "{refused:?}");
    block_on(handle.complete_async("short")).expect("it completes");
    assert_eq!(bench.begin("k", "request").replay().result(), b"short");
}

#[test]
fn many_futures_are_answered_each_in_its_place() {
    let (bench, other) = (Bench::new(), Bench::new());
    let names: Vec<_> = (0..2_500).map(|name| format!("{name}")).collect();
    let mut permits: Vec<_> =
        names.iter().map(|name| bench.begin(name, "request").fresh()).collect();
    permits.insert(1, other.begin("stray", "request").fresh());
    let mut started = block_on(bench.store.start_many_async(permits));
    assert!(matches!(started.remove(1), Err(Error::OtherStore)));
    other.begin("stray", "request").fresh();

    let results = started.into_iter().enumerate().map(|(at, execution)| {
        let len = if at == 2_000 { 17 * 1024 } else { 3 };
        (execution.expect("it starts"), vec![b'r'; len])
    });
    let completed = block_on(bench.store.complete_many_async(results));
    assert_eq!(completed.len(), names.len());
    for (name, completed) in names.iter().zip(completed) {
        match completed {
            Ok(completed) => {
                assert_eq!(completed.key(), &key(name));
                assert_eq!(completed.result(), b"rrr");
            }
            Err(refused) => {
                assert_eq!(name, "2000", "{refused:?}");
                refused.into_handle().expect("it is given back").abandon().expect("it is freed");
            }
        }
    }
    // 2,500 starts and as many completions, as many as this small log takes with one wait.
    assert!(bench.store.stats().batches <= 20, "{:?}", bench.store.stats());
}

#[test]
fn an_operation_in_one_call() {
    let bench = Bench::new();
    let run = |name: &'static str, effect: Effect<&'static str, &'static str>| {
        let store = bench.store.clone();
        // It can be spawned, so it is `Send`.
        runtime().block_on(async move {
            let ran = tokio::spawn(async move {
                let key = key(name);
                store
                    .run_async(&key, Fingerprint::NONE, async |execution| {
                        execution.checkpoint_async("half").await.expect("it is stored");
                        tokio::task::yield_now().await;
                        effect
                    })
                    .await
            });
            ran.await.expect("it does not panic").expect("it runs")
        })
    };
    assert!(matches!(run("done", Effect::Done("result")), Outcome::Done(_)));
    let Outcome::Replay(replay) = run("done", Effect::Done("another")) else {
        panic!("it is done")
    };
    assert_eq!(replay.result(), b"result");
    let declined = run("declined", Effect::DidNotHappen("declined"));
    assert!(matches!(declined, Outcome::DidNotHappen("declined")));
    assert!(matches!(run("declined", Effect::Done("paid")), Outcome::Done(_)));
    assert!(matches!(run("lost", Effect::Unknown("no answer")), Outcome::Unknown("no answer")));
    let Outcome::Interrupted(interrupted) = run("lost", Effect::Done("paid")) else {
        panic!("it is interrupted")
    };
    assert_eq!(interrupted.last_checkpoint(), Some(&b"half"[..]));
    let again = block_on(interrupted.run_async(async |execution| {
        assert_eq!(execution.attempt(), 2);
        Effect::<_, ()>::Done("paid")
    }));
    assert!(matches!(again, Ok(Outcome::Done(_))));
}

/// What it does when it is woken.
struct OnWake<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn a_task_that_is_woken_may_call_the_store() {
    let bench = Bench::new();
    let woken = Arc::new(AtomicUsize::new(0));
    let (store, counter) = (bench.store.clone(), Arc::clone(&woken));
    let waker = Waker::from(Arc::new(OnWake(move || {
        // Each of these takes a lock of the store.
        drop(store.begin(&key("another"), Fingerprint::NONE).map(drop));
        let _ = store.stats();
        drop(store.settle());
        counter.fetch_add(1, Ordering::SeqCst);
    })));
    let mut context = Context::from_waker(&waker);

    let held = bench.begin("held", "request").started();
    let mut wait: Future<'_, _> = Box::pin(bench.begin("held", "request").in_flight().wait_async());
    assert!(wait.as_mut().poll(&mut context).is_pending());
    let mut complete: Future<'_, _> = Box::pin(held.complete_async("result"));
    let is_pending = complete.as_mut().poll(&mut context).is_pending();
    let expected = 1 + usize::from(is_pending);
    until(|| expected <= woken.load(Ordering::SeqCst));
    assert!(complete.as_mut().poll(&mut context).is_ready() || !is_pending);
    assert!(wait.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    let bench = Bench::new();
    let waker = Waker::from(Arc::new(OnWake(|| panic!("a waker panics"))));
    let door = Door::on(&bench.disk);
    door.close();
    let permit = bench.begin("one", "request").fresh();
    let mut one: Future<'_, _> = Box::pin(permit.complete_async("result"));
    assert!(one.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    door.wait_for_a_stall();
    // Three in one batch, of which the first panics and the second is dropped.
    let queued = |name: &str, waker: &Waker| {
        let permit = bench.begin(name, "request").fresh();
        let mut queued: Future<'_, _> = Box::pin(permit.complete_async("result"));
        assert!(queued.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        queued
    };
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let counting = Waker::from(Arc::new(OnWake(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    })));
    let (panics, dropped) = (queued("panics", &waker), queued("dropped", &counting));
    let mut mate = queued("mate", &counting);
    drop(dropped);
    door.open();
    until(|| woken.load(Ordering::SeqCst) == 1);
    assert!(poll(&mut mate).is_ready());
    until(|| bench.store.stats().in_flight == 0);
    for name in ["two", "three"] {
        let permit = bench.begin(name, "request").fresh();
        block_on(permit.complete_async("result")).expect("it completes");
    }
    for completed in [one, panics] {
        block_on(completed).expect("it completed");
    }
}
