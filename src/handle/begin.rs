//! What `begin` answers.

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
/// Each answer is to be handled, so a `match` needs no `_` arm: a version that had another one would
/// not compile with it.
///
/// ```
/// use idemstore::{Begin, Error, Fingerprint, Key, Store};
///
/// fn status(store: &Store, key: &Key, request: Fingerprint) -> Result<u16, Error> {
///     Ok(match store.begin(key, request)? {
///         // Start it, run it, complete it. Dropping the permit leaves the key as it was.
///         Begin::Fresh(_permit) => 202,
///         Begin::Replay(_completed) => 200,
///         Begin::InFlight(_) | Begin::NotKept(_) => 409,
///         Begin::Mismatch => 422,
///         // Find out whether it has happened: `resolve`, `abandon` or `retry`.
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
    /// The key was never used, or its retention is over: run the operation.
    Fresh(Permit),
    /// The operation was completed before: answer with the stored result.
    Replay(Completed),
    /// The operation was completed before, and its result was too long to keep: run nothing, and
    /// answer without it.
    #[doc(alias = "Tombstone")]
    NotKept(NotKept),
    /// The same operation is running now (HTTP would say 409): try again later, or
    /// [wait](InFlight::wait) for its outcome.
    InFlight(InFlight),
    /// The key was used for another request (HTTP would say 422). Nothing about that request is
    /// revealed.
    Mismatch,
    /// The operation was started, and no handle of it is left: its effect may have happened or not.
    /// Find out, then say so.
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
    // Before any lock is taken, which a thread that a forked child does not have may hold.
    engine.journal.check_process()?;
    let answer = engine.ask(at, |known| rules::begin(known, &fingerprint))?;
    let outlives_failure = answer.outlives_failure();
    let begin = Begin::new(engine, at, fingerprint, answer);
    match engine.journal.check() {
        Err(Error::Poisoned(_)) if outlives_failure => Ok(begin),
        // If it is an error, dropping the answer lets go of the key.
        checked => checked.map(|()| begin),
    }
}

impl Begin {
    /// Hands out what the rules have answered, with the key that was claimed for it.
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

    /// The answer to a request that has waited for another one of its key, which is done now.
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

    /// The name of the answer, for events and numbers.
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
