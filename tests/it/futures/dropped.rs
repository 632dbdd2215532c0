//! Futures that are dropped at every point where they can be: afterwards the key is committed or
//! free, or interrupted if it was before, and never stays held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use idemstore::{Error, Execution, Interrupted, Permit, Status, Store};

use super::{Door, Future, OnWake, completion, hand_in, poll, until};
use crate::support::waiting::block_on;
use crate::support::{Answers, Bench, key};

/// When the future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before it is polled for the first time.
    Unpolled,
    /// While the leader of its batch waits for the disk.
    BeingWritten,
    /// While another batch is being written.
    Queued,
    /// When its change is durable, but it has not been polled again.
    Durable,
}

const MOMENTS: [Moment; 4] =
    [Moment::Unpolled, Moment::BeingWritten, Moment::Queued, Moment::Durable];

/// Drops a future at this moment. A caller that shares its batch still gets an answer.
fn drop_at<T>(moment: Moment, bench: &Bench, mut future: Future<'_, T>) {
    if moment == Moment::Unpolled {
        return drop(future);
    }
    let door = Door::on(&bench.disk);
    door.close();
    let (mut before, mut mate) = (completion(bench, "before"), completion(bench, "mate"));
    if moment == Moment::Queued {
        hand_in(&mut before);
        door.wait_for_a_stall();
    }
    hand_in(&mut future);
    hand_in(&mut mate);
    if moment == Moment::BeingWritten {
        door.wait_for_a_stall();
    }
    if moment == Moment::Durable {
        door.open();
        block_on(mate).expect("the mate completes");
        drop(future);
    } else {
        drop(future);
        door.open();
        block_on(mate).expect("the mate completes");
    }
    block_on(before).expect("the one before completes");
}

/// The state of the key `k` once it is let go of, which must be the same in a store opened
/// afterwards.
fn left(bench: Bench) -> Option<(Status, u32)> {
    until(|| bench.store.stats().in_flight == 0);
    let look = |store: &Store| {
        let info = store.get(&key("k")).expect("get answers");
        info.map(|info| (info.status(), info.attempts()))
    };
    let left = look(&bench.store);
    // Nor is it in flight for the next caller.
    match bench.store.begin(&key("k"), idemstore::Fingerprint::of("request")) {
        Ok(idemstore::Begin::InFlight(_)) | Err(_) => panic!("nobody holds it"),
        Ok(_) => {}
    }
    assert_eq!(look(&bench.reopen().store), left, "opened anew");
    left
}

fn fresh(bench: &Bench) -> Permit {
    bench.begin("k", "request").fresh()
}

fn started(bench: &Bench) -> Execution {
    fresh(bench).start().expect("it starts")
}

fn interrupted(bench: &Bench) -> Interrupted {
    drop(started(bench));
    bench.begin("k", "request").interrupted()
}

/// Makes a call for the key `k` in a new store, drops it at each moment, and returns what is left.
fn each_moment<T>(
    mut call: impl FnMut(&Bench) -> Future<'static, T>,
) -> [Option<(Status, u32)>; MOMENTS.len()] {
    MOMENTS.map(|moment| {
        let bench = Bench::new();
        let future = call(&bench);
        drop_at(moment, &bench, future);
        left(bench)
    })
}

const FREE: Option<(Status, u32)> = None;
const COMPLETED: Option<(Status, u32)> = Some((Status::Completed, 1));
const INTERRUPTED: Option<(Status, u32)> = Some((Status::Interrupted, 1));

#[test]
fn a_start_that_nobody_was_told_of_has_not_run() {
    let left = each_moment(|bench| Box::pin(fresh(bench).start_async()));
    assert_eq!(left, [FREE; 4]);
}

#[test]
fn a_result_that_was_handed_in_is_stored() {
    let left = each_moment(|bench| Box::pin(fresh(bench).complete_async("result")));
    assert_eq!(left, [FREE, COMPLETED, COMPLETED, COMPLETED]);
    let left = each_moment(|bench| Box::pin(started(bench).complete_async("result")));
    assert_eq!(left, [INTERRUPTED, COMPLETED, COMPLETED, COMPLETED]);
    let left = each_moment(|bench| Box::pin(started(bench).complete_digest_async("result")));
    let tombstone = Some((Status::NotKept, 1));
    assert_eq!(left, [INTERRUPTED, tombstone, tombstone, tombstone]);
    let left = each_moment(|bench| Box::pin(interrupted(bench).resolve_async("result")));
    assert_eq!(left, [INTERRUPTED, COMPLETED, COMPLETED, COMPLETED]);
}

