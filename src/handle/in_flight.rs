//! An operation that another caller holds.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Begin, begin};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::{Fingerprint, Key};
use crate::local::Engine;
use crate::local::index::{Located, Outcome, Waiters};
use crate::local::wakers::Place;
use crate::rules::record::Done;
use crate::sync::Arc;

/// An operation that another caller is running, or is about to run.
#[derive(Clone)]
pub struct InFlight {
    engine: Arc<Engine>,
    at: Located,
    fingerprint: Fingerprint,
    since: Timestamp,
}

impl InFlight {
    pub(crate) fn new(
        engine: Arc<Engine>,
        at: Located,
        fingerprint: Fingerprint,
        since: Timestamp,
    ) -> Self {
        Self { engine, at, fingerprint, since }
    }

    /// Returns when the caller that holds the key began, as of the last look at the key.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns how long that caller has held the key.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.engine.time.now().saturating_since(self.since)
    }

    /// Waits for the outcome, for at most `timeout`, then answers as `begin` would.
    ///
    /// The answer is a replay if the operation was completed meanwhile, and `InFlight` again if the
    /// time ran out first. If the other caller released the key, one of the waiting callers gets
    /// it.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # use std::time::Duration;
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let Begin::InFlight(in_flight) = store.begin(&key, request)? else { panic!() };
    /// # let other = std::thread::spawn(|| permit.complete("receipt 17"));
    /// match in_flight.wait(Duration::from_secs(10))? {
    ///     Begin::Replay(completed) => assert_eq!(completed.result(), b"receipt 17"),
    ///     Begin::InFlight(_) => println!("it still runs: try again later"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # other.join().expect("no panic")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Store::begin`](crate::Store::begin).
    pub fn wait(mut self, timeout: Duration) -> Result<Begin, Error> {
        self.engine.journal.check_process()?;
        // A timeout beyond the range of the clock is no timeout.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(waiters) = self.join() {
                match waiters.wait_until(deadline) {
                    None => {
                        self.leave(waiters);
                        // Another caller may hold the key by now.
                        self.since = self.engine.index.since(self.at()).unwrap_or(self.since);
                        return Ok(Begin::InFlight(self));
                    }
                    Some(Outcome::Gone) => {}
                    Some(Outcome::Completed(done)) => return Ok(self.answer(done)),
                }
            }
            match self.ask()? {
                // Another caller was faster: wait for that caller.
                Begin::InFlight(newer)
                    if deadline.is_none_or(|deadline| Instant::now() < deadline) =>
                {
                    self = newer;
                }
                begin => return Ok(begin),
            }
        }
    }

    /// [`InFlight::wait`] as a future, which is woken by the outcome. It has no timeout: wrap it in
    /// the timeout of your runtime. Dropping it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`InFlight::wait`].
    pub async fn wait_async(mut self) -> Result<Begin, Error> {
        self.engine.journal.spawn_helper()?;
        loop {
            if let Some(waiters) = self.join()
                && let Outcome::Completed(done) = Waiting::new(&self, waiters).await
            {
                return Ok(self.answer(done));
            }
            match self.ask()? {
                // Another caller was faster: wait for that caller.
                Begin::InFlight(newer) => self = newer,
                begin => return Ok(begin),
            }
        }
    }

    fn at(&self) -> Located<&Key> {
        self.at.by_ref()
    }

    /// Joins the waiters of the key, if it's held.
    fn join(&self) -> Option<Arc<Waiters>> {
        let waiters = self.engine.index.join_waiters(self.at())?;
        // Check after joining: a store that ends later wakes everyone who has joined.
        if self.engine.journal.check().is_err() {
            self.leave(waiters);
            return None;
        }
        Some(waiters)
    }

    /// Stops waiting.
    fn leave(&self, waiters: Arc<Waiters>) {
        if self.engine.journal.check_process().is_err() {
            return;
        }
        self.engine.index.leave_waiters(self.at(), waiters);
    }

    /// Asks about the request again.
    fn ask(&self) -> Result<Begin, Error> {
        begin(&self.engine, self.at(), self.fingerprint)
    }

    fn answer(&self, done: Done) -> Begin {
        Begin::waited(&self.engine, self.at(), self.fingerprint, done)
    }
}

/// A future that waits for the outcome of a key, along with other waiters.
struct Waiting<'f> {
    in_flight: &'f InFlight,
    /// `None` once this future has left.
    waiters: Option<Arc<Waiters>>,
    /// The place where the waiters keep this future's waker.
    place: Option<Place>,
}

impl<'f> Waiting<'f> {
    fn new(in_flight: &'f InFlight, waiters: Arc<Waiters>) -> Self {
        Self { in_flight, waiters: Some(waiters), place: None }
    }
}

impl Future for Waiting<'_> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Self { waiters, place, .. } = self.get_mut();
        match waiters {
            Some(waiters) => {
                waiters.poll(context.waker().clone(), place).map_or(Poll::Pending, Poll::Ready)
            }
            None => Poll::Ready(Outcome::Gone),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(waiters) = self.waiters.take() else { return };
        // In a forked child, a lock may be held by a thread that the child does not have.
        let is_here = self.in_flight.engine.journal.check_process().is_ok();
        let left = self.place.filter(|_| is_here).and_then(|place| waiters.leave(place));
        self.in_flight.leave(waiters);
        drop(left);
    }
}
