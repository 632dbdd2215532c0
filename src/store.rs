//! The store: the calls, and what happens on them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::begin::Begin;
use crate::bound::Bound;
use crate::builder::Builder;
use crate::canary;
use crate::clock::{Time, Timestamp};
use crate::error::{Error, FinishError, OpenError};
use crate::handle::{Completed, Execution, Hold, InFlight, Interrupted, Permit};
use crate::index::{Candidates, Index, Probe, Taken};
use crate::journal::Journal;
use crate::key::{Fingerprint, Key};
use crate::observe;
use crate::record::{Record, RecordId};
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, Mutex};
use crate::transition::{self, Answer, Holder, Take, TakeRule};
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
    /// Whether others may read or write the files, as the open found them.
    pub(crate) exposed: bool,
}

/// What the calls need to know of how the store was built.
pub(crate) struct Options {
    pub(crate) retention: Duration,
    pub(crate) result_len_max: usize,
}

impl Store {
    /// Opens the store in this directory, and makes it if it is not there.
    ///
    /// What an earlier run has started and not completed is interrupted from now on: the lock on
    /// the directory proves that no other process has it, and that no handle of it lives in this one.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// A store in memory with the default options, for tests of what uses a store. It keeps nothing.
    ///
    /// # Errors
    ///
    /// As [`Builder::open_in_memory`], which takes options.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::builder().open_in_memory()
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
        let answer = self.checked_answer(key, fingerprint);
        observe::answered(&answer);
        answer
    }

    fn checked_answer(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        // Before any lock is taken, which a thread that the child does not have may hold.
        self.shared.journal.check_process()?;
        let begin = self.answer(key, fingerprint)?;
        match self.shared.journal.check() {
            // What was durable when writing failed is durable now.
            Err(Error::Poisoned(_))
                if matches!(begin, Begin::Replay(_) | Begin::Tombstone(_) | Begin::Mismatch) => {}
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
            match self.hand_out(probe, key, hash, fingerprint, now) {
                Ok(begin) => return Ok(begin),
                Err(bound) => self.make_room(bound)?,
            }
        }
    }

    /// Makes room for one more key, where only keys that have expired take it.
    fn make_room(&self, bound: Bound) -> Result<(), Error> {
        match self.shared.journal.make_room() {
            Ok(true) => Ok(()),
            // Within a transaction nothing can be swept.
            Ok(false) | Err(Error::InTransaction) => Err(Error::Overloaded { bound }),
            Err(error) => Err(error),
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
        let (probe, record) = match (answer, record) {
            (Answer::Replay, Some(record)) => return Ok(Some(Probe::Replay(record))),
            (Answer::Mismatch, _) => return Ok(Some(Probe::Mismatch)),
            (Answer::Interrupted, Some(record)) => {
                (Probe::Interrupted(Arc::clone(&record)), Some(record))
            }
            _ => (Probe::Reserved, None),
        };
        Ok(match self.shared.index.reserve(key, hash, candidates, record, now) {
            Ok(reserved) => reserved.then_some(probe),
            Err(bound) => Some(Probe::Full(bound)),
        })
    }

    /// The key's own record among the candidates, or `Some(None)` if each is another key's;
    /// `None` if one was gone before it could be read.
    #[expect(clippy::option_option, reason = "the outer one says whether to ask again")]
    pub(crate) fn read(
        &self,
        key: &Key,
        hash: u64,
        candidates: &Candidates,
    ) -> Result<Option<Option<Arc<Record>>>, Error> {
        for id in &candidates.ids {
            match self.shared.journal.read(*id)? {
                Some(record) if record.key == *key || canary::sings("compares hashes only") => {
                    return Ok(Some(Some(Arc::new(record))));
                }
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
    ) -> Result<Begin, Bound> {
        Ok(match probe {
            Probe::Reserved => Begin::Fresh(Permit::new(
                self.hold(key, hash),
                fingerprint,
                now,
                self.shared.options.retention,
            )),
            Probe::Interrupted(record) => {
                Begin::Interrupted(Interrupted::new(self.hold(key, hash), record))
            }
            Probe::InFlight { since } => {
                Begin::InFlight(InFlight::new(self.clone(), key.clone(), hash, fingerprint, since))
            }
            Probe::Replay(record) => Begin::completed(record),
            Probe::Mismatch | Probe::Read(_) => Begin::Mismatch,
            Probe::Full(bound) => return Err(bound),
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
        let completed = match self.take(key, transition::take_execution)? {
            Hand::Execution(hold, record) => Execution::new(hold, record)
                .complete(result)
                .map_err(|error| error.map_handle(Execution::detach)),
            Hand::AtRest(hold, record) => Interrupted::new(hold, record)
                .resolve(result)
                .map_err(|error| error.map_handle(drop)),
            Hand::Held => return Err(FinishError::Held),
            Hand::Nothing => return Err(FinishError::NotExecuting),
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
        match self.take(key, transition::take_execution)? {
            Hand::Execution(hold, record) | Hand::AtRest(hold, record) => Ok(hold.remove(&record)?),
            Hand::Held => Err(FinishError::Held),
            Hand::Nothing => Err(FinishError::NotExecuting),
        }
    }

    /// Frees a key whose operation is completed before its retention is over, and says whether
    /// there was such a key. Nothing is done to one that is in flight or interrupted.
    ///
    /// The operation may run again after this. Returns once that is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`].
    pub fn forget(&self, key: &Key) -> Result<bool, Error> {
        match self.take(key, transition::take_completed)? {
            Hand::Execution(hold, record) | Hand::AtRest(hold, record) => {
                hold.remove(&record).map(|()| true)
            }
            Hand::Held | Hand::Nothing => Ok(false),
        }
    }

    /// Takes a key in hand for what is stored of it, if the rule allows that.
    pub(crate) fn take(&self, key: &Key, rule: TakeRule) -> Result<Hand, Error> {
        let Shared { index, time, journal, .. } = &*self.shared;
        journal.check()?;
        // Nothing is taken in hand that could not be put down again.
        journal.check_caller()?;
        let hash = index.hash(key.framed());
        loop {
            let now = time.now();
            let candidates = match index.take(key, hash, rule, now) {
                Taken::Execution(record) => {
                    return Ok(Hand::Execution(self.hold(key, hash), record));
                }
                Taken::AtRest(record) => return Ok(Hand::AtRest(self.hold(key, hash), record)),
                Taken::Held => return Ok(Hand::Held),
                Taken::Nothing => return Ok(Hand::Nothing),
                Taken::Read(candidates) => candidates,
            };
            let Some(record) = self.read(key, hash, &candidates)? else { continue };
            let open = rule(Holder::Nobody, record.as_deref(), now) == Take::Open;
            let Some(record) = record.filter(|_| open) else { return Ok(Hand::Nothing) };
            match index.reserve(key, hash, &candidates, Some(Arc::clone(&record)), now) {
                Ok(true) => return Ok(Hand::AtRest(self.hold(key, hash), record)),
                Ok(false) => {}
                // A key that has a record has its room.
                Err(bound) => return Err(Error::Overloaded { bound }),
            }
        }
    }

    /// Closes the store for all clones and handles, and says how many started operations still have a
    /// handle.
    ///
    /// Calls that are waiting for their fsync get their answer; later calls get
    /// [`Error::Closed`]. An execution that is under way is interrupted when the store is opened
    /// again. **The directory stays locked until the last [`Execution`] of this store is dropped**:
    /// until then its effect may be at work, and nobody is to be told that it was interrupted.
    /// Closing twice is no error, and the second time says 0.
    ///
    /// In a process that was forked from the one that opened the store this does nothing.
    ///
    /// # Errors
    ///
    /// `Poisoned` if the log could not be settled, `OutcomeUnknown` if the vault's file could not
    /// be closed. What was acknowledged is safe in the log either way.
    pub fn close(self) -> Result<usize, Error> {
        self.shared.close()
    }
}

/// A key that was taken in hand by its name.
pub(crate) enum Hand {
    /// It was detached.
    Execution(Hold, Arc<Record>),
    AtRest(Hold, Arc<Record>),
    Held,
    Nothing,
}

impl Shared {
    fn close(&self) -> Result<usize, Error> {
        if self.journal.check_process().is_err() {
            return Ok(0);
        }
        self.journal.check_caller()?;
        self.wake.stop();
        if let Some(sweeper) = self.sweeper.lock().take() {
            // A sweeper that panicked has nothing more to say: what matters was said below.
            let _ = sweeper.join();
        }
        match self.journal.close() {
            Err(Error::Closed) => Ok(0),
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
