//! Running an operation in one call.

use std::fmt;

use crate::error::{CompleteError, Error};
use crate::handle::{
    Begin, Completed, Door, Execution, InFlight, Interrupted, NotKept, Permit, Startable, block,
    complete, remove, start,
};
use crate::key::{Fingerprint, Key};
use crate::rules::effect::{Effect, Leaves, did_not_happen};
use crate::store::Store;

/// What became of a request that was passed to [`Store::run`].
#[derive(Debug)]
#[must_use = "the outcome says whether the operation is done"]
pub enum Outcome<E> {
    /// The operation ran, and its result is stored.
    Done(Completed),
    /// The operation was completed before, and did not run again.
    Replay(Completed),
    /// The operation was completed before, and did not run again. Its result was too long to keep.
    #[doc(alias = "Tombstone")]
    NotKept(NotKept),
    /// The same operation is running now.
    InFlight(InFlight),
    /// The key was used for another request.
    Mismatch,
    /// An earlier execution was interrupted, and the operation did not run. Find out whether its
    /// effect happened, then say so with this handle, or run the operation again with
    /// [`Interrupted::run`].
    Interrupted(Interrupted),
    /// The operation ran and returned that its effect did not happen. The key is free.
    DidNotHappen(E),
    /// The operation ran and returned that its effect is unknown; or that its effect did not
    /// happen, but in an attempt after the first, where an earlier attempt may have had the effect.
    /// The key is interrupted.
    Unknown(E),
}

