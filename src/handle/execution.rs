//! A running operation.

use super::sealed::Sealed;
use super::step::{Checkpoint, TooLarge, check_len};
use super::{Completed, Door, Hold, NotKept, block, complete, complete_digest};
use crate::error::{CheckpointError, CompleteError, Error};
use crate::local::disk::Disk;
use crate::rules::record::Record;
use crate::sync::Arc;

/// A running operation, whose start is durable.
///
/// Dropping it, also by a panic, does **not** free the key, because the effect may have happened:
/// the next `begin` returns [`Begin::Interrupted`](crate::Begin::Interrupted).
/// [`Execution::abandon`] frees the key. If an execution is leaked, its key stays in flight and the
/// store's directory stays locked until the process ends.
#[must_use = "dropping an execution leaves the key interrupted: call `complete` or `abandon`"]
pub struct Execution {
    pub(crate) hold: Hold,
    pub(crate) record: Arc<Record>,
    _lock: Option<Arc<dyn Disk>>,
}

impl Execution {
    /// Creates the handle of an execution that had none until now.
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        let lock = hold.engine().journal.lock();
        Self::started(hold, record, lock)
    }

    /// Creates the handle of an execution that was started under this lock. It keeps the lock, so
    /// the store isn't opened again, and no caller is told that the operation was interrupted,
    /// while its effect may still be under way.
    pub(crate) fn started(hold: Hold, record: Arc<Record>, lock: Option<Arc<dyn Disk>>) -> Self {
        Self { hold, record, _lock: lock }
    }

    /// Stores how far the operation has come, replacing the last checkpoint. If the operation is
    /// interrupted, [`Interrupted::last_checkpoint`](crate::Interrupted::last_checkpoint) returns
    /// these bytes, so that an operation of several steps can resume where it stopped.
    ///
    /// Store a checkpoint *after* a step is known to be done. The process may die between a step
    /// and its checkpoint, so the first step that no checkpoint covers may or may not have
    /// happened.
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
    /// drop(execution); // By a panic, or the end of the process.
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
    /// [`CheckpointError`]. If the checkpoint is refused, nothing has changed; after any other
    /// error, either the last checkpoint or this one counts.
    pub fn checkpoint(&mut self, progress: impl AsRef<[u8]>) -> Result<(), CheckpointError> {
        block(self.store_checkpoint(Door::Blocking, progress.as_ref()))
    }

    /// [`Execution::checkpoint`] as a future. If it's dropped before it's ready, either the last
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

    /// Stores the result. Every later `begin` of the same request returns it until the retention
    /// ends.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result returns the execution. After any other error, the effect
    /// has happened but the result may not be stored: once the store is opened again, the key is
    /// completed or interrupted.
    pub fn complete(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        block(complete(Door::Blocking, self, result))
    }

    /// [`Execution::complete`] as a future. If it's dropped before it's ready, the result is stored
    /// anyway, unless the future was never polled: then the operation is interrupted.
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

    /// Completes the operation as [`Execution::complete`] does, but keeps only the length and the
    /// digest of the result. Use this for a result that is too long to keep: see [`NotKept`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`], except `TooLarge`: a result of any length is accepted.
    #[doc(alias = "complete_tombstone")]
    pub fn complete_digest(self, result: impl AsRef<[u8]>) -> Result<NotKept, CompleteError<Self>> {
        block(complete_digest(Door::Blocking, self, result))
    }

    /// [`Execution::complete_digest`] as a future. If it's dropped before it's ready, the operation
    /// is completed anyway, unless the future was never polled: then it's interrupted.
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

    /// Leaves the operation running without a handle. It ends elsewhere, and is finished by its key
    /// with [`Store::complete`](crate::Store::complete) or
    /// [`Store::abandon`](crate::Store::abandon). It stays in flight until then, or until the store
    /// is closed or the process ends: then it's interrupted, and can still be finished in the same
    /// way. It does not keep the directory locked.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("transfer-1")?, Fingerprint::of("100 to Anna"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let execution = permit.start()?;
    /// // The bank accepts the transfer, and will report its outcome by a webhook.
    /// execution.detach();
    ///
    /// // In the handler of the webhook:
    /// store.complete(&key, "transferred")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) {
        self.hold.detach();
    }
}

#[expect(private_interfaces, reason = "the trait is sealed, so no other crate can name it")]
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
