//! The handles that `begin` gives out. Each has the calls that are legal in its state, and the call
//! that finishes it consumes it, so that a key cannot be finished twice.
//!
//! What the handles have in common is said once, here: how an operation is started and completed.

mod completed;
#[cfg(feature = "async")]
mod completing;
mod execution;
mod hold;
mod in_flight;
mod interrupted;
mod permit;

pub use completed::{Completed, Tombstone};
#[cfg(feature = "async")]
pub(crate) use completing::Completing;
pub use execution::Execution;
pub(crate) use hold::Hold;
#[cfg(feature = "async")]
pub(crate) use hold::Leaves;
pub use in_flight::InFlight;
pub use interrupted::Interrupted;
pub use permit::Permit;

use std::fmt;

use crate::clock::Timestamp;
use crate::disk::Disk;
use crate::error::{CompleteError, Error};
use crate::journal::{Claim, Submission};
use crate::key::Key;
use crate::log::commit::{Place, wait};
use crate::observe::{self, Made};
use crate::record::{ChangeKind, Kept, Record, RecordId};
use crate::store::Shared;
use crate::sync::Arc;
use crate::transition;
use sealed::Sealed;

/// A handle whose operation can be completed: a [`Permit`], an [`Execution`] or an
/// [`Interrupted`]. [`Store::complete_many`](crate::Store::complete_many) takes any of them.
pub trait Completable: Sealed {}

impl Completable for Permit {}
impl Completable for Execution {}
impl Completable for Interrupted {}

/// A handle whose operation can be started: a [`Permit`], or an [`Interrupted`], whose operation is
/// then retried. [`Store::start_many`](crate::Store::start_many) takes either.
pub trait Startable: Sealed {}

impl Startable for Permit {}
impl Startable for Interrupted {}

pub(crate) mod sealed {
    use super::{Arc, Error, Hold, Record, Timestamp, transition};

    /// Nobody else can write a handle.
    #[expect(private_interfaces, reason = "the trait is sealed: nobody else can name it")]
    pub trait Sealed: Sized {
        /// Whether the operation was started, so that its end is never refused for what others have
        /// in the queue.
        #[doc(hidden)]
        const STARTED: bool;

        #[doc(hidden)]
        fn hold(&self) -> &Hold;

        #[cfg(feature = "async")]
        #[doc(hidden)]
        fn hold_mut(&mut self) -> &mut Hold;

        #[doc(hidden)]
        fn into_hold(self) -> Hold;

        /// The record of the execution that runs, or of the one that would be started now.
        #[doc(hidden)]
        fn started(&self) -> Result<Arc<Record>, Error>;

        /// What a completion takes the place of.
        #[doc(hidden)]
        fn completing(&self) -> Result<Arc<Record>, Error> {
            self.started()
        }

        /// When the completed record expires, if that is another time than before.
        #[doc(hidden)]
        fn renewed_expiry(&self, started: &Record, now: Timestamp) -> Option<Timestamp> {
            transition::renewed_expiry(started, now)
        }
    }
}

/// A step in the life of a key, on its way into the journal, and the handle that makes it.
pub(crate) trait Step: Sized {
    /// What comes of it.
    type Done;
    /// Why nothing came of it, with the handle if that is as it was.
    type Refusal;

    fn hold(&self) -> &Hold;

    #[cfg(feature = "async")]
    fn hold_mut(&mut self) -> &mut Hold;

    /// What the step leaves of the hold if nobody waits for it any more.
    #[cfg(feature = "async")]
    fn leaves(&self) -> Leaves;

    fn change(&self) -> Submission;

    /// What becomes of it, as the journal says.
    fn conclude(self, appended: Result<(), Error>) -> Result<Self::Done, Self::Refusal>;

    /// Makes it durable by itself.
    fn append(self) -> Result<Self::Done, Self::Refusal> {
        let appended = self.hold().shared().journal.append(self.change());
        self.conclude(appended)
    }
}

/// Starts the operation of a handle, and returns once that is durable.
pub(crate) fn start<H: Startable>(handle: H) -> Result<Execution, Error> {
    Start::new(handle)?.append()
}

/// A start on its way into the journal.
pub(crate) struct Start<H> {
    handle: H,
    record: Arc<Record>,
    /// Taken before the start is durable: from then on the operation counts as started.
    lock: Option<Arc<dyn Disk>>,
}