#[test]
fn a_key_that_was_given_up_is_free() {
    let left = each_moment(|bench| Box::pin(started(bench).abandon_async()));
    assert_eq!(left, [INTERRUPTED, FREE, FREE, FREE]);
    let left = each_moment(|bench| Box::pin(interrupted(bench).abandon_async()));
    assert_eq!(left, [INTERRUPTED, FREE, FREE, FREE]);
}

#[test]
fn a_retry_that_nobody_was_told_of_is_interrupted_again() {
    let left = each_moment(|bench| Box::pin(interrupted(bench).retry_async()));
    let again = Some((Status::Interrupted, 2));
    assert_eq!(left, [INTERRUPTED, again, again, again]);
}

#[test]
fn many_that_were_handed_in_are_each_left_as_one_is() {
    let left = each_moment(|bench| {
        let permits = vec![fresh(bench), bench.begin("l", "request").fresh()];
        let store = bench.store.clone();
        Box::pin(async move { store.start_many_async(permits).await })
    });
    assert_eq!(left, [FREE; 4]);
    let left = each_moment(|bench| {
        let results = vec![(started(bench), "result")];
        let store = bench.store.clone();
        Box::pin(async move { store.complete_many_async(results).await })
    });
    assert_eq!(left, [INTERRUPTED, COMPLETED, COMPLETED, COMPLETED]);
}

#[test]
fn what_is_finished_by_its_key_was_taken_by_the_first_poll() {
    let calls: [fn(Store) -> Future<'static, bool>; 3] = [
        |store| Box::pin(async move { store.complete_async(&key("k"), "result").await.is_ok() }),
        |store| Box::pin(async move { store.abandon_async(&key("k")).await.is_ok() }),
        |store| Box::pin(async move { store.forget_async(&key("k")).await.is_ok() }),
    ];
    let ends = [COMPLETED, FREE, FREE];
    for (at, (call, end)) in calls.into_iter().zip(ends).enumerate() {
        for moment in MOMENTS {
            let bench = Bench::new();
            if at < 2 {
                started(&bench).detach();
            } else {
                bench.complete("k", "request", "r");
            }
            drop_at(moment, &bench, call(bench.store.clone()));
            if moment == Moment::Unpolled {
                // Nothing has happened: the call can still be made.
                assert!(block_on(call(bench.store.clone())));
            }
            assert_eq!(left(bench), end, "{moment:?} {at}");
        }
    }
}

/// What follows a dropped checkpoint.
#[derive(Clone, Copy, Debug)]
enum Next {
    Drop,
    Complete,
    /// The execution is detached, and finished by key before the checkpoint has arrived.
    Detach,
    /// And after that.
    DetachLong,
    Abandon,
}

/// An execution whose checkpoint was dropped continues at once: nothing that is still on its way
/// gets in between.
#[test]
fn an_execution_goes_on_after_a_checkpoint_that_was_dropped() {
    for (next, end) in [
        (Next::Drop, INTERRUPTED),
        (Next::Complete, COMPLETED),
        (Next::Detach, COMPLETED),
        (Next::DetachLong, COMPLETED),
        (Next::Abandon, FREE),
    ] {
        let bench = Bench::new();
        let mut execution = started(&bench);
        let door = Door::on(&bench.disk);
        door.close();
        let mut checkpoint: Future<'_, _> = Box::pin(execution.checkpoint_async("half"));
        hand_in(&mut checkpoint);
        door.wait_for_a_stall();
        drop(checkpoint);
        let mut finish: Future<'_, bool> = match next {
            Next::Drop => {
                drop(execution);
                bench.begin("k", "request").in_flight();
                Box::pin(async { true })
            }
            Next::Complete => {
                Box::pin(async move { execution.complete_async("result").await.is_ok() })
            }
            Next::Abandon => Box::pin(async move { execution.abandon_async().await.is_ok() }),
            Next::Detach | Next::DetachLong => {
                execution.detach();
                let store = bench.store.clone();
                Box::pin(async move { store.complete_async(&key("k"), "result").await.is_ok() })
            }
        };
        let is_done = !matches!(next, Next::DetachLong) && poll(&mut finish).is_ready();
        door.open();
        bench.complete("later", "request", "result");
        assert!(is_done || block_on(finish), "{next:?}");
        if matches!(next, Next::Drop) {
            until(|| bench.store.stats().in_flight == 0);
            let interrupted = bench.begin("k", "request").interrupted();
            assert_eq!(interrupted.last_checkpoint(), Some(&b"half"[..]));
        }
        assert_eq!(left(bench), end, "{next:?}");
    }
}

#[test]
fn a_start_is_undone_before_anybody_else_has_the_key() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let mut start: Future<'_, _> = Box::pin(fresh(&bench).start_async());
    hand_in(&mut start);
    door.wait_for_a_stall();
    let wait = bench.begin("k", "request").in_flight().wait_async();
    drop(start);
    bench.begin("k", "request").in_flight();
    door.open();
    block_on(wait).expect("wait answers").fresh();
}

