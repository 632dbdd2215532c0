//! Futures that wait for a key in flight.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use idemstore::{Begin, Error, Fingerprint, Store};

use super::{NOISE, builder, check, clock, key, live, peak_of, permit, turn};

type Wait = Pin<Box<dyn Future<Output = Result<Begin, Error>>>>;

struct Nothing;

impl Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

/// A future that waits for the key 0, with its own waker.
fn wait(store: &Store) -> impl Future<Output = Result<Begin, Error>> + use<> {
    match store.begin(&key(0), Fingerprint::NONE).expect("begin answers") {
        Begin::InFlight(in_flight) => in_flight.wait_async(),
        other => panic!("{other:?}"),
    }
}

fn poll(future: Pin<&mut (impl Future + ?Sized)>) {
    let waker = Waker::from(Arc::new(Nothing));
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

#[test]
fn a_wait_that_was_given_up_takes_nothing() {
    const GIVEN_UP: usize = 1_000_000;
    let _turn = turn();
    let store = builder(&clock()).open_in_memory().expect("there is room");
    let _held = permit(&store, 0);
    let mut stays = pin!(wait(&store));
    poll(stays.as_mut());
    let peak = peak_of(|| {
        for _ in 0..GIVEN_UP {
            poll(pin!(wait(&store)));
        }
    });
    check("waits that were given up", peak, NOISE);
    poll(stays.as_mut());
}

#[test]
fn a_future_that_waits_takes_512_bytes_at_most_and_none_once_it_is_dropped() {
    const WAITING: usize = 100_000;
    let _turn = turn();
    let store = builder(&clock()).open_in_memory().expect("there is room");
    let _held = permit(&store, 0);
    let mut stays = pin!(wait(&store));
    poll(stays.as_mut());
    let before = live();
    let mut waits: Vec<Wait> = (0..WAITING).map(|_| Box::pin(wait(&store)) as Wait).collect();
    for wait in &mut waits {
        poll(wait.as_mut());
    }
    check("futures that wait", live() - before, 512 * WAITING);
    drop(waits);
    check("futures that waited", live().saturating_sub(before), NOISE);
}
