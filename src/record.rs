//! What is known of one key once an operation has started under it.

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::sync::Arc;

/// Where a record stands in the vault. In this order records expire, and nearly in this order
/// they are made: new ones go in at the right, expired ones are cut off at the left.
///
/// It stays the same for the whole life of a record, from start to expiry.
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
    pub(crate) state: State,
}

#[derive(Clone)]
pub(crate) enum State {
    /// The operation has started: it may have had its effect.
    Started,
    Completed {
        completed_at: Timestamp,
        result: Box<[u8]>,
    },
}

/// One step in the life of a key, as the journal keeps it.
#[derive(Clone)]
pub(crate) struct Change {
    /// Hash of the key in the live table.
    pub(crate) hash: u64,
    pub(crate) kind: ChangeKind,
}

#[derive(Clone)]
pub(crate) enum ChangeKind {
    /// This is what is known of the key from now on.
    Put(Arc<Record>),
    /// The effect did not happen: the key is free again.
    Remove(Arc<Record>),
}

impl Change {
    pub(crate) fn record(&self) -> &Arc<Record> {
        match &self.kind {
            ChangeKind::Put(record) | ChangeKind::Remove(record) => record,
        }
    }
}
