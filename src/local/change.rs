//! One step in the life of a key, as the journal keeps it.

use crate::clock::Timestamp;
use crate::rules::record::Record;
use crate::sync::Arc;

/// Where a record stands in the vault. In this order records expire, and nearly in this order
/// they are made: new ones go in at the right, expired ones are cut off at the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    pub(crate) expires_at: Timestamp,
    /// Tells apart what expires in the same millisecond. Never used twice.
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
    /// This is what is known of the key from now on.
    Put(Arc<Record>),
    /// The same, and the record of the key leaves this other place.
    Move { from: RecordId, to: Arc<Record> },
    /// Nothing is stored of the key any more: it is free again.
    Remove(Arc<Record>),
}

impl Change {
    /// When the record expires that the change is of.
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

    /// A new record of a key whose record stood there before.
    pub(crate) fn put(from: RecordId, record: Arc<Record>) -> Self {
        if RecordId::of(&record) == from {
            Self::Put(record)
        } else {
            Self::Move { from, to: record }
        }
    }

    /// What it makes of each place that it changes: a record, or none.
    pub(crate) fn places(&self) -> impl Iterator<Item = (RecordId, Option<&Record>)> {
        let (from, to) = match self {
            Self::Put(record) => (None, (RecordId::of(record), Some(&**record))),
            Self::Move { from, to } => (Some((*from, None)), (RecordId::of(to), Some(&**to))),
            Self::Remove(record) => (None, (RecordId::of(record), None)),
        };
        from.into_iter().chain([to])
    }
}
