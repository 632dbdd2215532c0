//! What `begin` answers, and the handles that the answers carry.
//!
//! A handle is consumed by the call that finishes it, so that a key cannot be finished twice.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::error::{CompleteError, Error};
use crate::hold::Hold;
use crate::index::Outcome;
use crate::key::{Fingerprint, Key};
use crate::record::{Record, RecordId, State};
use crate::store::Store;
use crate::sync::Arc;
use crate::transition;

/// What to do about a request.
#[derive(Debug)]
#[must_use = "the answer says whether the operation may run"]
#[non_exhaustive]
pub enum Begin {
    /// The key was never used, or its retention is over: run the operation.
    Fresh(Permit),
    /// The operation was completed before: answer with the stored result.
    Replay(Completed),
    /// The same operation is running now (HTTP would say 409): try again later, or
    /// [wait](InFlight::wait) for its outcome.
    InFlight(InFlight),
    /// The key was used for another request (HTTP would say 422). Nothing about that request is
    /// revealed.
    Mismatch,
    /// The operation was started, and whoever ran it is gone: its effect may have happened or not.
    /// Find out, then say so.
    Interrupted(Interrupted),
}

/// The right to run an operation that has not started. Nothing of it is stored.
///
/// Dropping it releases the key, as if it had never been asked for.
#[must_use = "dropping a permit releases the key: call `start` or `complete`"]
pub struct Permit {
    hold: Hold,
    fingerprint: Fingerprint,
    begun_at: Timestamp,
    retention: Duration,
}

impl Permit {
    pub(crate) fn new(
        hold: Hold,
        fingerprint: Fingerprint,
        begun_at: Timestamp,
        retention: Duration,
    ) -> Self {
        Self { hold, fingerprint, begun_at, retention }
    }

    /// The key that this permit holds.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.hold.key()
    }

    /// Keeps the result of this operation for as long as this, in place of the store's retention.
    /// It runs from the `begin` that gave this permit, in whole milliseconds.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Makes it durable that the operation runs from now on. Call it right before the effect, and
    /// after everything that can still refuse the request.
    ///
    /// Returns once the record is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]. The operation must not run then. Unless the outcome is unknown, the key
    /// is free.
    pub fn start(self) -> Result<Execution, Error> {
        let record = self.hold.put(self.started()?)?;
        Ok(Execution { hold: self.hold, record })
    }

    /// Stores the result of an operation that was never started, for one fsync in place of two.
    ///
    /// This is for effects that may be repeated: a crash before this returns leaves the key free,
    /// and the next `begin` runs the operation again.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result gives the permit back.
    #[expect(clippy::result_large_err, reason = "the error gives back what the caller handed in")]
    pub fn complete(mut self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        let started = self.started()?;
        let completed = self.hold.complete(started, result.as_ref());
        completed.map_err(|error| error.map_handle(|()| self))
    }

    /// Gives the key up, as if it had never been asked for. Dropping the permit does the same.
    pub fn release(self) {}

    fn started(&self) -> Result<Record, Error> {
        let expires_at = self.begun_at.saturating_add(self.retention);
        let serial = self.hold.shared().take_serial()?;
        let id = RecordId { expires_at, serial };
        Ok(transition::start(id, self.key().clone(), self.fingerprint, self.begun_at))
    }
}

/// An operation that runs: its start is durable.
///
/// Dropping it, by a panic too, does **not** free the key, because the effect may have happened:
/// the next `begin` is told that the operation was interrupted. [`Execution::abandon`] frees the
/// key. An execution that is leaked stays in flight until the process ends.
#[must_use = "dropping an execution leaves the key interrupted: call `complete` or `abandon`"]
pub struct Execution {
    hold: Hold,
    record: Arc<Record>,
}

impl Execution {
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        Self { hold, record }
    }

    /// The key that this execution holds.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.hold.key()
    }

    /// Which execution of the operation this is, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// When the operation was begun for the first time.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.record.begun_at
    }

    /// Stores the result. Every later `begin` is answered with it until the retention is over.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result gives the execution back. After any other error the
    /// effect has happened, but the result may not be stored: once the store is opened again, the
    /// key is completed or interrupted.
    pub fn complete(mut self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        let completed = self.hold.complete((*self.record).clone(), result.as_ref());
        completed.map_err(|error| error.map_handle(|()| self))
    }

    /// Frees the key: the effect did not happen, and the operation may be tried again.
    ///
    /// Returns once that is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]. The key is interrupted then, or free if the outcome is unknown and the
    /// store says so when it is opened again.
    pub fn abandon(self) -> Result<(), Error> {
        self.hold.remove(&self.record)
    }

    /// Leaves the operation running without a handle: it ends elsewhere, and is finished by its
    /// key with [`Store::complete`] or [`Store::abandon`]. It stays in flight until then, or until
    /// the process ends.
    pub fn detach(self) {
        self.hold.detach();
    }
}

