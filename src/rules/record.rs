//! What is stored for a key once an operation has started under it.

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::sync::Arc;

/// A durable record.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) begun_at: Timestamp,
    /// The same for the whole life of a record, unless the operation is completed after its
    /// retention has ended.
    pub(crate) expires_at: Timestamp,
    /// Distinguishes this record from every other that ever existed. It changes together with
    /// `expires_at`.
    pub(crate) serial: u64,
    /// The number of this execution, counted from 1; each retry increments it.
    pub(crate) attempt: u32,
    /// Whether the record is kept past its retention for as long as it's interrupted.
    pub(crate) keep: bool,
    /// A note stored at the start, for the caller that has to finish the operation.
    pub(crate) note: Option<Box<[u8]>>,
    pub(crate) state: State,
}

#[derive(Clone)]
pub(crate) enum State {
    /// The operation has started, and may have had its effect. The last checkpoint, if there is
    /// one, says how far it has come.
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
    /// The result was too long.
    Digest(Digest),
}

/// What identifies a result.
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

/// A record whose operation is completed, to be replayed.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) record: Arc<Record>,
    pub(crate) completed_at: Timestamp,
    pub(crate) kept: Kept,
}

impl Done {
    /// Returns `None` if the operation isn't completed.
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
    /// Returns the record with this checkpoint.
    pub(crate) fn with_checkpoint(&self, progress: Box<[u8]>) -> Self {
        self.with_state(State::Started { checkpoint: Some(progress) })
    }

    /// Returns the record of the next attempt of an interrupted operation, which starts from its
    /// last checkpoint. Its retention is still counted from the first `begin`.
    pub(crate) fn retried(&self) -> Self {
        Self { attempt: self.attempt.saturating_add(1), ..self.clone() }
    }

    /// Returns the record of the completed operation, with what is kept of its result.
    pub(crate) fn completed(&self, kept: Kept, completed_at: Timestamp) -> Self {
        self.with_state(State::Completed { completed_at, kept })
    }

    /// Returns the same record in another state. The old state may contain many bytes, so it isn't
    /// copied.
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
