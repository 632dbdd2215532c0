//! The engine: reads what is known of a key, applies the rules, and claims the key for the caller.

use std::time::Duration;

use crate::canary;
use crate::clock::{Time, Timestamp};
use crate::error::{Bound, Error};
use crate::key::Key;
use crate::local::change::RecordId;
use crate::local::index::{Asked, Candidates, Index, Located};
use crate::local::journal::Journal;
use crate::local::wake::Wake;
use crate::rules::record::Record;
use crate::rules::retention::is_live;
use crate::rules::{Decision, Known, Take};
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, Mutex};

/// The state that all clones and all handles of a store share.
pub(crate) struct Engine {
    pub(crate) index: Arc<Index>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) time: Arc<Time>,
    pub(crate) options: Options,
    pub(crate) wake: Arc<Wake>,
    pub(crate) sweeper: Mutex<Option<JoinHandle<()>>>,
    /// Whether other users could read or write the files when the store was opened.
    pub(crate) exposed: bool,
}

/// The settings of the store that its calls need.
pub(crate) struct Options {
    pub(crate) retention: Duration,
    pub(crate) result_len_max: usize,
}

impl Engine {
    /// Claims a key by its stored record, if the rule permits.
    pub(crate) fn take(
        &self,
        at: Located<&Key>,
        rule: impl Fn(Known<'_>) -> Decision<Take>,
    ) -> Result<Take, Error> {
        self.journal.check()?;
        // Inside a transaction the claim could not be released again, so refuse it first.
        self.journal.check_caller()?;
        self.ask(at, rule)
    }

    /// Applies a rule to a key: reads what is known of it, and claims it if the rule says so and
    /// nothing has changed in the meantime.
    pub(crate) fn ask<T>(
        &self,
        at: Located<&Key>,
        rule: impl Fn(Known<'_>) -> Decision<T>,
    ) -> Result<T, Error> {
        loop {
            let now = self.time.now();
            let asked = match self.index.ask(at, now, &rule) {
                Asked::Read(candidates) => self.ask_vault(at, &candidates, now, &rule)?,
                asked => asked,
            };
            match asked {
                Asked::Answered(answer) => return Ok(answer),
                Asked::Full(bound) => self.make_room(bound)?,
                Asked::Read(_) | Asked::Changed => {}
            }
        }
    }

    /// Applies a rule to a key at rest, using its record in the vault.
    fn ask_vault<T>(
        &self,
        at: Located<&Key>,
        candidates: &Candidates,
        now: Timestamp,
        rule: impl Fn(Known<'_>) -> Decision<T>,
    ) -> Result<Asked<T>, Error> {
        let Found::Record(record) = self.read(at, candidates)? else { return Ok(Asked::Changed) };
        let known = Known::at_rest(record.as_ref(), now);
        // A completed operation stays completed: a replay doesn't need a second look at the table.
        if known.is_final()
            && let Decision { answer, claim: None } = rule(known)
        {
            return Ok(Asked::Answered(answer));
        }
        Ok(self.index.claim(at, candidates, record.as_ref(), now, rule))
    }

    /// The record of this key among the candidates.
    fn read(&self, at: Located<&Key>, candidates: &Candidates) -> Result<Found, Error> {
        for id in &candidates.ids {
            match self.journal.read(*id)? {
                Some(record) if record.key == *at.key || canary::sings("compares hashes only") => {
                    return Ok(Found::Record(Some(Arc::new(record))));
                }
                Some(_) => {}
                None if self.is_missing(at.hash, *id) => {
                    return Err(Error::Corrupt { detail: "it is missing".to_owned() });
                }
                None => return Ok(Found::Gone),
            }
        }
        Ok(Found::Record(None))
    }

    /// Whether a record that the vault doesn't have should be there. It need not be there if it has
    /// been removed in the meantime or has expired: a key that expires before its record is settled
    /// is free.
    fn is_missing(&self, hash: u64, id: RecordId) -> bool {
        self.index.has(hash, id) && is_live(id.expires_at, self.time.now())
    }

    /// Makes room for one more key, if only expired keys stand in the way.
    fn make_room(&self, bound: Bound) -> Result<(), Error> {
        match self.journal.make_room() {
            Ok(true) => Ok(()),
            // Inside a transaction nothing can be swept.
            Ok(false) | Err(Error::InTransaction) => Err(Error::Overloaded { bound }),
            Err(error) => Err(error),
        }
    }

    /// The secret from which the keys that an operation passes to its callees are derived. Every
    /// copy of the store has the same one.
    pub(crate) fn callee_secret(&self) -> &[u8; 32] {
        self.journal.callee_secret()
    }

    /// Closes the store, and returns how many started operations still have a handle. Closing it
    /// again isn't an error, and returns 0.
    pub(crate) fn close(&self) -> Result<usize, Error> {
        if self.journal.check_process().is_err() {
            return Ok(0);
        }
        self.journal.check_caller()?;
        self.wake.stop();
        if let Some(sweeper) = self.sweeper.lock().take() {
            // A panic of the sweeper needs no report here: closing the journal below reports what
            // matters.
            let _ = sweeper.join();
        }
        match self.journal.close() {
            Err(Error::Closed) => Ok(0),
            closed => closed,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Call `Store::close` to find out whether closing succeeds.
        let _ = self.close();
    }
}

/// The result of looking a key up in the vault.
enum Found {
    /// The key's record, or `None` if every candidate belongs to another key.
    Record(Option<Arc<Record>>),
    /// A candidate was gone before it could be read.
    Gone,
}
