//! The answers of `begin`.

use super::{Completed, Hold, InFlight, Interrupted, NotKept, Permit};
use crate::error::Error;
use crate::key::{Fingerprint, Key};
use crate::local::Engine;
use crate::local::index::Located;
use crate::observe;
use crate::rules::record::{Done, Kept};
use crate::rules::{self, Answer};
use crate::sync::Arc;

/// What to do about a request.
///
/// Handle every answer: a `match` needs no `_` arm, and a version with another answer would not
/// compile with it.
///
/// ```
/// use idemstore::{Begin, Error, Fingerprint, Key, Store};
///
/// fn status(store: &Store, key: &Key, request: Fingerprint) -> Result<u16, Error> {
///     Ok(match store.begin(key, request)? {
///         // Start it, run it, complete it. Dropping the permit releases the key.
///         Begin::Fresh(_permit) => 202,
///         Begin::Replay(_completed) => 200,
///         Begin::InFlight(_) | Begin::NotKept(_) => 409,
///         Begin::Mismatch => 422,
///         // Find out whether it happened, then call `resolve`, `abandon` or `retry`.
///         Begin::Interrupted(_doubt) => 409,
///     })
/// }
///
/// # let store = Store::in_memory()?;
/// let key = Key::new("order-1")?;
/// assert_eq!(status(&store, &key, Fingerprint::of("2 apples"))?, 202);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the answer says whether the operation may run"]
pub enum Begin {
    /// The key was never used, or its retention has ended: run the operation.
    Fresh(Permit),
    /// The operation was completed before: return the stored result.
    Replay(Completed),
    /// The operation was completed before, but its result was too long to keep: don't run it again,
    /// and answer without the result.
    #[doc(alias = "Tombstone")]
    NotKept(NotKept),
    /// The same operation is running now, or is about to (409 in HTTP): try again later, or
    /// [wait](InFlight::wait) for its outcome.
    InFlight(InFlight),
    /// The key was used for another request (422 in HTTP). Nothing about that request is revealed.
    Mismatch,
    /// The operation was started, and no handle to it is left: its effect may or may not have
    /// happened. Find out which, then say so with this handle.
    #[doc(alias = "in-doubt")]
    Interrupted(Interrupted),
}

/// Asks what to do about a request.
pub(crate) fn begin(
    engine: &Arc<Engine>,
    at: Located<&Key>,
    fingerprint: Fingerprint,
) -> Result<Begin, Error> {
    let begin = checked(engine, at, fingerprint);
    observe::answered(begin.as_ref().map(Begin::name));
    begin
}

fn checked(
    engine: &Arc<Engine>,
    at: Located<&Key>,
    fingerprint: Fingerprint,
) -> Result<Begin, Error> {
    // This check comes before any lock: in a forked child, a lock may be held by a thread that the
    // child does not have.
    engine.journal.check_process()?;
    let answer = engine.ask(at, |known| rules::begin(known, &fingerprint))?;
    let outlives_failure = answer.outlives_failure();
    let begin = Begin::new(engine, at, fingerprint, answer);
    match engine.journal.check() {
        Err(Error::Poisoned(_)) if outlives_failure => Ok(begin),
        // After an error, dropping the answer releases the key.
        checked => checked.map(|()| begin),
    }
}

impl Begin {
    /// Builds the handle for an answer of the rules, with the key that was claimed for it.
    fn new(
        engine: &Arc<Engine>,
        at: Located<&Key>,
        fingerprint: Fingerprint,
        answer: Answer,
    ) -> Self {
        let hold = || Hold::new(Arc::clone(engine), at.to_owned());
        match answer {
            Answer::Fresh(now) => {
                Self::Fresh(Permit::new(hold(), fingerprint, now, engine.options.retention))
            }
            Answer::Interrupted(record) => Self::Interrupted(Interrupted::new(hold(), record)),
            Answer::InFlight { since } => {
                Self::InFlight(InFlight::new(Arc::clone(engine), at.to_owned(), fingerprint, since))
            }
            Answer::Replay(done) => Self::done(done),
            Answer::Mismatch => Self::Mismatch,
        }
    }

    fn done(Done { record, completed_at, kept }: Done) -> Self {
        match kept {
            Kept::Whole(result) => Self::Replay(Completed::new(record, completed_at, result)),
            Kept::Digest(digest) => Self::NotKept(NotKept::new(record, completed_at, digest)),
        }
    }

    /// Returns the answer to a request that has waited for another request with the same key, which
    /// is now completed.
    pub(super) fn waited(
        engine: &Arc<Engine>,
        at: Located<&Key>,
        fingerprint: Fingerprint,
        done: Done,
    ) -> Self {
        let begin = Self::new(engine, at, fingerprint, rules::waited(done, &fingerprint));
        observe::answered(Ok(begin.name()));
        begin
    }

    /// Returns the name of the answer, for events and metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Fresh(_) => "fresh",
            Self::Replay(_) => "replay",
            Self::NotKept(_) => "not_kept",
            Self::InFlight(_) => "in_flight",
            Self::Mismatch => "mismatch",
            Self::Interrupted(_) => "interrupted",
        }
    }
}
