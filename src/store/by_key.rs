//! Finishing an operation by its key alone.

use super::Store;
use crate::error::{Error, FinishError};
use crate::handle::{self, Completed, Door, Execution, Hold, Interrupted, block};
use crate::key::Key;
use crate::rules::{self, Decision, Known, Take};
use crate::sync::Arc;

impl Store {
    /// Stores the result of an operation that was [detached](Execution::detach), or that was
    /// interrupted and has ended elsewhere since.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`FinishError`]. If the result is refused, the operation is left as it was.
    #[doc(alias = "resolve")]
    pub fn complete(&self, key: &Key, result: impl AsRef<[u8]>) -> Result<Completed, FinishError> {
        block(self.complete_by_key(Door::Blocking, key, result))
    }

    /// [`Store::complete`] as a future. If it's dropped before it's ready, the result is stored
    /// anyway, unless the future was never polled.
    ///
    /// # Errors
    ///
    /// As [`Store::complete`].
    pub async fn complete_async(
        &self,
        key: &Key,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, FinishError> {
        self.complete_by_key(Door::Future, key, result).await
    }

    async fn complete_by_key(
        &self,
        door: Door,
        key: &Key,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, FinishError> {
        let hold = || self.hold(key);
        match self.take(key, rules::take_execution)? {
            Take::Execution(record) => {
                let execution = Execution::new(hold(), record);
                let completed = handle::complete(door, execution, result).await;
                completed.map_err(|error| FinishError::of(error, Execution::detach))
            }
            Take::AtRest(record) => {
                let interrupted = Interrupted::new(hold(), record);
                let completed = handle::complete(door, interrupted, result).await;
                completed.map_err(|error| FinishError::of(error, drop))
            }
            Take::Held => Err(FinishError::Held),
            Take::Nothing => Err(FinishError::NotExecuting),
        }
    }

    /// Frees the key of an operation whose effect did not happen, and that was
    /// [detached](Execution::detach) or interrupted.
    ///
    /// Returns once this is durable.
    ///
    /// # Errors
    ///
    /// [`FinishError`].
    #[doc(alias = "unlock")]
    pub fn abandon(&self, key: &Key) -> Result<(), FinishError> {
        block(self.abandon_by_key(Door::Blocking, key))
    }

    /// [`Store::abandon`] as a future. If it's dropped before it's ready, the key is freed anyway,
    /// unless the future was never polled.
    ///
    /// # Errors
    ///
    /// As [`Store::abandon`].
    pub async fn abandon_async(&self, key: &Key) -> Result<(), FinishError> {
        self.abandon_by_key(Door::Future, key).await
    }

    async fn abandon_by_key(&self, door: Door, key: &Key) -> Result<(), FinishError> {
        match self.take(key, rules::take_execution)? {
            Take::Execution(record) | Take::AtRest(record) => {
                Ok(handle::remove(door, self.hold(key), record).await?)
            }
            Take::Held => Err(FinishError::Held),
            Take::Nothing => Err(FinishError::NotExecuting),
        }
    }

    /// Frees the key of a completed operation before its retention ends, and returns whether there
    /// was such an operation. A key that is in flight or interrupted is left as it is.
    ///
    /// After this, the operation may run again. Returns once this is durable.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// permit.complete("receipt 17")?;
    /// assert!(store.forget(&key)?);
    /// assert!(matches!(store.begin(&key, request)?, Begin::Fresh(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    #[doc(alias = "remove")]
    pub fn forget(&self, key: &Key) -> Result<bool, Error> {
        block(self.forget_by_key(Door::Blocking, key))
    }

    /// [`Store::forget`] as a future. If it's dropped before it's ready, the key is freed anyway,
    /// unless the future was never polled.
    ///
    /// # Errors
    ///
    /// As [`Store::forget`].
    pub async fn forget_async(&self, key: &Key) -> Result<bool, Error> {
        self.forget_by_key(Door::Future, key).await
    }

    async fn forget_by_key(&self, door: Door, key: &Key) -> Result<bool, Error> {
        match self.take(key, rules::take_completed)? {
            Take::Execution(record) | Take::AtRest(record) => {
                handle::remove(door, self.hold(key), record).await.map(|()| true)
            }
            Take::Held | Take::Nothing => Ok(false),
        }
    }

    fn take(&self, key: &Key, rule: impl Fn(Known<'_>) -> Decision<Take>) -> Result<Take, Error> {
        self.engine.take(self.engine.index.locate(key), rule)
    }

    /// Returns the hold on a key that this caller has just claimed.
    fn hold(&self, key: &Key) -> Hold {
        Hold::new(Arc::clone(&self.engine), self.engine.index.locate(key).to_owned())
    }
}
