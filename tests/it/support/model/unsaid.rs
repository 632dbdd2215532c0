//! A disk that fails: what is true after a call whose outcome is unknown.
//!
//! A call that has failed with its disk reports whether anything of it may be durable. If so, the
//! store has all of it or nothing once it is opened again, and from then on always shows the same.

use std::fmt::Debug;
use std::ops::AddAssign;

#[cfg(feature = "transaction")]
use idemstore::TransactionError;
use idemstore::{
    Bound, CheckpointError, CompleteError, CopyError, Error, FinishError, KeyInfo, RunError,
    Status, Timestamp,
};

use super::{Done, Holder, Known, World, check_completed, check_tombstone, name};

/// What a call may have made true.
#[derive(Debug)]
pub(super) struct Unsaid {
    /// The state of this key in that case.
    pub(super) key: Option<(u8, Option<Known>)>,
    /// The caller's row in that case.
    pub(super) row: Option<(u8, u8)>,
}

/// How often each case was reached, so that a harness which no longer reaches one fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Calls that failed with the disk, and changed nothing.
    pub refused: u64,
    /// Calls with an unknown outcome that the next open found durable.
    pub happened: u64,
    /// Calls with an unknown outcome that the next open did not find.
    pub vanished: u64,
    /// Opens that failed with the disk.
    pub unopened: u64,
    /// Starts that were refused because the disk had no room to reserve for them.
    pub full: u64,
    /// Starts that were refused because others of their scope were waiting.
    pub crowded: u64,
}

impl Seen {
    pub fn expect_each(self) {
        println!("{self:?}");
        let Self { refused, happened, vanished, unopened, full: _, crowded } = self;
        assert!(0 < refused.min(happened).min(vanished).min(unopened), "not all was reached");
        // Without futures there are no floods.
        assert!(0 < crowded, "no queue was full");
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.happened += other.happened;
        self.vanished += other.vanished;
        self.unopened += other.unopened;
        self.full += other.full;
        self.crowded += other.crowded;
    }
}

/// What a call returns when the disk has failed.
pub(super) trait Failure: Debug {
    fn error(&self) -> Option<&Error>;

    /// Whether a start was refused because the disk is full.
    fn is_full(&self) -> bool {
        matches!(self.error(), Some(Error::Overloaded { bound: Bound::Disk { .. } }))
    }
}

impl Failure for Error {
    fn error(&self) -> Option<&Error> {
        Some(self)
    }
}

impl<H: Debug> Failure for CompleteError<H> {
    fn error(&self) -> Option<&Error> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Overloaded { bound: Bound::Disk { .. }, .. })
    }
}

impl Failure for FinishError {
    fn error(&self) -> Option<&Error> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }
}

impl Failure for CheckpointError {
    fn error(&self) -> Option<&Error> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }
}

impl<R, E> Failure for RunError<R, E> {
    fn error(&self) -> Option<&Error> {
        match self {
            Self::NotRun(error) | Self::NotFreed { source: error, .. } => Some(error),
            Self::NotStored { source, .. } => source.error(),
            _ => None,
        }
    }
}

#[cfg(feature = "transaction")]
impl<E: Debug> Failure for TransactionError<E> {
    fn error(&self) -> Option<&Error> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }
}

impl World {
    /// A disk that was full before the store could reserve any of it fails like any other.
    pub(super) fn disk_has_failed(&self) -> bool {
        let disk = &self.bench().disk;
        disk.has_failed() || disk.was_full()
    }

    /// Whether a call has failed with the disk. If so, it had no effect, or it returned that its
    /// outcome is unknown.
    pub(super) fn has_failed(&mut self, failure: &impl Failure) -> bool {
        if failure.is_full() {
            self.seen.full += 1;
            return true;
        }
        let error = failure.error().filter(|_| self.disk_has_failed());
        let failed = matches!(
            error,
            Some(Error::OutcomeUnknown(_) | Error::Poisoned(_) | Error::Storage(_))
        );
        self.seen.refused += u64::from(failed && !is_unknown(failure));
        failed
    }

    /// The result of a call that changes no key; `None` if the disk has failed it.
    pub(super) fn said<T, F: Failure>(&mut self, answer: Result<T, F>) -> Option<T> {
        match answer {
            Ok(said) => Some(said),
            Err(failure) => {
                assert!(self.has_failed(&failure) && !is_unknown(&failure), "{failure:?}");
                None
            }
        }
    }

