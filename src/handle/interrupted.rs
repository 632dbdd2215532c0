//! An operation whose outcome is unknown.

use super::sealed::Sealed;
use super::{Completed, Door, Execution, Hold, NotKept, block, complete, complete_digest, start};
use crate::error::{CompleteError, Error};
use crate::rules::record::Record;
use crate::sync::Arc;

/// An operation that was started, and whose outcome is unknown.
///
/// It holds the key, so that only one caller at a time can find out what happened. Dropping it
/// releases the key, and the next `begin` returns `Interrupted` again.
#[must_use = "find out what became of the operation, then call `retry`, `resolve` or `abandon`"]
pub struct Interrupted {
    pub(crate) hold: Hold,
    pub(crate) record: Arc<Record>,
}

impl Interrupted {
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        Self { hold, record }
    }

    /// Starts the operation again, as the next attempt and from its last checkpoint. Use this for
    /// effects that can be repeated, or that are known not to have happened.
    ///
    /// Returns once the new attempt is durable.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("report-1")?, Fingerprint::of("May"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// drop(permit.start()?); // By a panic, or the end of the process.
    ///
    /// let Begin::Interrupted(interrupted) = store.begin(&key, request)? else { panic!() };
    /// let execution = interrupted.retry()?;
    /// assert_eq!(execution.attempt(), 2);
    /// execution.complete("the report")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`]. The operation must then not run, and stays interrupted; if the outcome is
    /// unknown, the new attempt may be counted.
    pub fn retry(self) -> Result<Execution, Error> {
        block(start(Door::Blocking, self))
    }

    /// [`Interrupted::retry`] as a future. If it's dropped before it's ready, the operation is
    /// interrupted again, and the new attempt is counted.
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
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # fn find_charge(_: &str) -> Option<&'static str> { Some("receipt 17") }
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// # drop(permit.start()?);
    /// # let Begin::Interrupted(doubt) = store.begin(&key, request)? else { panic!() };
    /// match find_charge(&doubt.downstream_key("charge")) {
    ///     Some(receipt) => drop(doubt.resolve(receipt)?),
    ///     None => doubt.abandon()?,
    /// }
    /// # assert!(matches!(store.begin(&key, request)?, Begin::Replay(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result returns this handle.
    pub fn resolve(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        block(complete(Door::Blocking, self, result))
    }

    /// [`Interrupted::resolve`] as a future. If it's dropped before it's ready, the result is
    /// stored anyway, unless the future was never polled.
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

    /// Completes the operation as [`Interrupted::resolve`] does, but keeps only the length and the
    /// digest of the result. Use this for a result that is too long to keep: see [`NotKept`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`], except `TooLarge`: a result of any length is accepted.
    #[doc(alias = "resolve_tombstone")]
    pub fn resolve_digest(self, result: impl AsRef<[u8]>) -> Result<NotKept, CompleteError<Self>> {
        block(complete_digest(Door::Blocking, self, result))
    }

    /// [`Interrupted::resolve_digest`] as a future. If it's dropped before it's ready, the
    /// operation is completed anyway, unless the future was never polled.
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

#[expect(private_interfaces, reason = "the trait is sealed, so no other crate can name it")]
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
