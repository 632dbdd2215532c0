//! An operation that another caller has in hand.

use std::time::{Duration, Instant};

use crate::begin::Begin;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::index::{Look, Outcome, Waiters};
use crate::key::{Fingerprint, Key};
use crate::observe;
use crate::record::Record;
use crate::store::{Shared, Store};
use crate::sync::Arc;

/// An operation that another caller runs now, or is about to.
#[derive(Clone)]
pub struct InFlight {
    store: Store,
    key: Key,
    hash: u64,
    fingerprint: Fingerprint,
    since: Timestamp,
}

impl InFlight {
    pub(crate) fn new(
        store: Store,
        key: Key,
        hash: u64,
        fingerprint: Fingerprint,
        since: Timestamp,
    ) -> Self {
        Self { store, key, hash, fingerprint, since }
    }

    /// When the caller that holds the key began, as it was found last.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How long that caller has held the key.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.store.shared.time.now().saturating_since(self.since)
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
        self.store.shared.journal.check_process()?;
        // A time-out beyond what a clock can tell is none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(waiters) = self.join() {
                match waiters.wait_until(deadline) {
                    None => {
                        self.leave(waiters);
                        self.look();
                        return Ok(Begin::InFlight(self));
                    }
                    Some(Outcome::Gone) => {}
                    Some(Outcome::Completed(record)) => return self.answer(record),
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

    /// Joins those who wait for the key, if somebody holds it.
    pub(crate) fn join(&self) -> Option<Arc<Waiters>> {
        let waiters = self.store.shared.index.join_waiters(&self.key, self.hash)?;
        // The check comes after the join: a store that ends later wakes all who have joined.
        if self.store.shared.journal.check().is_err() {
            self.leave(waiters);
            return None;
        }
        Some(waiters)
    }

    /// Stops waiting.
    pub(crate) fn leave(&self, waiters: Arc<Waiters>) {
        if self.store.shared.journal.check_process().is_err() {
            return;
        }
        self.store.shared.index.leave_waiters(&self.key, self.hash, waiters);
    }

    /// Looks since when the key is held: another caller may have it by now.
    fn look(&mut self) {
        let Shared { index, time, .. } = &*self.store.shared;
        if let Look::Known { since, .. } = index.look(&self.key, self.hash, time.now()) {
            self.since = since;
        }
    }

    /// Asks once more.
    pub(crate) fn ask(&self) -> Result<Begin, Error> {
        self.store.begin(&self.key, self.fingerprint)
    }

    #[cfg(feature = "async")]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The key may have passed to another request since this caller has asked.
    pub(crate) fn answer(&self, record: Arc<Record>) -> Result<Begin, Error> {
        let answer = Ok(if record.fingerprint.matches(&self.fingerprint) {
            Begin::completed(record)
        } else {
            Begin::Mismatch
        });
        observe::answered(&answer);
        answer
    }
}