impl<H: Startable> Start<H> {
    pub(crate) fn new(handle: H) -> Result<Self, Error> {
        let lock = handle.hold().shared().journal.lock();
        Ok(Self { record: handle.started()?, lock, handle })
    }
}

impl<H: Startable> Step for Start<H> {
    type Done = Execution;
    type Refusal = Error;

    fn hold(&self) -> &Hold {
        self.handle.hold()
    }

    #[cfg(feature = "async")]
    fn hold_mut(&mut self) -> &mut Hold {
        self.handle.hold_mut()
    }

    #[cfg(feature = "async")]
    fn leaves(&self) -> Leaves {
        let record = Arc::clone(&self.record);
        if record.attempt == 1 { Leaves::Unrun(record) } else { Leaves::Execution }
    }

    fn change(&self) -> Submission {
        (self.hold().change(ChangeKind::Put(Arc::clone(&self.record))), Claim::Start)
    }

    fn conclude(self, appended: Result<(), Error>) -> Result<Execution, Error> {
        observe::made(Made::Started, appended.as_ref().err().map(|error| error as _));
        appended.map(|()| Execution::started(self.handle.into_hold(), self.record, self.lock))
    }
}

/// Stores a result, and returns once it is durable.
pub(crate) fn complete<H: Completable>(
    handle: H,
    result: &[u8],
) -> Result<Completed, CompleteError<H>> {
    let handle = fitting(handle, result.len())?;
    let placed = wait(place(&handle, result.len()));
    Completion::of_result(handle, result, placed)?.append().map(Completed::new)
}

/// Stores what tells a result from others, and returns once that is durable.
pub(crate) fn complete_tombstone<H: Completable>(
    handle: H,
    result: &[u8],
) -> Result<Tombstone, CompleteError<H>> {
    Completion::of_tombstone(handle, result)?.append().map(Tombstone::new)
}

/// A result or a checkpoint that is longer than the store takes.
pub(crate) struct TooLarge {
    pub(crate) len: usize,
    pub(crate) max: usize,
}

impl TooLarge {
    pub(crate) fn give_back<H>(self, handle: H) -> CompleteError<H> {
        let Self { len, max } = self;
        CompleteError::TooLarge { len, max, handle }
    }
}

/// Whether the store takes a result or a checkpoint of this length.
pub(crate) fn check_len(shared: &Shared, len: usize) -> Result<(), TooLarge> {
    let max = shared.options.result_len_max;
    if max < len { Err(TooLarge { len, max }) } else { Ok(()) }
}

/// The handle, if the store takes a result of this length for it.
pub(crate) fn fitting<H: Completable>(handle: H, len: usize) -> Result<H, CompleteError<H>> {
    match check_len(handle.hold().shared(), len) {
        Ok(()) => Ok(handle),
        Err(too_large) => Err(too_large.give_back(handle)),
    }
}

/// A place for a result of this length, which is to be waited for. One that is stored without a start
/// has its scope's share of the queue instead.
pub(crate) fn place<H: Completable>(handle: &H, len: usize) -> Result<Option<Place>, Error> {
    if H::STARTED { handle.hold().shared().journal.place(len) } else { Ok(None) }
}

/// A completion on its way into the journal.
pub(crate) struct Completion<H> {
    handle: H,
    /// Where the record of the key stands until now.
    from: RecordId,
    record: Arc<Record>,
    /// The place of its bytes.
    place: Option<Arc<Place>>,
}

impl<H: Completable> Completion<H> {
    /// The completion, or the handle and why there is none.
    pub(crate) fn new(handle: H, kept: Kept) -> Result<Self, (Error, H)> {
        let Shared { time, index, .. } = &**handle.hold().shared();
        let now = time.now();
        let completed = handle.completing().and_then(|started| {
            let mut record = transition::complete(&started, kept, now);
            if let Some(expires_at) = handle.renewed_expiry(&started, now) {
                record.id = RecordId { expires_at, serial: index.take_serial()? };
            }
            Ok((started.id, Arc::new(record)))
        });
        match completed {
            Ok((from, record)) => Ok(Self { handle, from, record, place: None }),
            Err(error) => Err((error, handle)),
        }
    }

