//! The store: the calls, and what happens on them.

use std::fmt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::begin::{Begin, Completed, Execution, InFlight, Interrupted, Permit};
use crate::builder::Builder;
use crate::clock::{Time, Timestamp};
use crate::error::{CompleteError, Error, FinishError, OpenError};
use crate::hold::Hold;
use crate::index::{Attach, Candidates, Index, Probe, Verdict};
use crate::journal::Journal;
use crate::key::{Fingerprint, Key};
use crate::record::{Record, RecordId};
use crate::stats::Stats;
use crate::sync::{Arc, Mutex};
use crate::transition::{self, Answer, Finish, Holder};
use crate::wake::Wake;

/// A store that is open for reading and writing. Clones are cheap and share it.
///
/// The store is closed by [`Store::close`], or when the last clone and the last handle are gone.
///
/// ```
/// use idemstore::{Begin, Fingerprint, Key, Store};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let store = Store::open(path)?;
/// let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
///
/// let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
/// let execution = permit.start()?;
/// // Here the effect happens.
/// execution.complete("receipt 17")?;
///
/// let Begin::Replay(completed) = store.begin(&key, request)? else { panic!("it is done") };
/// assert_eq!(completed.result(), b"receipt 17");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones and all handles of a store share.
pub(crate) struct Shared {
    pub(crate) index: Arc<Index>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) time: Arc<Time>,
    pub(crate) options: Options,
    pub(crate) wake: Arc<Wake>,
    pub(crate) sweeper: Mutex<Option<JoinHandle<()>>>,
}

/// What the calls need to know of how the store was built.
pub(crate) struct Options {
    pub(crate) retention: Duration,
    pub(crate) result_len_max: usize,
    pub(crate) keys_max: usize,
}

impl Store {
    /// Opens the store in this directory, and makes it if it is not there.
    ///
    /// What an earlier run has started and not completed is interrupted from now on: the lock on
    /// the directory proves that nobody is left who runs it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// A store with other than the default options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks what to do about a request: `key` names the operation, and `fingerprint` tells this
    /// request from any other of the same key.
    ///
    /// Nothing is stored by this call, whatever the answer. A fresh key and one in flight are
    /// answered from memory; for one at rest its record is read.
    ///
    /// # Errors
    ///
    /// Any of [`Error`] but `OutcomeUnknown`. The operation must not run then.
    pub fn begin(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        let begin = self.answer(key, fingerprint)?;
        match self.shared.journal.check() {
            // What was durable when writing failed is durable now.
            Err(Error::Poisoned(_)) if matches!(begin, Begin::Replay(_) | Begin::Mismatch) => {}
            // Dropping the answer lets go of the key.
            checked => checked?,
        }
        Ok(begin)
    }

    fn answer(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        let Shared { index, time, .. } = &*self.shared;
        let hash = index.hash(key.framed());
        loop {
            let now = time.now();
            let probe = match index.probe(key, hash, &fingerprint, now) {
                Probe::Read(candidates) => {
                    match self.read_answer(key, hash, &fingerprint, &candidates, now)? {
                        Some(probe) => probe,
                        // The key has moved on while its record was read.
                        None => continue,
                    }
                }
                probe => probe,
            };
            return self.hand_out(probe, key, hash, fingerprint, now);
        }
    }

    /// Answers for a key at rest from its record in the vault; `None` to ask again.
    fn read_answer(
        &self,
        key: &Key,
        hash: u64,
        fingerprint: &Fingerprint,
        candidates: &Candidates,
        now: Timestamp,
    ) -> Result<Option<Probe>, Error> {
        let Some(record) = self.read(key, hash, candidates)? else { return Ok(None) };
        let answer = transition::begin(Holder::Nobody, record.as_deref(), fingerprint, now);
        let verdict = match (answer, record) {
            (Answer::Replay, Some(record)) => return Ok(Some(Probe::Replay(record))),
            (Answer::Mismatch, _) => return Ok(Some(Probe::Mismatch)),
            (Answer::Interrupted, Some(record)) => Verdict::Interrupted(record),
            _ => Verdict::Free,
        };
        Ok(self.shared.index.settle_probe(key, hash, candidates, verdict, now))
    }

    /// The key's own record among the candidates, or `Some(None)` if each is another key's;
    /// `None` if one was gone before it could be read.
    #[expect(clippy::option_option, reason = "the outer one says whether to ask again")]
    fn read(
        &self,
        key: &Key,
        hash: u64,
        candidates: &Candidates,
    ) -> Result<Option<Option<Arc<Record>>>, Error> {
        for id in &candidates.ids {
            match self.shared.journal.read(*id)? {
                Some(record) if record.key == *key => return Ok(Some(Some(Arc::new(record)))),
                Some(_) => {}
                None if self.is_missing(hash, *id) => {
                    return Err(Error::Corrupt { detail: "it is missing".to_owned() });
                }
                None => return Ok(None),
            }
        }
        Ok(Some(None))
    }

    /// Whether a record that the vault does not have should be there. It need not be if it was
    /// removed meanwhile, or has expired: a key that expires before its record is settled is free.
    fn is_missing(&self, hash: u64, id: RecordId) -> bool {
        self.shared.index.has(hash, id) && transition::is_live(id, self.shared.time.now())
    }

