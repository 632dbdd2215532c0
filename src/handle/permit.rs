//! The right to run an operation.

use std::time::Duration;

#[cfg(feature = "tower")]
use super::Downstream;
use super::sealed::Sealed;
use super::{Completed, Door, Execution, Hold, NotKept, block, complete, complete_digest, start};
#[cfg(feature = "transaction")]
use super::{Completion, Step, step::TooLarge, step::check_len};
use crate::clock::Timestamp;
use crate::error::{CompleteError, Error};
use crate::key::{Fingerprint, Key};
use crate::rules::record::{Record, State};
use crate::rules::retention::expiry;
use crate::sync::Arc;
#[cfg(feature = "transaction")]
use crate::{
    error::TransactionError,
    local::vault::Transaction,
    observe::{self, Made},
};

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

    /// When its key was begun, which the started record has too.
    #[cfg(feature = "tower")]
    pub(crate) fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// What the keys of the operation for its callees are derived from.
    #[cfg(feature = "tower")]
    pub(crate) fn downstream(&self) -> Downstream {
        Downstream::new(self.hold.engine().callee_secret(), self.key(), &self.fingerprint)
    }

    /// Keeps the result of this operation for as long as this, instead of the store's retention.
    /// It runs from the `begin` that gave this permit, in whole milliseconds, and to the year 10889 at
    /// the longest. If it is over when the operation is started or completed, it runs from then.
    #[doc(alias = "retention")]
    pub fn with_retention(mut self, retention: Duration) -> Self {
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
        block(start(Door::Blocking, self))
    }

    /// [`Permit::start`] as a future.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// // `begin` waits for nobody.
    /// let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let execution = permit.start_async().await?;
    /// // Here the effect happens.
    /// execution.complete_async("receipt 17").await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the future is dropped before it is ready, the operation has not run: the key is free
    /// again, as soon as that is durable. If the process ends before that, the key is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Permit::start`].
    pub async fn start_async(self) -> Result<Execution, Error> {
        start(Door::Future, self).await
    }

    /// Stores the result of an operation that was never started, for one fsync instead of two.
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
    pub fn complete(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        block(complete(Door::Blocking, self, result))
    }

    /// [`Permit::complete`] as a future. If it is dropped before it is ready, the result is stored
    /// all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Permit::complete`].
    pub async fn complete_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, CompleteError<Self>> {
        complete(Door::Future, self, result).await
    }

    /// Completes the operation as [`Permit::complete`] does, and keeps only length and digest of
    /// a result that is too long: see [`NotKept`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; no length is too large here.
    #[expect(clippy::result_large_err, reason = "the error gives back what the caller handed in")]
    #[doc(alias = "complete_tombstone")]
    pub fn complete_digest(self, result: impl AsRef<[u8]>) -> Result<NotKept, CompleteError<Self>> {
        block(complete_digest(Door::Blocking, self, result))
    }

    /// [`Permit::complete_digest`] as a future. If it is dropped before it is ready, the
    /// operation is completed all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Permit::complete_digest`].
    pub async fn complete_digest_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<NotKept, CompleteError<Self>> {
        complete_digest(Door::Future, self, result).await
    }

    /// Stores the result and what the closure writes into tables of the caller's own, in one
    /// transaction of the store's redb file: both are there, or neither is. This is *exactly once*
    /// for an effect that is data in that file, and needs no `start`.
    ///
    /// The closure returns the result. If it fails or panics, nothing is stored and the key is
    /// free. It runs at most once, while no other transaction does, so it should be short; it must
    /// not call the store to write, nor wait for a thread that does, nor for its own key.
    ///
    /// Returns once all of it is durable. That takes longer than [`Permit::complete`]: what the
    /// log holds is settled in the same transaction.
    ///
    /// ```
    /// use idemstore::redb::{ReadableTable, TableDefinition};
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    ///
    /// const STOCK: TableDefinition<&str, u64> = TableDefinition::new("stock");
    ///
    /// # let (key, request) = (Key::new("delivery-1")?, Fingerprint::of("5 apples"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// permit.complete_with(|transaction| {
    ///     let mut stock = transaction.open_table(STOCK)?;
    ///     let apples = stock.get("apples")?.map_or(0, |apples| apples.value()) + 5;
    ///     stock.insert("apples", apples)?;
    ///     Ok::<_, idemstore::redb::Error>(format!("{apples} apples"))
    /// })?;
    ///
    /// let stock = store.read_transaction()?.open_table(STOCK)?;
    /// assert_eq!(stock.get("apples")?.map(|apples| apples.value()), Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TransactionError`]. Unless the outcome is unknown, the key is free.
    #[cfg(feature = "transaction")]
    pub fn complete_with<R: AsRef<[u8]>, E>(
        self,
        operation: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
    ) -> Result<Completed, TransactionError<E>> {
        let (engine, key) = (Arc::clone(self.hold.engine()), self.key().clone());
        let transacted = engine.journal.transact(key.scope(), |transaction| {
            let result = operation(transaction).map_err(TransactionError::Operation)?;
            let result = result.as_ref();
            check_len(&engine, result.len())
                .map_err(|TooLarge { len, max }| TransactionError::TooLarge { len, max })?;
            let completion = Completion::new(self, Arc::<[u8]>::from(result))
                .map_err(|(error, _)| TransactionError::Store(error))?;
            let (change, _) = completion.change();
            Ok((completion, Some(change)))
        });
        match transacted {
            Ok(completion) => Ok(completion.into_durable()),
            Err(error) => {
                // What the operation has refused is no failure of the store.
                if let Some(failure) = error.of_store() {
                    observe::failed(Made::Completed, failure);
                }
                Err(error)
            }
        }
    }

    /// Gives the key up, as if it had never been asked for. Dropping the permit does the same.
    pub fn release(self) {}
}

#[expect(private_interfaces, reason = "the trait is sealed: nobody else can name it")]
impl Sealed for Permit {
    const STARTED: bool = false;

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
        let Self { hold, fingerprint, begun_at, retention } = self;
        let now = hold.engine().time.checked_now().ok_or(Error::Clock)?;
        Ok(Arc::new(Record {
            key: hold.key().clone(),
            fingerprint: *fingerprint,
            begun_at: *begun_at,
            expires_at: expiry(*begun_at, *retention, now),
            serial: hold.engine().index.take_serial()?,
            attempt: 1,
            keep: false,
            note: None,
            state: State::Started { checkpoint: None },
        }))
    }
}
