//! The rules: what each event does to a key. These are pure functions, without clock, lock or I/O,
//! and none of them can fail.
//!
//! ```text
//! free -> reserved -> executing -> completed -> free
//!             \          |  ^
//!              \         v  |
//!               \    interrupted -> completed | free
//!                `-> completed
//! ```
//!
//! The rules know keys and times, but not where a record is stored: every engine obeys them.
//! [`holder`] says who holds a key, [`record`] what is stored for it, [`retention`] how long that
//! counts, and [`effect`] what an operation leaves that ends without a result. This file derives
//! from these what each call does.

pub(crate) mod effect;
mod holder;
pub(crate) mod record;
pub(crate) mod retention;
mod status;

use crate::clock::Timestamp;
use crate::key::Fingerprint;
use crate::sync::Arc;
pub(crate) use holder::{Event, Holder};
use record::{Done, Kept, Record, State};
pub use status::Status;

/// What is known about a key at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Known<'r> {
    pub(crate) holder: Holder,
    /// Since when the key is held.
    pub(crate) since: Timestamp,
    /// The stored record, whether it still counts or has expired.
    pub(crate) record: Option<&'r Arc<Record>>,
    pub(crate) now: Timestamp,
}

/// The answer to a call, and how the caller claims the key, if it does.
pub(crate) struct Decision<T> {
    pub(crate) answer: T,
    pub(crate) claim: Option<Claim>,
}

/// How a caller claims a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// As a free key: its record, if there is one, has expired.
    Free,
    /// Together with its record.
    Stored,
}

/// The answer of `begin`.
pub(crate) enum Answer {
    /// No record counts, at this time.
    Fresh(Timestamp),
    Replay(Done),
    InFlight {
        since: Timestamp,
    },
    Mismatch,
    Interrupted(Arc<Record>),
}

/// The answer to a call that has only the key.
pub(crate) enum Take {
    /// An execution that was detached.
    Execution(Arc<Record>),
    /// A key that no handle holds.
    AtRest(Arc<Record>),
    /// A live handle holds the key.
    Held,
    /// There is nothing to claim under this key.
    Nothing,
}

/// What is seen of a key that isn't free.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    pub(crate) since: Timestamp,
    /// `None` while nothing is stored for the key.
    pub(crate) record: Option<Arc<Record>>,
}

impl<T> Decision<T> {
    fn only(answer: T) -> Self {
        Self { answer, claim: None }
    }

    fn claiming(claim: Claim, answer: T) -> Self {
        Self { answer, claim: Some(claim) }
    }
}

impl Answer {
    /// Returns whether the answer stays true in a store that accepts no further writes: what was
    /// durable before is still durable.
    pub(crate) fn outlives_failure(&self) -> bool {
        match self {
            Self::Replay(_) | Self::Mismatch => true,
            Self::Fresh(_) | Self::InFlight { .. } | Self::Interrupted(_) => false,
        }
    }
}

impl<'r> Known<'r> {
    /// A key that no handle holds.
    pub(crate) fn at_rest(record: Option<&'r Arc<Record>>, now: Timestamp) -> Self {
        Self { holder: Holder::Nobody, since: now, record, now }
    }

    /// Returns the record, if it counts. The record of a held key counts for as long as its holder
    /// is alive, whatever the time.
    fn counting(self) -> Option<&'r Arc<Record>> {
        self.record.filter(|record| {
            self.holder != Holder::Nobody || retention::is_live(record.expires_at, self.now)
        })
    }

    /// Returns whether only time can change this: no handle holds the key, and no operation is
    /// open.
    pub(crate) fn is_final(self) -> bool {
        self.holder == Holder::Nobody && self.record.is_none_or(|record| !record.state.is_started())
    }

    /// Returns the status of the key, or `None` if it's free.
    pub(crate) fn status(self) -> Option<Status> {
        match (self.holder, self.counting().map(|record| &record.state)) {
            (Holder::Reservation, _) => Some(Status::Reserved),
            (Holder::Execution | Holder::Detached, _) => Some(Status::Executing),
            (Holder::Nobody, None) => None,
            // No handle holds it, so its caller is gone, and how far it came is unknown.
            (Holder::Nobody, Some(State::Started { .. })) => Some(Status::Interrupted),
            (Holder::Nobody, Some(State::Completed { kept: Kept::Whole(_), .. })) => {
                Some(Status::Completed)
            }
            (Holder::Nobody, Some(State::Completed { kept: Kept::Digest(_), .. })) => {
                Some(Status::NotKept)
            }
        }
    }
}

/// Decides `begin`.
pub(crate) fn begin(known: Known<'_>, fingerprint: &Fingerprint) -> Decision<Answer> {
    let stored = known.counting();
    // Compare the request first: a caller may not learn what another request did.
    if stored.is_some_and(|record| !record.fingerprint.matches(fingerprint)) {
        return Decision::only(Answer::Mismatch);
    }
    match (known.holder, stored) {
        (Holder::Reservation | Holder::Execution | Holder::Detached, _) => {
            Decision::only(Answer::InFlight { since: known.since })
        }
        (Holder::Nobody, None) => Decision::claiming(Claim::Free, Answer::Fresh(known.now)),
        (Holder::Nobody, Some(record)) => {
            if let Some(done) = Done::of(record) {
                Decision::only(Answer::Replay(done))
            } else {
                Decision::claiming(Claim::Stored, Answer::Interrupted(Arc::clone(record)))
            }
        }
    }
}

/// Decides a claim to finish an operation by its key: one that was detached, or one that was
/// interrupted and may have ended elsewhere since.
pub(crate) fn take_execution(known: Known<'_>) -> Decision<Take> {
    match (known.holder, known.counting()) {
        (Holder::Reservation | Holder::Execution, _) => Decision::only(Take::Held),
        (Holder::Detached, Some(record)) => {
            Decision::claiming(Claim::Stored, Take::Execution(Arc::clone(record)))
        }
        (Holder::Nobody, Some(record)) if record.state.is_started() => {
            Decision::claiming(Claim::Stored, Take::AtRest(Arc::clone(record)))
        }
        (Holder::Nobody, Some(_) | None) => Decision::only(Take::Nothing),
        (Holder::Detached, None) => unreachable!("what was detached was started"),
    }
}

/// Decides a claim to forget a completed operation.
pub(crate) fn take_completed(known: Known<'_>) -> Decision<Take> {
    match (known.holder, known.counting()) {
        (Holder::Reservation | Holder::Execution | Holder::Detached, _) => {
            Decision::only(Take::Held)
        }
        (Holder::Nobody, Some(record)) if !record.state.is_started() => {
            Decision::claiming(Claim::Stored, Take::AtRest(Arc::clone(record)))
        }
        (Holder::Nobody, Some(_) | None) => Decision::only(Take::Nothing),
    }
}

/// Decides a look at a key, which leaves it as it is.
pub(crate) fn look(known: Known<'_>) -> Decision<Option<Seen>> {
    let Known { since, record, .. } = known;
    let seen = |status| Seen { status, since, record: record.cloned() };
    Decision::only(known.status().map(seen))
}

/// Returns the answer to a request that has waited for another request with the same key, which is
/// now completed. The waiter was there before the completion, so it gets the result even if the
/// retention has ended; but the key may have passed to another request meanwhile.
pub(crate) fn waited(done: Done, fingerprint: &Fingerprint) -> Answer {
    if done.record.fingerprint.matches(fingerprint) {
        Answer::Replay(done)
    } else {
        Answer::Mismatch
    }
}

#[cfg(test)]
mod tests;