    fn hand_out(
        &self,
        probe: Probe,
        key: &Key,
        hash: u64,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Result<Begin, Error> {
        Ok(match probe {
            Probe::Reserved => {
                let permit = Permit::new(
                    self.hold(key, hash),
                    fingerprint,
                    now,
                    self.shared.options.retention,
                );
                self.shared.check_room()?;
                Begin::Fresh(permit)
            }
            Probe::Interrupted(record) => {
                Begin::Interrupted(Interrupted::new(self.hold(key, hash), record))
            }
            Probe::InFlight { since } => {
                Begin::InFlight(InFlight::new(self.clone(), key.clone(), hash, fingerprint, since))
            }
            Probe::Replay(record) => Begin::Replay(Completed::new(record)),
            Probe::Mismatch | Probe::Read(_) => Begin::Mismatch,
        })
    }

    fn hold(&self, key: &Key, hash: u64) -> Hold {
        Hold::new(Arc::clone(&self.shared), key.clone(), hash)
    }

    /// Stores the result of an operation that was [detached](Execution::detach), or that was
    /// interrupted and has ended elsewhere since.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`FinishError`]. A refused result leaves the operation as it was.
    pub fn complete(&self, key: &Key, result: impl AsRef<[u8]>) -> Result<Completed, FinishError> {
        let completed = match self.attach(key)? {
            Attached::Execution(execution) => {
                execution.complete(result).map_err(|error| error.map_handle(Execution::detach))
            }
            Attached::Interrupted(interrupted) => {
                interrupted.resolve(result).map_err(|error| error.map_handle(drop))
            }
        };
        completed.map_err(FinishError::Complete)
    }

    /// Frees the key of an operation that was [detached](Execution::detach), or that was
    /// interrupted, and whose effect did not happen.
    ///
    /// Returns once that is durable.
    ///
    /// # Errors
    ///
    /// [`FinishError`].
    pub fn abandon(&self, key: &Key) -> Result<(), FinishError> {
        let abandoned = match self.attach(key)? {
            Attached::Execution(execution) => execution.abandon(),
            Attached::Interrupted(interrupted) => interrupted.abandon(),
        };
        abandoned.map_err(|error| FinishError::Complete(CompleteError::Store(error)))
    }

    /// Takes in hand an execution that nobody holds.
    fn attach(&self, key: &Key) -> Result<Attached, FinishError> {
        let Shared { index, time, journal, .. } = &*self.shared;
        journal.check()?;
        let hash = index.hash(key.framed());
        loop {
            let now = time.now();
            let candidates = match index.attach(key, hash, now) {
                Attach::Execution(record) => {
                    return Ok(Attached::Execution(Execution::new(self.hold(key, hash), record)));
                }
                Attach::Interrupted(record) => {
                    return Ok(self.attach_interrupted(key, hash, record));
                }
                Attach::Held => return Err(FinishError::Held),
                Attach::NotExecuting => return Err(FinishError::NotExecuting),
                Attach::Read(candidates) => candidates,
            };
            let Some(record) = self.read(key, hash, &candidates)? else { continue };
            let record = match transition::finish(Holder::Nobody, record.as_deref(), now) {
                Finish::Open => record,
                Finish::Held | Finish::NotExecuting => None,
            };
            let Some(record) = record else { return Err(FinishError::NotExecuting) };
            let verdict = Verdict::Interrupted(Arc::clone(&record));
            if index.settle_probe(key, hash, &candidates, verdict, now).is_some() {
                return Ok(self.attach_interrupted(key, hash, record));
            }
        }
    }

    fn attach_interrupted(&self, key: &Key, hash: u64, record: Arc<Record>) -> Attached {
        Attached::Interrupted(Interrupted::new(self.hold(key, hash), record))
    }

    /// Deletes one bounded slice of expired records, and says how many those were; 0 when none is
    /// left.
    ///
    /// The background thread does this by itself. Whether a key has expired does not depend on
    /// it: an expired record that is not deleted yet counts for nothing.
    ///
    /// # Errors
    ///
    /// Any of [`Error`] but `Overloaded`.
    pub fn sweep(&self) -> Result<usize, Error> {
        self.shared.journal.sweep()
    }

    /// Moves everything that the log holds into the vault.
    ///
    /// The background thread does this by itself, and so does a call that finds the log full.
    ///
    /// # Errors
    ///
    /// Any of [`Error`] but `Overloaded`.
    pub fn settle(&self) -> Result<(), Error> {
        self.shared.journal.settle()
    }

    /// What the store holds now, and what it has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.shared.index, &self.shared.journal)
    }

    /// Closes the store for all clones and handles, and says whether everything is in its place.
    ///
    /// Calls that are waiting for their fsync get their answer; later calls get
    /// [`Error::Closed`]. An execution that is under way is interrupted when the store is opened
    /// again. Closing twice is no error.
    ///
    /// # Errors
    ///
    /// `Poisoned` if the log could not be settled, `OutcomeUnknown` if the vault's file could not
    /// be closed. What was acknowledged is safe in the log either way.
    pub fn close(self) -> Result<(), Error> {
        self.shared.close()
    }
}

/// An execution that was taken in hand by its key.
enum Attached {
    Execution(Execution),
    Interrupted(Interrupted),
}

impl Shared {
    /// A number for a new record.
    pub(crate) fn take_serial(&self) -> Result<u64, Error> {
        let overloaded = Error::Overloaded {
            bound: "the number of records ever made",
            max: 1 << crate::limits::PACKED_BITS,
        };
        self.index.take_serial().ok_or(overloaded)
    }

    fn check_room(&self) -> Result<(), Error> {
        let max = self.options.keys_max;
        if self.index.records() < max {
            return Ok(());
        }
        Err(Error::Overloaded { bound: "the number of keys", max: max as u64 })
    }

    fn close(&self) -> Result<(), Error> {
        self.wake.stop();
        if let Some(sweeper) = self.sweeper.lock().take() {
            // A sweeper that panicked has nothing more to say: what matters was said below.
            let _ = sweeper.join();
        }
        match self.journal.close() {
            Err(Error::Closed) => Ok(()),
            closed => closed,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever wants to know calls `Store::close`.
        let _ = self.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
