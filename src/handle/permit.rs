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

/// The right to run an operation that has not started. Nothing is stored for it yet.
///
/// Dropping the permit releases the key, as if it had never been requested.
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

    /// Returns the key that this permit holds.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.hold.key()
    }

    /// Returns when the key was begun. The record of the started operation has the same time.
    #[cfg(feature = "tower")]
    pub(crate) fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// Returns what the operation's downstream keys are derived from.
    #[cfg(feature = "tower")]
    pub(crate) fn downstream(&self) -> Downstream {
        Downstream::new(self.hold.engine().callee_secret(), self.key(), &self.fingerprint)
    }

    /// Sets how long the result of this operation is kept, instead of the store's retention. The
    /// retention is counted from the `begin` that returned this permit, in whole milliseconds, and
    /// ends in the year 10889 at the latest. If it has already ended when the operation is started
    /// or completed, it's counted from then.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # use std::time::Duration;
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let completed = permit.with_retention(week).complete("receipt 17")?;
    /// assert_eq!(completed.expires_at().saturating_since(completed.begun_at()), week);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "retention")]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Starts the operation: makes it durable that it may run from now on. Call this right before
    /// the effect, after everything that can still refuse the request.
    ///
    /// Returns once the record is durable.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # fn charge(_idempotency_key: &str) -> &'static str { "receipt 17" }
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let execution = permit.start()?;
    /// let receipt = charge(&execution.downstream_key("charge"));
    /// execution.complete(receipt)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`]. The operation must then not run. Unless the outcome is unknown, the key is
    /// free.
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
    /// // `begin` never waits for another caller.
    /// let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let execution = permit.start_async().await?;
    /// // Here the effect happens.
    /// execution.complete_async("receipt 17").await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the future is dropped before it's ready, the operation has not run: the key becomes free
    /// again as soon as that is durable. If the process ends before that, the key is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Permit::start`].
    pub async fn start_async(self) -> Result<Execution, Error> {
        start(Door::Future, self).await
    }

    /// Stores the result of an operation that was never started, with one fsync instead of two.
    ///
    /// Use this for effects that may be repeated: a crash before this call returns leaves the key
    /// free, and the next `begin` runs the operation again.
    ///
    /// Returns once the result is durable.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// # let (key, request) = (Key::new("quote-1")?, Fingerprint::of("2 apples"));
    /// # fn price() -> &'static str { "2.50" }
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// // Computing a price twice does no harm, so it needs no `start`.
    /// let quote = permit.complete(price())?;
    /// assert_eq!(quote.result(), b"2.50");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result returns the permit.
    #[expect(clippy::result_large_err, reason = "the error gives back what the caller handed in")]
    pub fn complete(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        block(complete(Door::Blocking, self, result))
    }

    /// [`Permit::complete`] as a future. If it's dropped before it's ready, the result is stored
    /// anyway, unless the future was never polled.
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

    /// Completes the operation as [`Permit::complete`] does, but keeps only the length and the
    /// digest of the result. Use this for a result that is too long to keep: see [`NotKept`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`], except `TooLarge`: a result of any length is accepted.
    #[expect(clippy::result_large_err, reason = "the error gives back what the caller handed in")]
    #[doc(alias = "complete_tombstone")]
    pub fn complete_digest(self, result: impl AsRef<[u8]>) -> Result<NotKept, CompleteError<Self>> {
        block(complete_digest(Door::Blocking, self, result))
    }

    /// [`Permit::complete_digest`] as a future. If it's dropped before it's ready, the operation is
    /// completed anyway, unless the future was never polled.
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

    /// Stores the result together with the closure's writes to the caller's own tables, in one
    /// transaction of the store's redb file: either both are stored, or neither is. This is
    /// *exactly once* for an effect that is data in that file, and it needs no `start`.
    ///
    /// The closure returns the result. If it fails or panics, nothing is stored and the key is
    /// free. It runs at most once, and no other transaction runs meanwhile, so it should be short.
    /// It must not write to the store by another call, wait for a thread that does, or wait for its
    /// own key.
    ///
    /// Returns once everything is durable. That takes longer than [`Permit::complete`], because the
    /// contents of the log are settled in the same transaction.
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
                // An error returned by the closure isn't a failure of the store.
                if let Some(failure) = error.of_store() {
                    observe::failed(Made::Completed, failure);
                }
                Err(error)
            }
        }
    }

    /// Releases the key, as if it had never been requested. Dropping the permit does the same.
    pub fn release(self) {}
}

#[expect(private_interfaces, reason = "the trait is sealed, so no other crate can name it")]
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
