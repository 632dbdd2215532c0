//! What has expired is at the left edge of the table, and is cut off there, slice by slice.

use std::ops::Bound;

use super::{Meta, Places, Vault, from_row_key, row_key};
use crate::clock::Timestamp;
use crate::error::{Error, StorageError};
use crate::limits::{SWEEP_BYTES_MAX, SWEEP_RECORDS_MAX};
use crate::local::change::RecordId;
use crate::local::codec::Scanned;

/// The next expired records, as far as one sweep looks.
#[derive(Default)]
pub(crate) struct Slice {
    /// Those that are deleted.
    chosen: Vec<Expired>,
    /// How many it has looked at, and the last of them.
    looked_at: usize,
    last: Option<RecordId>,
    /// Bytes of results of those that are deleted, if they have rows of their own.
    bytes: u64,
}

/// An expired record, as a sweep meets it.
struct Expired {
    id: RecordId,
    /// Whether its result has a row of its own.
    apart: bool,
}

impl Slice {
    /// How many records are deleted.
    pub(crate) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Where it has ended, if that was for its bounds and not for want of expired records.
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
    /// The next expired records behind this place, oldest first, and those of them for which
    /// `choose` says yes.
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

    /// Deletes what was chosen of this slice, in one transaction.
    pub(crate) fn delete(&self, slice: &Slice, meta: &Meta) -> Result<(), StorageError> {
        let chosen = &slice.chosen;
        let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return Ok(()) };
        let range = row_key(first.id)..=row_key(last.id);
        self.write(meta, |records, results| {
            // Both run in the same order, so that one step of each decides about a row. Cutting a
            // range is several times faster than to look for its rows one by one.
            let mut next = chosen.iter().map(|expired| row_key(expired.id)).peekable();
            records.retain_in(range, |key, _| next.next_if_eq(&key).is_none())?;
            for expired in chosen.iter().filter(|expired| expired.apart) {
                results.remove(expired.id.serial)?;
            }
            Ok(())
        })
    }

    /// Gives the end of the file back to the disk, if it is free. redb does so with a commit, a part of
    /// it at a time, and not before the commit after the one that has freed it.
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

    /// When the first record expires that has not done so yet.
    pub(crate) fn next_expiry(&self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let expiry = self.look(|tables| {
            let row = tables.records.range((now.as_unix_ms() + 1, 0)..)?.next().transpose()?;
            Ok(row.map(|(key, _)| from_row_key(key.value()).expires_at))
        });
        Ok(expiry?)
    }
}
