//! What `begin` answers.

use crate::handle::{Completed, InFlight, Interrupted, Permit, Tombstone};
use crate::record::Record;
use crate::sync::Arc;

/// What to do about a request.
#[derive(Debug)]
#[must_use = "the answer says whether the operation may run"]
#[non_exhaustive]
pub enum Begin {
    /// The key was never used, or its retention is over: run the operation.
    Fresh(Permit),
    /// The operation was completed before: answer with the stored result.
    Replay(Completed),
    /// The operation was completed before, and its result was too long to keep: run nothing, and
    /// answer without it.
    Tombstone(Tombstone),
    /// The same operation is running now (HTTP would say 409): try again later, or
    /// [wait](InFlight::wait) for its outcome.
    InFlight(InFlight),
    /// The key was used for another request (HTTP would say 422). Nothing about that request is
    /// revealed.
    Mismatch,
    /// The operation was started, and no handle of it is left: its effect may have happened or not.
    /// Find out, then say so.
    Interrupted(Interrupted),
}

impl Begin {
    /// The answer for an operation that is completed.
    pub(crate) fn completed(record: Arc<Record>) -> Self {
        if record.state.tombstone().is_some() {
            Self::Tombstone(Tombstone::new(record))
        } else {
            Self::Replay(Completed::new(record))
        }
    }
}