#[test]
fn a_start_that_fails_leaves_nothing_behind_in_flight() {
    use crate::support::disk::{Fault, Op};
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let mut start: Future<'_, _> = Box::pin(fresh(&bench).start_async());
    hand_in(&mut start);
    let mut queued: Future<'_, _> =
        Box::pin(bench.begin("queued", "request").fresh().start_async());
    door.wait_for_a_stall();
    hand_in(&mut queued);
    drop((start, queued));
    bench.disk.fail(Fault {
        on: Op::Sync,
        after: 0,
        for_good: true,
        kind: std::io::ErrorKind::Other,
    });
    door.open();
    until(|| bench.store.stats().in_flight == 0);
    let error = bench.store.begin(&key("other"), idemstore::Fingerprint::NONE);
    assert!(matches!(error, Err(Error::Poisoned(_))), "{error:?}");
}

#[test]
fn those_who_stop_waiting_are_forgotten() {
    let bench = Bench::new();
    let permit = fresh(&bench);
    let mut waits: Vec<Future<'_, _>> = Vec::new();
    for _ in 0..3 {
        let wait = bench.begin("k", "request").in_flight().wait_async();
        waits.push(Box::pin(wait));
    }
    waits.iter_mut().for_each(hand_in);
    assert_eq!(bench.store.stats().waited_for, 1);
    drop(waits);
    assert_eq!(bench.store.stats().waited_for, 0);
    permit.complete("result").expect("it completes");
}

/// A future with its own waker.
struct Woken<'f, T> {
    future: Future<'f, T>,
    wakes: Arc<AtomicUsize>,
}

impl<'f, T> Woken<'f, T> {
    fn new(future: impl std::future::Future<Output = T> + Send + 'f) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    /// Polls it with a different waker each time. All of them share its count.
    fn poll(&mut self) -> Poll<T> {
        let wakes = Arc::clone(&self.wakes);
        let count = OnWake(move || {
            wakes.fetch_add(1, Ordering::SeqCst);
        });
        self.future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(count))))
    }

    fn wakers_kept(&self) -> usize {
        Arc::strong_count(&self.wakes) - 1
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }
}

#[test]
fn a_waker_leaves_with_its_future() {
    let bench = Bench::new();
    let permit = fresh(&bench);
    let wait = || Woken::new(bench.begin("k", "request").in_flight().wait_async());
    let mut stays = wait();
    let mut left = [wait(), wait()];
    for wait in left.iter_mut().chain([&mut stays]) {
        for _ in 0..2 {
            assert!(wait.poll().is_pending());
        }
        assert_eq!(wait.wakers_kept(), 1);
    }
    for Woken { future, wakes } in left {
        drop(future);
        assert_eq!(Arc::strong_count(&wakes), 1, "its waker is still kept");
    }
    assert_eq!(stays.wakers_kept(), 1);

    // The same where it waits for its own change.
    let door = Door::on(&bench.disk);
    door.close();
    let mut complete = Woken::new(permit.complete_async("result"));
    assert!(complete.poll().is_pending());
    door.wait_for_a_stall();
    assert_eq!(complete.wakers_kept(), 1);
    let Woken { future, wakes } = complete;
    drop(future);
    assert_eq!(Arc::strong_count(&wakes), 1, "its waker is still kept");
    door.open();
    until(|| stays.wakes() == 1);
    assert!(stays.poll().is_ready());
    assert_eq!(wakes.load(Ordering::SeqCst), 0, "it had left");
}

#[test]
fn each_future_is_woken_once_although_others_have_left_before() {
    let bench = Bench::new();
    let permit = fresh(&bench);
    let wait = || {
        let mut wait = Woken::new(bench.begin("k", "request").in_flight().wait_async());
        assert!(wait.poll().is_pending());
        wait
    };
    // Each place but the first is vacated, alternately before and after others come.
    let mut waits = vec![wait()];
    for _ in 0..3 {
        let (left, after) = (wait(), wait());
        drop(left);
        waits.extend([after, wait()]);
        waits.swap_remove(1);
    }
    for wait in &mut waits {
        assert!(wait.poll().is_pending());
    }
    permit.complete("result").expect("it completes");
    for wait in &mut waits {
        until(|| 0 < wait.wakes());
        match wait.poll() {
            Poll::Ready(begin) => begin.expect("wait answers").replay(),
            Poll::Pending => panic!("it was woken for nothing"),
        };
    }
    assert!(waits.iter().all(|wait| wait.wakes() == 1));
}
