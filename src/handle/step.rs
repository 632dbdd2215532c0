//! A step in the life of a key, on its way into the journal.

use super::{Completable, Completed, Execution, Hold, Left, NotKept, Startable};
use crate::clock::Timestamp;
use crate::error::{CompleteError, Error};
use crate::local::Engine;
use crate::local::change::{ChangeKind, RecordId};
use crate::local::disk::Disk;
use crate::local::journal::{Claim, Submission};
use crate::local::log::commit::Place;
use crate::observe::{self, Made};
use crate::rules::effect::{Leaves, did_not_happen};
use crate::rules::record::{Digest, Kept, Record};
use crate::rules::retention::renewed_expiry;
use crate::sync::Arc;

/// A step, with the handle that makes it.
pub(crate) trait Step: Sized {
    /// What a durable step returns.
    type Done;
    /// Why the step failed, with the handle if that is as it was before.
    type Refusal;

    fn hold_mut(&mut self) -> &mut Hold;

    /// Returns what the step leaves of the hold if its future is dropped.
    fn leaves(&self) -> Left;

    fn change(&self) -> Submission;

    /// Concludes the step with the journal's outcome.
    fn conclude(self, appended: Result<(), Error>) -> Result<Self::Done, Self::Refusal>;
}

/// A start on its way into the journal.
pub(crate) struct Start<H> {
    handle: H,
    record: Arc<Record>,
    /// Acquired before the start is durable, because from then on the operation counts as started.
    lock: Option<Arc<dyn Disk>>,
}

impl<H: Startable> Start<H> {
    pub(crate) fn new(handle: H) -> Result<Self, Error> {
        let lock = handle.hold().engine().journal.lock();
        Ok(Self { record: handle.started()?, lock, handle })
    }
}

impl<H: Startable> Step for Start<H> {
    type Done = Execution;
    type Refusal = Error;

    fn hold_mut(&mut self) -> &mut Hold {
        self.handle.hold_mut()
    }

    /// No caller knows that the operation runs, so it has not run.
    fn leaves(&self) -> Left {
        match did_not_happen(self.record.attempt) {
            Leaves::Free => Left::Free(Arc::clone(&self.record)),
            Leaves::Interrupted => Left::Interrupted,
        }
    }

    fn change(&self) -> Submission {
        let put = ChangeKind::Put(Arc::clone(&self.record));
        (self.handle.hold().change(put), Claim::Start)
    }

    fn conclude(self, appended: Result<(), Error>) -> Result<Execution, Error> {
        observe::made(Made::Started, &appended);
        appended.map(|()| Execution::started(self.handle.into_hold(), self.record, self.lock))
    }
}

/// A checkpoint on its way into the journal.
pub(crate) struct Checkpoint<'e> {
    execution: &'e mut Execution,
    record: Arc<Record>,
    place: Option<Arc<Place>>,
}

impl<'e> Checkpoint<'e> {
    pub(crate) fn new(execution: &'e mut Execution, progress: &[u8], place: Option<Place>) -> Self {
        let record = Arc::new(execution.record.with_checkpoint(progress.into()));
        Self { execution, record, place: place.map(Arc::new) }
    }
}

impl Step for Checkpoint<'_> {
    type Done = ();
    type Refusal = Error;

    fn hold_mut(&mut self) -> &mut Hold {
        &mut self.execution.hold
    }

    fn leaves(&self) -> Left {
        Left::Interrupted
    }

    fn change(&self) -> Submission {
        let put = ChangeKind::Put(Arc::clone(&self.record));
        (self.execution.hold.change(put), Claim::End { _place: self.place.clone() })
    }

    fn conclude(self, appended: Result<(), Error>) -> Result<(), Error> {
        observe::made(Made::Checkpointed, &appended);
        appended.map(|()| self.execution.record = self.record)
    }
}

/// The removal of a record on its way into the journal. Afterwards nothing is stored for the key.
pub(crate) struct Removal {
    hold: Hold,
    record: Arc<Record>,
}

impl Removal {
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        Self { hold, record }
    }
}

impl Step for Removal {
    type Done = ();
    type Refusal = Error;

    fn hold_mut(&mut self) -> &mut Hold {
        &mut self.hold
    }

    fn leaves(&self) -> Left {
        Left::Rest
    }

    fn change(&self) -> Submission {
        self.hold.removal(Arc::clone(&self.record))
    }

    fn conclude(self, appended: Result<(), Error>) -> Result<(), Error> {
        observe::made(Made::Freed, &appended);
        appended.map(|()| self.hold.has_ended())
    }
}

/// What is stored of a result: all of it, or its length and digest.
pub(crate) trait Keep: Clone {
    /// What the caller gets.
    type Done;

    fn kept(&self) -> Kept;

    fn done(self, record: Arc<Record>, completed_at: Timestamp) -> Self::Done;
}

impl Keep for Arc<[u8]> {
    type Done = Completed;

    fn kept(&self) -> Kept {
        Kept::Whole(Arc::clone(self))
    }

    fn done(self, record: Arc<Record>, completed_at: Timestamp) -> Completed {
        Completed::new(record, completed_at, self)
    }
}

impl Keep for Digest {
    type Done = NotKept;

    fn kept(&self) -> Kept {
        Kept::Digest(*self)
    }

