//! What is known of one key once an operation has started under it.

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::sync::Arc;

/// A durable record.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) begun_at: Timestamp,
    /// It stays the same for the whole life of a record, but for one that is completed after its
    /// retention was over.
    pub(crate) expires_at: Timestamp,
    /// Tells this record from every other that there ever was. It changes with `expires_at`.
    pub(crate) serial: u64,
    /// Counts the executions from 1; a retry of an interrupted one is the next.
    pub(crate) attempt: u32,
    /// Whether it stays past its retention for as long as it is interrupted.
    pub(crate) keep: bool,
    /// What was stored at the start, for the one who has to finish it.
    pub(crate) note: Option<Box<[u8]>>,
    pub(crate) state: State,
}

#[derive(Clone)]
pub(crate) enum State {
    /// The operation has started: it may have had its effect. Its last checkpoint says how far it
    /// has come, if it has said so.
    Started {
        checkpoint: Option<Box<[u8]>>,
    },
    Completed {
        completed_at: Timestamp,
        kept: Kept,
    },
}

/// What is kept of a result.
#[derive(Clone)]
pub(crate) enum Kept {
    Whole(Arc<[u8]>),
    /// It was too long.
    Digest(Digest),
}

/// What tells a result from any other.
#[derive(Clone, Copy)]
pub(crate) struct Digest {
    pub(crate) len: u64,
    pub(crate) blake3: [u8; 32],
}

impl Digest {
    pub(crate) fn of(result: &[u8]) -> Self {
        Self { len: result.len() as u64, blake3: blake3::hash(result).into() }
    }
}

/// A record whose operation is completed: what is replayed.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) record: Arc<Record>,
    pub(crate) completed_at: Timestamp,
    pub(crate) kept: Kept,
}

impl Done {
    /// `None` if the operation is not completed.
    pub(crate) fn of(record: &Arc<Record>) -> Option<Self> {
        match &record.state {
            State::Started { .. } => None,
            State::Completed { completed_at, kept } => Some(Self {
                record: Arc::clone(record),
                completed_at: *completed_at,
                kept: kept.clone(),
            }),
        }
    }
}

impl State {
    pub(crate) fn is_started(&self) -> bool {
        matches!(self, Self::Started { .. })
    }

    pub(crate) fn checkpoint(&self) -> Option<&[u8]> {
        match self {
            Self::Started { checkpoint } => checkpoint.as_deref(),
            Self::Completed { .. } => None,
        }
    }
}

impl Record {
    /// The operation has come this far.
    pub(crate) fn with_checkpoint(&self, progress: Box<[u8]>) -> Self {
        self.with_state(State::Started { checkpoint: Some(progress) })
    }

    /// An interrupted operation starts again, from its last checkpoint. Its retention still runs
    /// from its first begin.
    pub(crate) fn retried(&self) -> Self {
        Self { attempt: self.attempt.saturating_add(1), ..self.clone() }
    }

    /// The operation is done, and this is kept of its result.
    pub(crate) fn completed(&self, kept: Kept, completed_at: Timestamp) -> Self {
        self.with_state(State::Completed { completed_at, kept })
    }

    /// The same record in another state. The state that it had may hold many bytes, and is not
    /// copied for this.
    fn with_state(&self, state: State) -> Self {
        let Self { key, fingerprint, begun_at, expires_at, serial, attempt, keep, note, state: _ } =
            self;
        Self {
            key: key.clone(),
            fingerprint: *fingerprint,
            begun_at: *begun_at,
            expires_at: *expires_at,
            serial: *serial,
            attempt: *attempt,
            keep: *keep,
            note: note.clone(),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::started;

    #[test]
    fn a_retry_keeps_everything_but_the_attempt() {
        let first = started().with_checkpoint(Box::from(*b"step 2"));
        let again = first.retried();
        assert_eq!(again.attempt, 2);
        assert_eq!((again.expires_at, again.serial), (first.expires_at, first.serial));
        assert_eq!(again.begun_at, first.begun_at);
        assert_eq!(again.state.checkpoint(), Some(&b"step 2"[..]));
    }
}