    /// The completion with this result, if the store takes one so long, and there is a place for it.
    pub(crate) fn of_result(
        handle: H,
        result: &[u8],
        placed: Result<Option<impl Into<Arc<Place>>>, Error>,
    ) -> Result<Self, CompleteError<H>> {
        let handle = fitting(handle, result.len())?;
        let place = match placed {
            Ok(place) => place.map(Into::into),
            Err(error) => return Err(CompleteError::refused((error, handle))),
        };
        let completion = Self::new(handle, Kept::Whole(result.into()));
        let completion = completion.map_err(CompleteError::refused)?;
        Ok(Self { place, ..completion })
    }

    /// The completion with what tells this result from others.
    pub(crate) fn of_tombstone(handle: H, result: &[u8]) -> Result<Self, CompleteError<H>> {
        Self::new(handle, Kept::tombstone(result)).map_err(CompleteError::refused)
    }

    /// The record is durable, and the handle has done its work.
    pub(crate) fn into_durable(self) -> Arc<Record> {
        observe::made(Made::Completed, None);
        self.handle.into_hold().has_ended();
        self.record
    }
}

impl<H: Completable> Step for Completion<H> {
    type Done = Arc<Record>;
    type Refusal = CompleteError<H>;

    fn hold(&self) -> &Hold {
        self.handle.hold()
    }

    #[cfg(feature = "async")]
    fn hold_mut(&mut self) -> &mut Hold {
        self.handle.hold_mut()
    }

    #[cfg(feature = "async")]
    fn leaves(&self) -> Leaves {
        Leaves::Rest
    }

    fn change(&self) -> Submission {
        let change = self.hold().change(ChangeKind::put(self.from, Arc::clone(&self.record)));
        (change, if H::STARTED { Claim::End { _place: self.place.clone() } } else { Claim::Start })
    }

    fn conclude(self, appended: Result<(), Error>) -> Result<Arc<Record>, CompleteError<H>> {
        match appended {
            Ok(()) => Ok(self.into_durable()),
            Err(error) => {
                observe::made(Made::Completed, Some(&error));
                Err(CompleteError::refused((error, self.handle)))
            }
        }
    }
}

/// The facts of a record that handles show alike.
macro_rules! record_facts {
    ($($handle:ty),* $(,)?) => {$(
        impl $handle {
            /// The key of the operation.
            #[must_use]
            pub fn key(&self) -> &Key {
                &self.record.key
            }

            /// When the operation was begun for the first time. Its retention runs from here, unless
            /// it was completed after that was over.
            ///
            /// Times are the store's: those of the wall clock, for as long as that is right. They stay
            /// what they are when the clock is set right later.
            #[must_use]
            pub fn begun_at(&self) -> Timestamp {
                self.record.begun_at
            }

            /// When its retention is over: from this moment on the key is free, unless somebody
            /// holds it.
            #[must_use]
            pub fn expires_at(&self) -> Timestamp {
                self.record.id.expires_at
            }

            /// Which execution of the operation this is, counted from 1 since the key was last free.
            /// After `abandon`, `forget` or the retention it is 1 again, so that key and attempt may
            /// be the same for two executions that were both wanted. A callee that keeps keys gets
            /// the key alone; [`begun_at`](Self::begun_at) beside it tells two lives of a key apart.
            #[must_use]
            pub fn attempt(&self) -> u32 {
                self.record.attempt
            }
        }
    )*};
}

record_facts!(Execution, Interrupted, Completed, Tombstone);

/// What the handles of a started operation have alike.
macro_rules! started_facts {
    ($($handle:ty),* $(,)?) => {$(
        impl $handle {
            /// The last checkpoint that the operation has stored, in this attempt or an earlier
            /// one: see [`Execution::checkpoint`].
            #[must_use]
            pub fn last_checkpoint(&self) -> Option<&[u8]> {
                self.record.state.checkpoint()
            }

            /// Frees the key: the effect did not happen, and the operation may be tried again.
            ///
            /// Returns once that is durable.
            ///
            /// # Errors
            ///
            /// Any of [`Error`]. The operation is interrupted then, or free if the outcome is
            /// unknown and the store says so when it is opened again.
            pub fn abandon(self) -> Result<(), Error> {
                self.hold.remove(&self.record)
            }
        }
    )*};
}

started_facts!(Execution, Interrupted);

/// None of the handles shows its key or its result.
macro_rules! opaque_debug {
    ($($handle:ty => $name:literal),* $(,)?) => {$(
        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )*};
}

opaque_debug!(
    Permit => "Permit",
    Execution => "Execution",
    Interrupted => "Interrupted",
    InFlight => "InFlight",
    Completed => "Completed",
    Tombstone => "Tombstone",
);
