//! What is known of one key once an operation has started under it.

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::room::Stage;
use crate::sync::Arc;

/// Where a record stands in the vault. In this order records expire, and nearly in this order
/// they are made: new ones go in at the right, expired ones are cut off at the left.
///
/// It stays the same for the whole life of a record, from start to expiry, but for one that is
/// completed after its retention was over: that one begins a new retention, in another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    pub(crate) expires_at: Timestamp,
    /// Tells apart what expires in the same millisecond. Never used twice.
    pub(crate) serial: u64,
}

/// A durable record.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) id: RecordId,
    pub(crate) key: Key,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) begun_at: Timestamp,
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
    Whole(Box<[u8]>),
    /// It was too long. BLAKE3 tells it from any other.
    Tombstone {
        len: u64,
        digest: [u8; 32],
    },
}

impl Kept {
    /// All that is kept of a result that is too long.
    pub(crate) fn tombstone(result: &[u8]) -> Self {
        Self::Tombstone { len: result.len() as u64, digest: blake3::hash(result).into() }
    }
}

impl Record {
    /// The same record in another state. The state that it had may hold many bytes, and is not
    /// copied for this.
    pub(crate) fn with_state(&self, state: State) -> Self {
        let Self { id, key, fingerprint, begun_at, attempt, keep, note, state: _ } = self;
        Self {
            id: *id,
            key: key.clone(),
            fingerprint: *fingerprint,
            begun_at: *begun_at,
            attempt: *attempt,
            keep: *keep,
            note: note.clone(),
            state,
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

    /// How far the operation has come.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Completed { kept: Kept::Whole(result), .. } => {
                Stage::Completed(result.len() as u64)
            }
            Self::Completed { kept: Kept::Tombstone { .. }, .. } => Stage::Completed(0),
            Self::Started { .. } => Stage::Started,
        }
    }

    /// The result, if it is there and was kept.
    pub(crate) fn result(&self) -> Option<&[u8]> {
        match self {
            Self::Completed { kept: Kept::Whole(result), .. } => Some(result),
            Self::Completed { .. } | Self::Started { .. } => None,
        }
    }

    /// Length and digest of a result that was not kept.
    pub(crate) fn tombstone(&self) -> Option<(u64, [u8; 32])> {
        match self {
            Self::Completed { kept: Kept::Tombstone { len, digest }, .. } => Some((*len, *digest)),
            Self::Completed { .. } | Self::Started { .. } => None,
        }
    }

    pub(crate) fn completed_at(&self) -> Option<Timestamp> {
        match self {
            Self::Completed { completed_at, .. } => Some(*completed_at),
            Self::Started { .. } => None,
        }
    }
}

/// One step in the life of a key, as the journal keeps it.
#[derive(Clone)]
pub(crate) struct Change {
    /// Hash of the key in the live table.
    pub(crate) hash: u64,
    pub(crate) kind: ChangeKind,
}

impl Change {
    /// When the record expires that the change is of.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.kind.record().id.expires_at
    }
}

#[derive(Clone)]
pub(crate) enum ChangeKind {
    /// This is what is known of the key from now on.
    Put(Arc<Record>),
    /// The same, and the record of the key leaves this other place.
    Move { from: RecordId, to: Arc<Record> },
    /// Nothing is stored of the key any more: it is free again.
    Remove(Arc<Record>),
}

impl ChangeKind {
    pub(crate) fn record(&self) -> &Arc<Record> {
        match self {
            Self::Put(record) | Self::Move { to: record, .. } | Self::Remove(record) => record,
        }
    }

    /// A new record of a key whose record stood there before.
    pub(crate) fn put(from: RecordId, record: Arc<Record>) -> Self {
        if record.id == from { Self::Put(record) } else { Self::Move { from, to: record } }
    }

    /// What it makes of each place that it changes: a record, or none.
    pub(crate) fn places(&self) -> impl Iterator<Item = (RecordId, Option<&Record>)> {
        let (from, to) = match self {
            Self::Put(record) => (None, (record.id, Some(&**record))),
            Self::Move { from, to } => (Some((*from, None)), (to.id, Some(&**to))),
            Self::Remove(record) => (None, (record.id, None)),
        };
        from.into_iter().chain([to])
    }
}