impl Store {
    /// Runs an operation, unless it was run before: begins and starts it, runs it, and stores its
    /// outcome.
    ///
    /// The operation returns whether its effect is [done](Effect::Done), [did not
    /// happen](Effect::DidNotHappen) or is [unknown](Effect::Unknown). A panic counts as unknown
    /// too, and continues in the caller. An interrupted operation is **not** run again by this
    /// call: [`Outcome::Interrupted`] leaves that choice to the caller.
    ///
    /// ```
    /// use idemstore::{Effect, Outcome};
    /// # use idemstore::{Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # enum Charge { Paid(String), Declined, NoAnswer }
    /// # fn charge(_attempt: u32) -> Charge { Charge::Paid("receipt 17".to_owned()) }
    ///
    /// let outcome = store.run(&key, request, |execution| match charge(execution.attempt()) {
    ///     Charge::Paid(receipt) => Effect::Done(receipt),
    ///     Charge::Declined => Effect::DidNotHappen("declined"),
    ///     Charge::NoAnswer => Effect::Unknown("no answer"),
    /// })?;
    /// match outcome {
    ///     Outcome::Done(receipt) | Outcome::Replay(receipt) => {
    ///         assert_eq!(receipt.result(), b"receipt 17");
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError`] says whether the operation ran. The error may hold the execution, and with it
    /// the key, until it's dropped.
    pub fn run<R: AsRef<[u8]>, E>(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        match Outcome::without_run(self.begin(key, fingerprint).map_err(RunError::NotRun)?) {
            Ok(permit) => permit.run(operation),
            Err(outcome) => Ok(outcome),
        }
    }

    /// [`Store::run`] with an operation that is a future. If it's dropped while the operation runs,
    /// the operation is interrupted.
    ///
    /// ```
    /// use idemstore::{Effect, Outcome};
    /// # use idemstore::{Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # async fn charge(_: u32) -> Result<String, &'static str> { Ok("receipt 17".to_owned()) }
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let outcome = store.run_async(&key, request, async |execution| {
    ///     match charge(execution.attempt()).await {
    ///         Ok(receipt) => Effect::Done(receipt),
    ///         Err(no_answer) => Effect::Unknown(no_answer),
    ///     }
    /// });
    /// assert!(matches!(outcome.await, Ok(Outcome::Done(_))));
    /// # });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Store::run`].
    pub async fn run_async<R: AsRef<[u8]>, E>(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        let begin = self.begin_async(key, fingerprint).await;
        match Outcome::without_run(begin.map_err(RunError::NotRun)?) {
            Ok(permit) => permit.run_async(operation).await,
            Err(outcome) => Ok(outcome),
        }
    }
}

impl<E> Outcome<E> {
    /// Returns the permit to run the operation, or the outcome if it's known without running it.
    pub(crate) fn without_run(begin: Begin) -> Result<Permit, Self> {
        Err(match begin {
            Begin::Fresh(permit) => return Ok(permit),
            Begin::Replay(completed) => Self::Replay(completed),
            Begin::NotKept(not_kept) => Self::NotKept(not_kept),
            Begin::InFlight(in_flight) => Self::InFlight(in_flight),
            Begin::Mismatch => Self::Mismatch,
            Begin::Interrupted(interrupted) => Self::Interrupted(interrupted),
        })
    }
}

impl Permit {
    /// Starts the operation, runs it and stores its outcome, as [`Store::run`] does.
    ///
    /// # Errors
    ///
    /// [`RunError`] says whether the operation ran.
    pub fn run<R: AsRef<[u8]>, E>(
        self,
        operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run_here(self, operation)
    }

    /// [`Permit::run`] with an operation that is a future.
    ///
    /// # Errors
    ///
    /// As [`Permit::run`].
    pub async fn run_async<R: AsRef<[u8]>, E>(
        self,
        operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run(Door::Future, self, operation).await
    }
}

impl Interrupted {
    /// Runs the operation again, as the next attempt, and stores its outcome, as [`Store::run`]
    /// does.
    ///
    /// # Errors
    ///
    /// [`RunError`] says whether the operation ran.
    pub fn run<R: AsRef<[u8]>, E>(
        self,
        operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run_here(self, operation)
    }

    /// [`Interrupted::run`] with an operation that is a future.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::run`].
    pub async fn run_async<R: AsRef<[u8]>, E>(
        self,
        operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run(Door::Future, self, operation).await
    }
}

fn run_here<H: Startable, R: AsRef<[u8]>, E>(
    handle: H,
    operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
) -> Result<Outcome<E>, RunError<R, E>> {
    let operation = async move |execution: &mut Execution| operation(execution);
    block(run(Door::Blocking, handle, operation))
}

async fn run<H: Startable, R: AsRef<[u8]>, E>(
    door: Door,
    handle: H,
    operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
) -> Result<Outcome<E>, RunError<R, E>> {
    let mut execution = start(door, handle).await.map_err(RunError::NotRun)?;
    match operation(&mut execution).await {
        Effect::Done(result) => match complete(door, execution, &result).await {
            Ok(completed) => Ok(Outcome::Done(completed)),
            Err(source) => Err(RunError::NotStored { result, source }),
        },
        Effect::DidNotHappen(reason) => match did_not_happen(execution.attempt()) {
            Leaves::Free => match remove(door, execution.hold, execution.record).await {
                Ok(()) => Ok(Outcome::DidNotHappen(reason)),
                Err(source) => Err(RunError::NotFreed { reason, source }),
            },
            // Dropping the execution leaves the key interrupted.
            Leaves::Interrupted => Ok(Outcome::Unknown(reason)),
        },
        Effect::Unknown(reason) => Ok(Outcome::Unknown(reason)),
    }
}

/// Why an operation that was passed to [`Store::run`](Store::run) has no outcome. The error
/// contains what the operation returned.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunError<R, E> {
    /// The operation did not run.
    #[error("the operation did not run: {0}")]
    NotRun(#[source] Error),
    /// The operation ran and is done, but its result was not stored. If the result was refused,
    /// `source` contains the execution; otherwise the key is completed or interrupted once the
    /// store is opened again.
    #[error("the operation is done, but its result was not stored: {source}")]
    NotStored {
        /// The result that the operation returned.
        result: R,
        /// Why it was not stored.
        source: CompleteError<Execution>,
    },
    /// The operation ran and returned that its effect did not happen, but its key was not freed.
    /// The key is interrupted; if the outcome is unknown, it may be free once the store is opened
    /// again.
    #[error("the effect did not happen, but its key was not freed: {source}")]
    NotFreed {
        /// The reason that the operation returned.
        reason: E,
        /// Why the key was not freed.
        source: Error,
    },
}

/// Shows neither the result nor the reason.
impl<R, E> fmt::Debug for RunError<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun(error) => f.debug_tuple("NotRun").field(error).finish(),
            Self::NotStored { source, .. } => {
                f.debug_struct("NotStored").field("source", source).finish_non_exhaustive()
            }
            Self::NotFreed { source, .. } => {
                f.debug_struct("NotFreed").field("source", source).finish_non_exhaustive()
            }
        }
    }
}
