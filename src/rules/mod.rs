//! The rules: what each event does to a key. Pure functions: no clock, no lock, no I/O, and
//! nothing here can fail.
//!
//! ```text
//! free -> reserved -> executing -> completed -> free
//!             \          |  ^
//!              \         v  |
//!               \    interrupted -> completed | free
//!                `-> completed
//! ```
//!
//! They know keys and times, and nothing of where a record is kept: every engine obeys them. Who
//! holds a key is in [`holder`], what is stored of it in [`record`], for how long that counts in
//! [`retention`], and what an operation that ends without a result leaves in [`effect`]. Here is
//! what follows from these for each call.

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

/// What is known of a key at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Known<'r> {
    pub(crate) holder: Holder,
    /// Since when it is held.
    pub(crate) since: Timestamp,
    /// What is stored of it, whether that counts or has expired.
    pub(crate) record: Option<&'r Arc<Record>>,
    pub(crate) now: Timestamp,
}

/// The answer to a call, and whether the caller has the key in hand from now on.
pub(crate) struct Decision<T> {
    pub(crate) answer: T,
    pub(crate) claim: Option<Claim>,
}

/// How a caller takes a key in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is free: what is stored of it, if anything, has expired.
    Free,
    /// With what is stored of it.
    Stored,
}

/// What `begin` finds.
pub(crate) enum Answer {
    /// Nothing that counts, at this time.
    Fresh(Timestamp),
    Replay(Done),
    InFlight {
        since: Timestamp,
    },
    Mismatch,
    Interrupted(Arc<Record>),
}

/// What a call that has only the key finds.
pub(crate) enum Take {
    /// An execution that was detached.
    Execution(Arc<Record>),
    /// A key that nobody has in hand.
    AtRest(Arc<Record>),
    /// A live handle has it.
    Held,
    /// There is nothing under it to take.
    Nothing,
}

/// What a look at a key finds that is not free.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    pub(crate) since: Timestamp,
    /// `None` while nothing of the key is stored.
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
    /// Whether it stays true of a store that takes no further writes: what was durable before is
    /// durable now.
    pub(crate) fn outlives_failure(&self) -> bool {
        match self {
            Self::Replay(_) | Self::Mismatch => true,
            Self::Fresh(_) | Self::InFlight { .. } | Self::Interrupted(_) => false,
        }
    }
}

impl<'r> Known<'r> {
    /// A key that nobody holds.
    pub(crate) fn at_rest(record: Option<&'r Arc<Record>>, now: Timestamp) -> Self {
        Self { holder: Holder::Nobody, since: now, record, now }
    }

    /// What is stored, if it counts: a held key is used for as long as its holder lives, whatever
    /// the time.
    fn counting(self) -> Option<&'r Arc<Record>> {
        self.record.filter(|record| {
            self.holder != Holder::Nobody || retention::is_live(record.expires_at, self.now)
        })
    }

    /// Whether this cannot change but by time: nobody holds the key, and no operation is open.
    pub(crate) fn is_final(self) -> bool {
        self.holder == Holder::Nobody && self.record.is_none_or(|record| !record.state.is_started())
    }

    /// What the key is; `None` if it is free.
    pub(crate) fn status(self) -> Option<Status> {
        match (self.holder, self.counting().map(|record| &record.state)) {
            (Holder::Reservation, _) => Some(Status::Reserved),
            (Holder::Execution | Holder::Detached, _) => Some(Status::Executing),
            (Holder::Nobody, None) => None,
            // Nobody holds it, so its caller is gone, and it is not known how far it came.
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

/// `begin`: what is there for this request?
pub(crate) fn begin(known: Known<'_>, fingerprint: &Fingerprint) -> Decision<Answer> {
    let stored = known.counting();
    // Which request it is comes first: what another request did is not this caller's to know.
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

/// An execution, to finish it by its key: one that was detached, or that was interrupted and may
/// well have ended elsewhere since.
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

/// A completed operation, to forget it.
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

/// A look that leaves the key as it is.
pub(crate) fn look(known: Known<'_>) -> Decision<Option<Seen>> {
    let Known { since, record, .. } = known;
    let seen = |status| Seen { status, since, record: record.cloned() };
    Decision::only(known.status().map(seen))
}

/// The answer to a request that has waited for another one of its key, which is done now. The
/// waiter was there before, so that the retention may be over; but the key may have passed to
/// another request meanwhile.
pub(crate) fn waited(done: Done, fingerprint: &Fingerprint) -> Answer {
    if done.record.fingerprint.matches(fingerprint) {
        Answer::Replay(done)
    } else {
        Answer::Mismatch
    }
}

#[cfg(test)]
mod tests;
