//! An operation that runs.

use super::sealed::Sealed;
use super::{Completed, Hold, Tombstone};
use crate::disk::Disk;
use crate::error::{CompleteError, Error};
use crate::journal::{Claim, Submission};
use crate::log::commit::{Place, wait};
use crate::observe::{self, Made};
use crate::record::{ChangeKind, Record};
use crate::sync::Arc;
use crate::transition;

/// An operation that runs: its start is durable.
///
/// Dropping it, by a panic too, does **not** free the key, because the effect may have happened:
/// the next `begin` is told that the operation was interrupted. [`Execution::abandon`] frees the
/// key. An execution that is leaked stays in flight, and keeps the store's directory locked, until
/// the process ends.
#[must_use = "dropping an execution leaves the key interrupted: call `complete` or `abandon`"]
pub struct Execution {
    pub(crate) hold: Hold,
    pub(crate) record: Arc<Record>,
    _lock: Option<Arc<dyn Disk>>,
}

impl Execution {
    /// An execution that had no handle until now.
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        let lock = hold.shared().journal.lock();
        Self::started(hold, record, lock)
    }

    /// An execution that was started under this lock, which it keeps: while its effect may be at work
    /// the store is not opened again, and nobody is told that it was interrupted.
    pub(crate) fn started(hold: Hold, record: Arc<Record>, lock: Option<Arc<dyn Disk>>) -> Self {
        Self { hold, record, _lock: lock }
    }

    /// Stores how far the operation has come, in place of the last checkpoint. If it is
    /// interrupted, [`Interrupted::last_checkpoint`](crate::Interrupted::last_checkpoint) gives
    /// these bytes back, so that an operation of several steps goes on where it stopped.
    ///
    /// Store a checkpoint *after* a step is known to be done. Between a step and its checkpoint a
    /// process may die, so the first step that no checkpoint covers may have happened or not.
    ///
    /// Returns once the checkpoint is durable.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("trip-1")?, Fingerprint::of("to Rome"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let mut execution = permit.start()?;
    /// // Here the flight is booked.
    /// execution.checkpoint("flight booked")?;
    /// drop(execution); // A panic, or the end of the process.
    ///
    /// let Begin::Interrupted(interrupted) = store.begin(&key, request)? else { panic!() };
    /// assert_eq!(interrupted.last_checkpoint(), Some(&b"flight booked"[..]));
    /// let execution = interrupted.retry()?;
    /// // Only the hotel is left to book.
    /// execution.complete("have a nice trip")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError`]. If the checkpoint is refused nothing has changed; after any other error
    /// the last one or this one counts.
    pub fn checkpoint(&mut self, progress: impl AsRef<[u8]>) -> Result<(), CompleteError<()>> {
        let progress = progress.as_ref();
        let placed = wait(Ok(self.place(progress)?));
        let (record, change) = self.with_checkpoint(progress, placed)?;
        let appended = self.hold.shared().journal.append(change);
        self.checkpointed(record, appended)
    }

    /// A place for a checkpoint, if the store takes one so long.
    pub(crate) fn place(&self, progress: &[u8]) -> Result<Option<Place>, CompleteError<()>> {
        let shared = self.hold.shared();
        super::check_len(shared, progress.len()).map_err(|too_large| too_large.give_back(()))?;
        shared.journal.place(progress.len()).map_err(|error| CompleteError::refused((error, ())))
    }

    /// What becomes of a checkpoint, as the journal says.
    pub(crate) fn checkpointed(
        &mut self,
        record: Arc<Record>,
        appended: Result<(), Error>,
    ) -> Result<(), CompleteError<()>> {
        observe::made(Made::Checkpointed, appended.as_ref().err().map(|error| error as _));
        appended.map_err(|error| CompleteError::refused((error, ())))?;
        self.record = record;
        Ok(())
    }

    /// The record with this checkpoint, once there is a place for it, and the change that puts it.
    pub(crate) fn with_checkpoint(
        &self,
        progress: &[u8],
        placed: Result<Option<Place>, Error>,
    ) -> Result<(Arc<Record>, Submission), CompleteError<()>> {
        let place = placed.map_err(|error| CompleteError::refused((error, ())))?;
        let record = Arc::new(transition::checkpoint(&self.record, progress.into()));
        let change = self.hold.change(ChangeKind::Put(Arc::clone(&record)));
        Ok((record, (change, Claim::End { _place: place.map(Arc::new) })))
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
    pub fn complete(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        super::complete(self, result.as_ref())
    }

    /// Completes the operation as [`Execution::complete`] does, and keeps only length and digest
    /// of a result that is too long: see [`Tombstone`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; no length is too large here.
    pub fn complete_tombstone(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Tombstone, CompleteError<Self>> {
        super::complete_tombstone(self, result.as_ref())
    }

    /// Leaves the operation running without a handle: it ends elsewhere, and is finished by its
    /// key with [`Store::complete`](crate::Store::complete) or
    /// [`Store::abandon`](crate::Store::abandon). It stays in flight until then, or until the store is
    /// closed or the process ends: then it is interrupted, and can be finished in the same way. It does
    /// not keep the directory locked.
    pub fn detach(self) {
        self.hold.detach();
    }
}

#[expect(private_interfaces, reason = "the trait is sealed: nobody else can name it")]
impl Sealed for Execution {
    const STARTED: bool = true;

    fn hold(&self) -> &Hold {
        &self.hold
    }

    #[cfg(feature = "async")]
    fn hold_mut(&mut self) -> &mut Hold {
        &mut self.hold
    }

    fn into_hold(self) -> Hold {
        self.hold
    }

    fn started(&self) -> Result<Arc<Record>, Error> {
        Ok(Arc::clone(&self.record))
    }
}