    /// A call for a key has failed, and the caller has let go of the key. `known` is the state that
    /// the call was to bring about.
    pub(super) fn failed(&mut self, key: u8, known: Option<Known>, failure: &impl Failure) {
        self.failed_with(key, known, None, failure);
        self.let_go(key);
    }

    /// The same, for a call that lets go of nothing, and that was to write a row too.
    pub(super) fn failed_with(
        &mut self,
        key: u8,
        known: Option<Known>,
        row: Option<(u8, u8)>,
        failure: &impl Failure,
    ) {
        assert!(self.has_failed(failure), "{failure:?}");
        if is_unknown(failure) {
            self.unsaid.push(Unsaid { key: Some((key, known)), row });
        }
    }

    pub(super) fn copy_failed(&mut self, error: &CopyError) {
        let typed = match error {
            CopyError::Io(_) | CopyError::Storage(_) => true,
            CopyError::Store(error) => return assert!(self.has_failed(error), "{error:?}"),
            _ => false,
        };
        assert!(typed && self.disk_has_failed(), "{error:?}");
    }

    /// A call by key has failed, before or after it claimed a detached execution.
    pub(super) fn failed_by_key(&mut self, key: u8, known: Option<Known>, failure: &impl Failure) {
        self.failed_with(key, known, None, failure);
        if self.key(key).holder == Holder::Detached {
            let info = self.bench().store.get(&name(key)).expect("a held key is in memory");
            if info.is_none_or(|info| info.status() != Status::Executing) {
                self.let_go(key);
            }
        }
    }

    /// The store has been opened again: what was unknown is now true, or it is not, for good.
    pub(super) fn find_out(&mut self) {
        for Unsaid { key, row } in std::mem::take(&mut self.unsaid) {
            let key_says = key.as_ref().and_then(|(key, known)| self.decide(*key, known.as_ref()));
            let row_says = row.and_then(|row| self.decide_row(row));
            assert!(key_says.is_none() || row_says.is_none() || key_says == row_says, "one of two");
            // If both look alike, either may be taken as true.
            if key_says.or(row_says).unwrap_or_default() {
                self.seen.happened += 1;
                self.rows.extend(row);
                if let Some((key, known)) = key {
                    self.key(key).known = known;
                }
            } else {
                self.seen.vanished += 1;
            }
        }
    }

    /// Whether the key has its new state or its old one; `None` if these look alike.
    fn decide(&self, key: u8, next: Option<&Known>) -> Option<bool> {
        let info = self.bench().store.get(&name(key)).expect("it answers");
        let before = self.keys.get(&key).and_then(|state| state.known.as_ref());
        let is = |known: Option<&Known>| {
            let counting = known.filter(|known| self.now < known.expires);
            is_it(info.as_ref(), counting)
        };
        match (is(before), is(next)) {
            (true, true) => None,
            (false, false) => panic!("{info:?} is neither {before:?} nor {next:?}"),
            (_, happened) => Some(happened),
        }
    }

    #[cfg(not(feature = "transaction"))]
    #[expect(clippy::unused_self, reason = "there are no such rows")]
    fn decide_row(&self, _: (u8, u8)) -> Option<bool> {
        None
    }
}

pub(super) fn is_unknown(failure: &impl Failure) -> bool {
    matches!(failure.error(), Some(Error::OutcomeUnknown(_)))
}

/// Whether this is the state of a key at rest.
fn is_it(info: Option<&KeyInfo>, known: Option<&Known>) -> bool {
    let (info, known) = match (info, known) {
        (None, None) => return true,
        (Some(info), Some(known)) => (info, known),
        _ => return false,
    };
    let facts = (info.begun_at().as_unix_ms(), info.expires_at().map(Timestamp::as_unix_ms));
    if facts != (known.begun, Some(known.expires)) || info.attempts() != known.attempt {
        return false;
    }
    match (&known.done, info.completed(), info.not_kept()) {
        (None, None, None) => info.last_checkpoint() == known.checkpoint.as_deref(),
        (Some((_, Done::Result(_))), Some(completed), None) => {
            check_completed(&completed, known);
            true
        }
        (Some((_, Done::NotKept(_))), None, Some(tombstone)) => {
            check_tombstone(&tombstone, known);
            true
        }
        _ => false,
    }
}