/// An operation that was started, and whose outcome is unknown.
///
/// It holds the key, so that only one caller at a time can find out. Dropping it lets go of the
/// key, and the next `begin` is told the same.
#[must_use = "find out what became of the operation, then call `retry`, `resolve` or `abandon`"]
pub struct Interrupted {
    hold: Hold,
    record: Arc<Record>,
}

impl Interrupted {
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        Self { hold, record }
    }

    /// The key that this holds.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.hold.key()
    }

    /// Which execution was interrupted, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// When the operation was begun for the first time.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.record.begun_at
    }

    /// Runs the operation again, as the next attempt. This is for effects that can be repeated, or
    /// that are known not to have happened.
    ///
    /// Returns once the new attempt is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]. The operation must not run then, and stays interrupted; if the outcome is
    /// unknown, the new attempt may count.
    pub fn retry(self) -> Result<Execution, Error> {
        let record = self.hold.put(transition::retry(&self.record))?;
        Ok(Execution { hold: self.hold, record })
    }

    /// Stores the result of an effect that is known to have happened.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result gives this back.
    pub fn resolve(mut self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        let completed = self.hold.complete((*self.record).clone(), result.as_ref());
        completed.map_err(|error| error.map_handle(|()| self))
    }

    /// Frees the key: the effect is known not to have happened.
    ///
    /// Returns once that is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]. The operation stays interrupted then, or is free if the outcome is unknown
    /// and the store says so when it is opened again.
    pub fn abandon(self) -> Result<(), Error> {
        self.hold.remove(&self.record)
    }
}

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

    /// When the caller that holds the key began.
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
    /// As [`Store::begin`].
    pub fn wait(self, timeout: Duration) -> Result<Begin, Error> {
        // A time-out beyond what a clock can tell is none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            // The check comes after the join: a store that ends later wakes all who have joined.
            if let Some(waiters) = self.store.shared.index.join_waiters(&self.key, self.hash)
                && self.store.shared.journal.check().is_ok()
            {
                match waiters.wait_until(deadline) {
                    None => return Ok(Begin::InFlight(self)),
                    Some(Outcome::Gone) => {}
                    Some(Outcome::Completed(record)) => return Ok(self.answer(record)),
                }
            }
            match self.store.begin(&self.key, self.fingerprint)? {
                // Somebody else was faster: wait for them.
                Begin::InFlight(_) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                }
                begin => return Ok(begin),
            }
        }
    }

    /// The key may have passed to another request since this caller has asked.
    fn answer(&self, record: Arc<Record>) -> Begin {
        if record.fingerprint.matches(&self.fingerprint) {
            Begin::Replay(Completed::new(record))
        } else {
            Begin::Mismatch
        }
    }
}

/// A completed operation and its result.
#[derive(Clone)]
pub struct Completed {
    record: Arc<Record>,
}

impl Completed {
    /// `record` is of a completed operation.
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// The result, byte for byte as it was stored.
    #[must_use]
    pub fn result(&self) -> &[u8] {
        self.state().1
    }

    /// When the operation was begun for the first time. Its retention runs from here.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.record.begun_at
    }

    /// When its result was stored.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.state().0
    }

    /// When its retention is over: from this moment on the key is free.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.record.id.expires_at
    }

    /// Which execution was completed, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    fn state(&self) -> (Timestamp, &[u8]) {
        match &self.record.state {
            State::Completed { completed_at, result } => (*completed_at, result),
            State::Started => (self.record.begun_at, &[]),
        }
    }
}

/// None of the handles shows its key or its result.
macro_rules! opaque_debug {
    ($($handle:ty => $name:literal),* $(,)?) => {$(
        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )*};
}

opaque_debug!(
    Permit => "Permit",
    Execution => "Execution",
    Interrupted => "Interrupted",
    InFlight => "InFlight",
    Completed => "Completed",
);
