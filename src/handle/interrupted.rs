//! An operation whose outcome is unknown.

use super::sealed::Sealed;
use super::{Completed, Door, Execution, Hold, NotKept, block, complete, complete_digest, start};
use crate::error::{CompleteError, Error};
use crate::rules::record::Record;
use crate::sync::Arc;

/// An operation that was started, and whose outcome is unknown.
///
/// It holds the key, so that only one caller at a time can find out. Dropping it lets go of the
/// key, and the next `begin` is told the same.
#[must_use = "find out what became of the operation, then call `retry`, `resolve` or `abandon`"]
pub struct Interrupted {
    pub(crate) hold: Hold,
    pub(crate) record: Arc<Record>,
}

impl Interrupted {
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        Self { hold, record }
    }

    /// Runs the operation again, as the next attempt and from its last checkpoint. This is for
    /// effects that can be repeated, or that are known not to have happened.
    ///
    /// Returns once the new attempt is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]. The operation must not run then, and stays interrupted; if the outcome is
    /// unknown, the new attempt may count.
    pub fn retry(self) -> Result<Execution, Error> {
        block(start(Door::Blocking, self))
    }

    /// [`Interrupted::retry`] as a future. If it is dropped before it is ready, the operation is
    /// interrupted again, and the new attempt counts.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::retry`].
    pub async fn retry_async(self) -> Result<Execution, Error> {
        start(Door::Future, self).await
    }

    /// Stores the result of an effect that is known to have happened.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result gives this back.
    pub fn resolve(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        block(complete(Door::Blocking, self, result))
    }

    /// [`Interrupted::resolve`] as a future. If it is dropped before it is ready, the result is
    /// stored all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::resolve`].
    pub async fn resolve_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, CompleteError<Self>> {
        complete(Door::Future, self, result).await
    }

    /// Completes the operation as [`Interrupted::resolve`] does, and keeps only length and digest
    /// of a result that is too long: see [`NotKept`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; no length is too large here.
    #[doc(alias = "resolve_tombstone")]
    pub fn resolve_digest(self, result: impl AsRef<[u8]>) -> Result<NotKept, CompleteError<Self>> {
        block(complete_digest(Door::Blocking, self, result))
    }

    /// [`Interrupted::resolve_digest`] as a future. If it is dropped before it is ready, the
    /// operation is completed all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::resolve_digest`].
    pub async fn resolve_digest_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<NotKept, CompleteError<Self>> {
        complete_digest(Door::Future, self, result).await
    }
}

#[expect(private_interfaces, reason = "the trait is sealed: nobody else can name it")]
impl Sealed for Interrupted {
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
        Ok(Arc::new(self.record.retried()))
    }

    fn completing(&self) -> Result<Arc<Record>, Error> {
        Ok(Arc::clone(&self.record))
    }
}
