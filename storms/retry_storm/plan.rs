//! The requests to the store. All of them follow from the seed, so that the parent, its child and
//! the next child agree without talking to each other.

use std::collections::HashSet;
use std::path::Path;

use idemstore::{Fingerprint, Key, KeyError, LOG_BYTES_DEFAULT, LOG_BYTES_MIN, OpenError, Store};

use crate::rng::Rng;

/// Old orders that a new child requests again: all of them must replay.
const OLD_ORDERS: u32 = 200;
/// How far the next order comes behind in the work list, and how far apart its requests are. So ten
/// orders are under way together, and the requests for one order meet.
const STEP: u64 = 10;
const SPREAD: u64 = 100;

/// The body that a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Original,
    /// The key of an order with a different body: must be refused, and never executed.
    Changed,
}

/// An order, and what its clients will do with it.
pub(crate) struct Order {
    pub(crate) number: u32,
    /// How often each child requests it, unless the child knows that it's done.
    requests: u32,
    /// Whether a client also sends it with a changed body.
    pub(crate) has_changed: bool,
    /// What happens if it was interrupted before its effect: abandon and begin again, or retry.
    pub(crate) abandons: bool,
    cents: u64,
    receipt_len: usize,
}

impl Order {
    pub(crate) fn new(seed: u64, number: u32) -> Self {
        let mut rng = Rng::new(seed, u64::from(number));
        let requests = if rng.one_in(2) { 3 } else { 4 + u32::from(rng.one_in(2)) };
        let has_changed = rng.one_in(10);
        // An abandoned key is free, and any body may claim it then. Orders that meet a changed body
        // are never abandoned, so the changed body has to be refused at all times.
        let abandons = !has_changed && rng.one_in(2);
        // Long receipts are stored apart from their records.
        let receipt_len = if rng.one_in(8) { 1_000 } else { 200 };
        Self { number, requests, has_changed, abandons, cents: rng.below(1_000_000), receipt_len }
    }

    pub(crate) fn key(&self) -> Result<Key, KeyError> {
        Key::scoped("retry-storm", format!("order-{}", self.number))
    }

    pub(crate) fn fingerprint(&self, body: Body) -> Fingerprint {
        Fingerprint::of_parts(["POST", "/orders", &self.text(body)])
    }

    /// The result of executing this body as this attempt.
    pub(crate) fn receipt(&self, body: Body, attempt: u32) -> String {
        let digest = blake3::hash(self.text(body).as_bytes()).to_hex();
        let line = format!("receipt order={} attempt={attempt} body={digest} ", self.number);
        format!("{line:.<len$}", len = self.receipt_len)
    }

    fn text(&self, body: Body) -> String {
        let cents = self.cents + u64::from(body == Body::Changed);
        format!(r#"{{"order":{},"cents":{cents}}}"#, self.number)
    }
}

/// One client's wish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) order: u32,
    pub(crate) body: Body,
    /// Makes the client's choices.
    pub(crate) stream: u64,
}

/// The requests of one child, in the order in which clients take them: all orders that aren't known
/// to be done, and some old ones.
pub(crate) fn work(seed: u64, orders: u32, generation: u32, done: &HashSet<u32>) -> Vec<Request> {
    let mut rng = Rng::new(seed ^ Rng::GOLDEN, u64::from(generation));
    let mut work = Vec::new();
    let mut at = 0;
    for number in 0..orders {
        if !done.contains(&number) {
            at += STEP;
            push_requests(&mut work, &Order::new(seed, number), at, &mut rng);
        } else if rng.below(done.len() as u64) < u64::from(OLD_ORDERS) {
            let at = rng.below(u64::from(OLD_ORDERS) * STEP);
            push_requests(&mut work, &Order::new(seed, number), at, &mut rng);
        }
    }
    work.sort_by_key(|(at, _)| *at);
    work.into_iter().map(|(_, request)| request).collect()
}

fn push_requests(work: &mut Vec<(u64, Request)>, order: &Order, at: u64, rng: &mut Rng) {
    let mut push = |at, body| {
        work.push((at, Request { order: order.number, body, stream: rng.draw() }));
        rng.below(SPREAD)
    };
    let mut behind = 0;
    for _ in 0..order.requests {
        behind = push(at + behind, Body::Original);
    }
    if order.has_changed {
        // It comes behind the first of the others, since it has to wait until that one has started.
        push(at + 1 + behind / 4, Body::Changed);
    }
}

/// Opens the store as this seed configures it. With a small log, segments fill up and are settled
/// all the time, even while the process is killed.
pub(crate) fn open(path: &Path, seed: u64) -> Result<Store, OpenError> {
    let log_bytes = match seed % 4 {
        1 => 256 * 1024,
        3 => LOG_BYTES_MIN,
        _ => LOG_BYTES_DEFAULT,
    };
    Store::builder().log_bytes(log_bytes).result_len_max(4096).open(path)
}
