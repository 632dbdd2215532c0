//! An operation in one call.

use crate::begin::Begin;
use crate::error::{Error, RunError};
use crate::handle::{Completed, Execution, InFlight, Interrupted, Permit, Tombstone};
use crate::key::{Fingerprint, Key};
use crate::store::Store;

/// What an operation says of its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<R, E> {
    /// It happened, and this is the result to store.
    Done(R),
    /// It did not happen, for certain: the key is free again. Checkpoints of earlier steps are
    /// forgotten with it, so undo what those did first.
    DidNotHappen(E),
    /// It may have happened: the key is interrupted. A panic says the same.
    Unknown(E),
}

/// What became of a request that was handed to [`Store::run`].
#[derive(Debug)]
#[must_use = "the outcome says whether the operation is done"]
#[non_exhaustive]
pub enum Outcome<E> {
    /// The operation ran, and its result is stored.
    Done(Completed),
    /// The operation was completed before, and did not run.
    Replay(Completed),
    /// The operation was completed before, its result was too long to keep, and it did not run.
    Tombstone(Tombstone),
    /// The same operation is running now.
    InFlight(InFlight),
    /// The key was used for another request.
    Mismatch,
    /// An earlier execution was interrupted, and the operation did not run. Find out, then say so,
    /// or run it again with [`Interrupted::run`].
    Interrupted(Interrupted),
    /// The operation ran and said that its effect did not happen. The key is free.
    DidNotHappen(E),
    /// The operation ran and said that its effect is unknown. The key is interrupted.
    Unknown(E),
}

impl Store {
    /// Runs an operation, unless it was run before: begins, starts, runs it and stores what it
    /// says.
    ///
    /// The operation says whether its effect is [done](Effect::Done), [did not
    /// happen](Effect::DidNotHappen) or is [unknown](Effect::Unknown). A panic in it is unknown
    /// too, and goes on to the caller. An operation that was interrupted is **not** run again by
    /// this call: [`Outcome::Interrupted`] has the choice.
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
    /// [`RunError`] says whether the operation ran. It may hold the execution, and with it the key,
    /// until it is dropped.
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
}

impl<E> Outcome<E> {
    /// The permit to run the operation, or what there is to say without that.
    pub(crate) fn without_run(begin: Begin) -> Result<Permit, Self> {
        Err(match begin {
            Begin::Fresh(permit) => return Ok(permit),
            Begin::Replay(completed) => Self::Replay(completed),
            Begin::Tombstone(tombstone) => Self::Tombstone(tombstone),
            Begin::InFlight(in_flight) => Self::InFlight(in_flight),
            Begin::Mismatch => Self::Mismatch,
            Begin::Interrupted(interrupted) => Self::Interrupted(interrupted),
        })
    }
}

impl Permit {
    /// Starts the operation, runs it and stores what it says, as [`Store::run`] does.
    ///
    /// # Errors
    ///
    /// [`RunError`] says whether the operation ran.
    pub fn run<R: AsRef<[u8]>, E>(
        self,
        operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run(self.start(), operation)
    }
}

impl Interrupted {
    /// Runs the operation again, as the next attempt, and stores what it says, as [`Store::run`]
    /// does.
    ///
    /// # Errors
    ///
    /// [`RunError`] says whether the operation ran.
    pub fn run<R: AsRef<[u8]>, E>(
        self,
        operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run(self.retry(), operation)
    }
}

fn run<R: AsRef<[u8]>, E>(
    started: Result<Execution, Error>,
    operation: impl FnOnce(&mut Execution) -> Effect<R, E>,
) -> Result<Outcome<E>, RunError<R, E>> {
    let mut execution = started.map_err(RunError::NotRun)?;
    Ok(match operation(&mut execution) {
        Effect::Done(result) => match execution.complete(&result) {
            Ok(completed) => Outcome::Done(completed),
            Err(source) => return Err(RunError::NotStored { result, source }),
        },
        Effect::DidNotHappen(reason) => match execution.abandon() {
            Ok(()) => Outcome::DidNotHappen(reason),
            Err(source) => return Err(RunError::NotFreed { reason, source }),
        },
        // Dropping the execution leaves the key interrupted.
        Effect::Unknown(error) => Outcome::Unknown(error),
    })
}
