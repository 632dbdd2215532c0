//! Expired records are at the left edge of the table, and are cut off there, slice by slice.

use std::ops::Bound;

use super::{Meta, Places, Vault, from_row_key, row_key};
use crate::clock::Timestamp;
use crate::error::{Error, StorageError};
use crate::limits::{SWEEP_BYTES_MAX, SWEEP_RECORDS_MAX};
use crate::local::change::RecordId;
use crate::local::codec::Scanned;

/// The next expired records, as many as one slice looks at.
#[derive(Default)]
pub(crate) struct Slice {
    /// The records to delete.
    chosen: Vec<Expired>,
    /// How many records it has looked at, and the last of them.
    looked_at: usize,
    last: Option<RecordId>,
    /// Bytes of results that have a separate row, for the records to delete.
    bytes: u64,
}

/// An expired record, as found by a sweep.
struct Expired {
    id: RecordId,
    /// Whether its result has a separate row.
    apart: bool,
}

impl Slice {
    /// How many records to delete.
    pub(crate) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Where the slice ended, if it ended because it was full and not for lack of expired records.
    pub(crate) fn cut(&self) -> Option<RecordId> {
        self.last.filter(|_| self.is_full())
    }

    fn is_full(&self) -> bool {
        SWEEP_RECORDS_MAX <= self.looked_at || SWEEP_BYTES_MAX <= self.bytes
    }

    fn look_at(&mut self, id: RecordId, row: &Scanned<'_>, is_chosen: bool) {
        self.looked_at += 1;
        self.last = Some(id);
        if is_chosen {
            self.bytes += u64::from(row.apart.unwrap_or_default());
            self.chosen.push(Expired { id, apart: row.apart.is_some() });
        }
    }
}

impl Vault {
    /// The next expired records after this place, oldest first, and which of them `choose` selects.
    pub(crate) fn expired(
        &self,
        after: Option<RecordId>,
        now: Timestamp,
        mut choose: impl FnMut(RecordId, &Scanned<'_>) -> bool,
    ) -> Result<Slice, StorageError> {
        let end = Bound::Included((now.as_unix_ms(), u64::MAX));
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(row_key(id)));
        let slice = self.look(|tables| {
            let (mut slice, mut places) = (Slice::default(), Places::after(after));
            for row in tables.records.range((start, end))? {
                let (key, value) = row?;
                let (id, row) = places.scan(key.value(), value.value())?;
                slice.look_at(id, &row, choose(id, &row));
                if slice.is_full() {
                    break;
                }
            }
            Ok(slice)
        });
        Ok(slice?)
    }

    /// Whether any record has expired.
    pub(crate) fn has_expired(&self, now: Timestamp) -> Result<bool, Error> {
        let expired = ..=(now.as_unix_ms(), u64::MAX);
        Ok(self.look(|tables| Ok(tables.records.range(expired)?.next().transpose()?.is_some()))?)
    }

    /// Deletes the chosen records of this slice, in one transaction.
    pub(crate) fn delete(&self, slice: &Slice, meta: &Meta) -> Result<(), StorageError> {
        let chosen = &slice.chosen;
        let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return Ok(()) };
        let range = row_key(first.id)..=row_key(last.id);
        self.write(meta, |records, results| {
            // Both run in the same order, so that one step of each decides about a row. Cutting a
            // range is several times faster than looking its rows up one by one.
            let mut next = chosen.iter().map(|expired| row_key(expired.id)).peekable();
            records.retain_in(range, |key, _| next.next_if_eq(&key).is_none())?;
            for expired in chosen.iter().filter(|expired| expired.apart) {
                results.remove(expired.id.serial)?;
            }
            Ok(())
        })
    }

    /// Gives free space at the end of the file back to the disk. redb does this with each commit, a
    /// part at a time, and not before the commit after the one that freed the space.
    pub(crate) fn shrink(&self, meta: &Meta) -> Result<(), StorageError> {
        const COMMITS_MAX: usize = 16;
        let len = || self.with(|open| Ok(open.backend.file_len()?));
        let mut before = len()?;
        for commit in 0..COMMITS_MAX {
            self.write(meta, |_, _| Ok(()))?;
            let after = len()?;
            if before <= after && 1 < commit {
                break;
            }
            before = after;
        }
        Ok(())
    }

    /// When the next record expires.
    pub(crate) fn next_expiry(&self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let expiry = self.look(|tables| {
            let row = tables.records.range((now.as_unix_ms() + 1, 0)..)?.next().transpose()?;
            Ok(row.map(|(key, _)| from_row_key(key.value()).expires_at))
        });
        Ok(expiry?)
    }
}
