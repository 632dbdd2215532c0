//! An operation that another caller has in hand.

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

/// An operation that another caller runs now, or is about to.
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

    /// When the caller that holds the key began, as it was found last.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How long that caller has held the key.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.engine.time.now().saturating_since(self.since)
    }

    /// Waits for the outcome, at most for this time, then answers as `begin` would.
    ///
    /// The answer is a replay if the operation was completed meanwhile, and `InFlight` again if
    /// the time was over first. If the other caller gave the key up, one of those who wait gets it.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`](crate::Store::begin).
    pub fn wait(mut self, timeout: Duration) -> Result<Begin, Error> {
        self.engine.journal.check_process()?;
        // A time-out beyond what a clock can tell is none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(waiters) = self.join() {
                match waiters.wait_until(deadline) {
                    None => {
                        self.leave(waiters);
                        // Another caller may have it by now.
                        self.since = self.engine.index.since(self.at()).unwrap_or(self.since);
                        return Ok(Begin::InFlight(self));
                    }
                    Some(Outcome::Gone) => {}
                    Some(Outcome::Completed(done)) => return Ok(self.answer(done)),
                }
            }
            match self.ask()? {
                // Somebody else was faster: wait for them.
                Begin::InFlight(newer)
                    if deadline.is_none_or(|deadline| Instant::now() < deadline) =>
                {
                    self = newer;
                }
                begin => return Ok(begin),
            }
        }
    }

    /// [`InFlight::wait`] as a future, which is woken by the outcome. It knows no time: put the
    /// time-out of your runtime around it. Dropping it changes nothing.
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
                // Somebody else was faster: wait for them.
                Begin::InFlight(newer) => self = newer,
                begin => return Ok(begin),
            }
        }
    }

    fn at(&self) -> Located<&Key> {
        self.at.by_ref()
    }

    /// Joins those who wait for the key, if somebody holds it.
    fn join(&self) -> Option<Arc<Waiters>> {
        let waiters = self.engine.index.join_waiters(self.at())?;
        // The check comes after the join: a store that ends later wakes all who have joined.
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

    /// Asks once more.
    fn ask(&self) -> Result<Begin, Error> {
        begin(&self.engine, self.at(), self.fingerprint)
    }

    fn answer(&self, done: Done) -> Begin {
        Begin::waited(&self.engine, self.at(), self.fingerprint, done)
    }
}

/// Waits for the outcome of a key, among others.
struct Waiting<'f> {
    in_flight: &'f InFlight,
    /// `None` once it has left.
    waiters: Option<Arc<Waiters>>,
    /// Where they keep this one's waker.
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
        // In a forked child a lock may be held by a thread that the child does not have.
        let is_here = self.in_flight.engine.journal.check_process().is_ok();
        let left = self.place.filter(|_| is_here).and_then(|place| waiters.leave(place));
        self.in_flight.leave(waiters);
        drop(left);
    }
}