    fn done(self, record: Arc<Record>, completed_at: Timestamp) -> NotKept {
        NotKept::new(record, completed_at, self)
    }
}

/// A completion on its way into the journal.
pub(crate) struct Completion<H, K = Arc<[u8]>> {
    handle: H,
    /// Where the current record of the key is stored.
    from: RecordId,
    record: Arc<Record>,
    completed_at: Timestamp,
    keep: K,
    /// The place of the result's bytes.
    place: Option<Arc<Place>>,
}

impl<H: Completable, K: Keep> Completion<H, K> {
    /// Builds the completion, or returns the handle and the reason why there is none.
    pub(crate) fn new(handle: H, keep: K) -> Result<Self, (Error, H)> {
        let Engine { time, index, .. } = &**handle.hold().engine();
        let completed_at = time.now();
        let completed = handle.completing().and_then(|started| {
            let mut record = started.completed(keep.kept(), completed_at);
            if H::STARTED
                && let Some(expires_at) = renewed_expiry(&started, completed_at)
            {
                (record.expires_at, record.serial) = (expires_at, index.take_serial()?);
            }
            Ok((RecordId::of(&started), Arc::new(record)))
        });
        match completed {
            Ok((from, record)) => {
                Ok(Self { handle, from, record, completed_at, keep, place: None })
            }
            Err(error) => Err((error, handle)),
        }
    }

    /// Concludes the completion: its record is durable, and the handle is no longer needed.
    pub(crate) fn into_durable(self) -> K::Done {
        observe::made(Made::Completed, &Ok(()));
        self.handle.into_hold().has_ended();
        self.keep.done(self.record, self.completed_at)
    }
}

impl<H: Completable> Completion<H> {
    /// Builds the completion, unless the result exceeds `result_len_max` or finds no place.
    pub(crate) fn of_result(
        handle: H,
        result: &[u8],
        placed: Result<Option<Arc<Place>>, Error>,
    ) -> Result<Self, CompleteError<H>> {
        let handle = fitting(handle, result.len())?;
        let place = match placed {
            Ok(place) => place,
            Err(error) => return Err(CompleteError::refused((error, handle))),
        };
        let completion = Self::new(handle, Arc::from(result)).map_err(CompleteError::refused)?;
        Ok(Self { place, ..completion })
    }
}

impl<H: Completable, K: Keep> Step for Completion<H, K> {
    type Done = K::Done;
    type Refusal = CompleteError<H>;

    fn hold_mut(&mut self) -> &mut Hold {
        self.handle.hold_mut()
    }

    fn leaves(&self) -> Left {
        Left::Rest
    }

    fn change(&self) -> Submission {
        let put = ChangeKind::put(self.from, Arc::clone(&self.record));
        let claim =
            if H::STARTED { Claim::End { _place: self.place.clone() } } else { Claim::Start };
        (self.handle.hold().change(put), claim)
    }

    fn conclude(self, appended: Result<(), Error>) -> Result<K::Done, CompleteError<H>> {
        match appended {
            Ok(()) => Ok(self.into_durable()),
            Err(error) => {
                observe::failed(Made::Completed, &error);
                Err(CompleteError::refused((error, self.handle)))
            }
        }
    }
}

/// A result that waits for its place. If the future is dropped meanwhile, the result is stored
/// anyway.
pub(crate) struct Placing<H: Completable, R: AsRef<[u8]>>(Option<(H, R)>);

impl<H: Completable, R: AsRef<[u8]>> Placing<H, R> {
    pub(crate) fn new(handle: H, result: R) -> Self {
        Self(Some((handle, result)))
    }

    /// Builds the completion, once there is a place.
    pub(crate) fn placed(
        mut self,
        placed: Result<Option<Place>, Error>,
    ) -> Result<Completion<H>, CompleteError<H>> {
        let (handle, result) = self.0.take().expect("only this takes it out");
        Completion::of_result(handle, result.as_ref(), placed.map(|place| place.map(Arc::new)))
    }
}

impl<H: Completable, R: AsRef<[u8]>> Drop for Placing<H, R> {
    fn drop(&mut self) {
        let Some((handle, result)) = self.0.take() else { return };
        if let Ok(mut left) = Completion::of_result(handle, result.as_ref(), Ok(None)) {
            let (change, leaves) = (left.change(), left.leaves());
            left.hold_mut().submit(change, leaves);
        }
    }
}

/// A result or a checkpoint that is longer than the store accepts.
pub(crate) struct TooLarge {
    pub(crate) len: usize,
    pub(crate) max: usize,
}

/// Checks whether the store accepts a result or a checkpoint of this length.
pub(crate) fn check_len(engine: &Engine, len: usize) -> Result<(), TooLarge> {
    let max = engine.options.result_len_max;
    if max < len { Err(TooLarge { len, max }) } else { Ok(()) }
}

/// Returns the handle, if the store accepts a result of this length for it.
pub(super) fn fitting<H: Completable>(handle: H, len: usize) -> Result<H, CompleteError<H>> {
    match check_len(handle.hold().engine(), len) {
        Ok(()) => Ok(handle),
        Err(TooLarge { len, max }) => Err(CompleteError::TooLarge { len, max, handle }),
    }
}
