//! Futures and the end of their store: each is answered, and the end never waits forever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use idemstore::sim::OpenOn;
use idemstore::{CompleteError, Error, Fingerprint, ManualClock, OpenError, Store};

use super::{Completing, Door, Future, LONG, OnWake, completion, hand_in, until};
use crate::support::waiting::block_on;
use crate::support::{Answers, Bench, SimDisk, builder, key};

#[test]
fn what_was_handed_in_is_durable_when_the_store_has_closed() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let mut written = completion(&bench, "written");
    hand_in(&mut written);
    door.wait_for_a_stall();
    let mut queued = completion(&bench, "queued");
    hand_in(&mut queued);
    let late = completion(&bench, "late");
    let store = bench.store.clone();
    let close = thread::spawn(move || store.close());
    door.open();
    close.join().expect("it does not panic").expect("it closes");
    block_on(written).expect("it completes");
    block_on(queued).expect("it completes");
    let error = block_on(late).expect_err("the store is closed");
    assert!(matches!(error, CompleteError::Store(Error::Closed)), "{error:?}");

    let bench = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock);
    assert_eq!(bench.begin("queued", "request").replay().result(), b"queued");
    bench.begin("late", "request").fresh();
}

/// The store, reopened as soon as the dropped one has let go of its files.
fn opened_when_it_can_be(disk: &SimDisk, clock: &ManualClock) -> Store {
    let mut opened = None;
    until(|| match builder(clock).open_on(disk.clone()) {
        Ok(store) => opened.replace(store).is_none(),
        Err(OpenError::Locked) => false,
        Err(error) => panic!("{error}"),
    });
    opened.expect("it was opened")
}

#[test]
fn the_last_handle_may_go_with_a_future_that_is_on_its_way() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let mut start: Future<'static, _> = Box::pin(bench.begin("k", "request").fresh().start_async());
    hand_in(&mut start);
    door.wait_for_a_stall();
    let Bench { disk, clock, store, .. } = bench;
    drop((store, start));
    door.open();
    // A call under way holds the store open until it has arrived and was undone.
    let store = opened_when_it_can_be(&disk, &clock);
    store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers").fresh();
}

/// A task that only its waker keeps alive, with a future and a store.
struct Last {
    _store: Store,
    future: Mutex<Option<Completing>>,
    woken: AtomicBool,
    ended: Sender<bool>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.ended.send(*self.woken.get_mut());
    }
}

impl Wake for Last {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_may_be_the_last_to_hold_the_store() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let (ended, has_ended) = channel();
    let last = Arc::new(Last {
        _store: bench.store.clone(),
        future: Mutex::default(),
        woken: AtomicBool::new(false),
        ended,
    });
    let waker = Waker::from(Arc::clone(&last));
    let mut complete = completion(&bench, "k");
    assert!(complete.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    *last.future.lock().expect("nobody has panicked") = Some(complete);
    door.wait_for_a_stall();
    let Bench { disk, clock, store, .. } = bench;
    drop((store, last, waker));
    door.open();
    // The store closes on the thread that wakes.
    assert!(has_ended.recv_timeout(LONG).expect("it is woken"), "it ended before that");
    let store = opened_when_it_can_be(&disk, &clock);
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    assert_eq!(begin.replay().result(), b"k");
}

#[test]
fn a_task_that_is_woken_may_hand_in_a_change_and_close_the_store() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let scene = Mutex::new(Some((completion(&bench, "last"), bench.store.clone())));
    let (closed, is_closed) = channel();
    let waker = Waker::from(Arc::new(OnWake(move || {
        let taken = scene.lock().expect("nobody has panicked").take();
        let (mut last, store) = taken.expect("it is woken once");
        // The thread that would write it is this one, and the close is waiting for it.
        hand_in(&mut last);
        store.close().expect("it closes");
        closed.send(last).expect("the test waits");
    })));
    let mut first = completion(&bench, "first");
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    door.wait_for_a_stall();
    door.open();
    let last = is_closed.recv_timeout(LONG).expect("the close waits for nobody else");
    block_on(first).expect("it completes");
    block_on(last).expect("it completes");

    let bench = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock);
    assert_eq!(bench.begin("last", "request").replay().result(), b"last");
}

#[test]
fn a_disk_that_panics_is_an_error_for_all_who_wait() {
    let bench = Bench::new();
    let door = Door::on(&bench.disk);
    door.close();
    let mut written = completion(&bench, "written");
    hand_in(&mut written);
    door.wait_for_a_stall();
    let (mut queued, late) = (completion(&bench, "queued"), completion(&bench, "late"));
    hand_in(&mut queued);
    let mut wait: Future<'_, _> =
        Box::pin(bench.begin("written", "request").in_flight().wait_async());
    hand_in(&mut wait);
    bench.disk.fail_as(
        crate::support::disk::Fault {
            on: crate::support::disk::Op::Sync,
            after: 0,
            for_good: false,
            kind: std::io::ErrorKind::Other,
        },
        crate::support::disk::Manner::Panic,
    );
    door.open();
    let error = block_on(written).expect_err("the disk has panicked");
    assert!(matches!(error, CompleteError::Store(Error::OutcomeUnknown(_))), "{error:?}");
    for future in [queued, late] {
        let error = block_on(future).expect_err("the store has failed");
        assert!(matches!(error, CompleteError::Store(Error::Poisoned(_))), "{error:?}");
    }
    assert!(matches!(block_on(wait), Err(Error::Poisoned(_))));
}
