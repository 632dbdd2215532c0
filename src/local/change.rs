//! One step in the life of a key, as the journal keeps it.

use crate::clock::Timestamp;
use crate::rules::record::Record;
use crate::sync::Arc;

/// The place of a record in the vault. Records expire in this order, and are created in almost the
/// same order: new records go in at the right, and expired ones are cut off at the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    pub(crate) expires_at: Timestamp,
    /// Distinguishes records that expire in the same millisecond. Never reused.
    pub(crate) serial: u64,
}

impl RecordId {
    pub(crate) fn of(record: &Record) -> Self {
        Self { expires_at: record.expires_at, serial: record.serial }
    }
}

/// One step in the life of a key.
#[derive(Clone)]
pub(crate) struct Change {
    /// Hash of the key in the live table.
    pub(crate) hash: u64,
    pub(crate) kind: ChangeKind,
}

#[derive(Clone)]
pub(crate) enum ChangeKind {
    /// The record that is known of the key from now on.
    Put(Arc<Record>),
    /// The same, and the key's record leaves the place `from`.
    Move { from: RecordId, to: Arc<Record> },
    /// Nothing is stored of the key any longer: it is free again.
    Remove(Arc<Record>),
}

impl Change {
    /// When the changed record expires.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.kind.record().expires_at
    }
}

impl ChangeKind {
    pub(crate) fn record(&self) -> &Arc<Record> {
        match self {
            Self::Put(record) | Self::Move { to: record, .. } | Self::Remove(record) => record,
        }
    }

    /// A new record of a key whose record was at `from` before.
    pub(crate) fn put(from: RecordId, record: Arc<Record>) -> Self {
        if RecordId::of(&record) == from {
            Self::Put(record)
        } else {
            Self::Move { from, to: record }
        }
    }

    /// Each place that it changes, and what that place holds afterwards: a record, or none.
    pub(crate) fn places(&self) -> impl Iterator<Item = (RecordId, Option<&Record>)> {
        let (from, to) = match self {
            Self::Put(record) => (None, (RecordId::of(record), Some(&**record))),
            Self::Move { from, to } => (Some((*from, None)), (RecordId::of(to), Some(&**to))),
            Self::Remove(record) => (None, (RecordId::of(record), None)),
        };
        from.into_iter().chain([to])
    }
}
