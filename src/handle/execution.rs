//! An operation that runs.

use super::sealed::Sealed;
use super::step::{Checkpoint, TooLarge, check_len};
use super::{Completed, Door, Hold, NotKept, block, complete, complete_digest};
use crate::error::{CheckpointError, CompleteError, Error};
use crate::local::disk::Disk;
use crate::rules::record::Record;
use crate::sync::Arc;

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
        let lock = hold.engine().journal.lock();
        Self::started(hold, record, lock)
    }

    /// An execution that was started under this lock, which it keeps: while its effect may be at work
    /// the store is not opened again, and nobody is told that it was interrupted.
    pub(crate) fn started(hold: Hold, record: Arc<Record>, lock: Option<Arc<dyn Disk>>) -> Self {
        Self { hold, record, _lock: lock }
    }

    /// Stores how far the operation has come, instead of the last checkpoint. If it is
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
    /// [`CheckpointError`]. If the checkpoint is refused nothing has changed; after any other error
    /// the last one or this one counts.
    pub fn checkpoint(&mut self, progress: impl AsRef<[u8]>) -> Result<(), CheckpointError> {
        block(self.store_checkpoint(Door::Blocking, progress.as_ref()))
    }

    /// [`Execution::checkpoint`] as a future. If it is dropped before it is ready, the last
    /// checkpoint or this one counts.
    ///
    /// # Errors
    ///
    /// As [`Execution::checkpoint`].
    pub async fn checkpoint_async(
        &mut self,
        progress: impl AsRef<[u8]>,
    ) -> Result<(), CheckpointError> {
        self.store_checkpoint(Door::Future, progress.as_ref()).await
    }

    async fn store_checkpoint(
        &mut self,
        door: Door,
        progress: &[u8],
    ) -> Result<(), CheckpointError> {
        let engine = self.hold.engine();
        check_len(engine, progress.len())
            .map_err(|TooLarge { len, max }| CheckpointError::TooLarge { len, max })?;
        let place = door.place(engine.journal.place(progress.len())).await?;
        Ok(door.append(Checkpoint::new(self, progress, place)).await?)
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
        block(complete(Door::Blocking, self, result))
    }

    /// [`Execution::complete`] as a future. If it is dropped before it is ready, the result is
    /// stored all the same, unless it was never polled: then the operation is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Execution::complete`].
    pub async fn complete_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, CompleteError<Self>> {
        complete(Door::Future, self, result).await
    }

    /// Completes the operation as [`Execution::complete`] does, and keeps only length and digest
    /// of a result that is too long: see [`NotKept`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; no length is too large here.
    #[doc(alias = "complete_tombstone")]
    pub fn complete_digest(self, result: impl AsRef<[u8]>) -> Result<NotKept, CompleteError<Self>> {
        block(complete_digest(Door::Blocking, self, result))
    }

    /// [`Execution::complete_digest`] as a future. If it is dropped before it is ready, the
    /// operation is completed all the same, unless it was never polled: then it is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Execution::complete_digest`].
    pub async fn complete_digest_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<NotKept, CompleteError<Self>> {
        complete_digest(Door::Future, self, result).await
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
