//! Disk space for started operations: a start is refused if there is none, so that its completion
//! never is.
//!
//! The store reserves disk space for itself: as much as its settles may need for everything in the
//! log and for the longest result of each started operation. It reserves more than that in advance.
//! Once the disk has no more to reserve, what is left is shared: a scope may take as much of it as
//! it leaves for others.

use std::collections::HashMap;
use std::io;

use super::Journal;
use crate::error::Bound;
use crate::error::{Error, is_full};
use crate::limits::{CHANGE_OVERHEAD_MAX, KEPT_BYTES_MAX, KEPT_BYTES_MIN, KEPT_PART};
use crate::local::disk::Disk;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// redb rounds a long row up to a power of two pages.
const ROUNDED_UP: u64 = 2;

#[derive(Default)]
pub(super) struct Reserve {
    /// Starts that aren't durable yet.
    pending: AtomicU64,
    /// Bytes in the log that the vault doesn't have.
    unsettled: AtomicU64,
    /// Length of the vault's file when it was last written.
    file_bytes: AtomicU64,
    /// Bytes that were reserved when that was last checked.
    kept: AtomicU64,
    /// Whether the disk had no room for more.
    is_short: AtomicBool,
    /// Whether a sweep has freed something, so that the vault's file may be able to shrink.
    was_swept: AtomicBool,
    /// What each scope has been promised since the disk ran short.
    taken: Mutex<HashMap<Box<[u8]>, u64>>,
    /// Held during each promise, so that a promise counts only if it's given. Acquired before all
    /// other locks.
    granting: Mutex<()>,
}

/// Room for one start, until the start is durable and counts by itself.
pub(crate) struct Promise(Arc<Reserve>);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reserve {
    fn grant(self: &Arc<Self>) -> Promise {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Promise(Arc::clone(self))
    }

    pub(super) fn logged(&self, bytes: u64) {
        self.unsettled.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn settled(&self, bytes: u64) {
        self.unsettled.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A sweep has made room in the vault, which is now shared anew.
    pub(super) fn swept(&self) {
        self.was_swept.store(true, Ordering::Relaxed);
        self.taken.lock().clear();
    }

    /// The vault was written. If that used some of the reserve, the disk is full; if not, what is
    /// left is shared anew.
    fn written(&self, disk: &dyn Disk, file_bytes: u64) {
        self.file_bytes.store(file_bytes, Ordering::Relaxed);
        let kept = disk.kept();
        if kept < self.kept.swap(kept, Ordering::Relaxed) {
            self.is_short.store(true, Ordering::Relaxed);
        } else if self.is_short.load(Ordering::Relaxed) {
            self.taken.lock().clear();
        }
    }

    /// Reserves `needed` bytes of the disk, and twice that again in advance, so that few starts
    /// have to ask the disk. If the disk has less, tries smaller and smaller advances, so that a
    /// lot is left to share.
    fn keep(&self, disk: &dyn Disk, needed: u64) -> io::Result<()> {
        const STEPS: u32 = 5;
        let ahead = needed.saturating_mul(3).min(KEPT_BYTES_MAX);
        let least = needed.max(disk.kept());
        let mut kept = disk.keep(ahead);
        let is_short = matches!(&kept, Err(error) if is_full(error));
        let steps = (1..=STEPS).map(|step| ahead.saturating_sub(least) >> step).chain([0]);
        for more in steps.take_while(|_| is_short) {
            kept = disk.keep(least + more);
            if kept.is_ok() {
                break;
            }
        }
        self.kept.store(disk.kept(), Ordering::Relaxed);
        if !is_short {
            self.taken.lock().clear();
        }
        self.is_short.store(is_short, Ordering::Relaxed);
        kept
    }

    /// Whether a scope may take `bytes` more of what is left on a disk that is short of space.
    fn take_share(&self, scope: &[u8], bytes: u64, left: u64) -> bool {
        let mut taken = self.taken.lock();
        let before = taken.get(scope).copied().unwrap_or_default();
        // A scope that has had nothing may take the last.
        let has_share = before == 0 || before + bytes <= left;
        if has_share {
            taken.insert(scope.into(), before + bytes);
        }
        has_share
    }
}

/// Bytes that may be written to the disk for the longest result of one operation.
fn of_one(result_len_max: usize) -> u64 {
    ROUNDED_UP * (result_len_max + CHANGE_OVERHEAD_MAX) as u64
}

/// Bytes that may be written to the disk before everything in the log, and everything that
/// `started` operations may still store, is settled.
pub(super) fn needed(file_bytes: u64, unsettled: u64, started: u64, result_len_max: usize) -> u64 {
    let results = started.saturating_mul(of_one(result_len_max));
    let settles = unsettled.saturating_mul(ROUNDED_UP);
    let commits = KEPT_BYTES_MIN + file_bytes / KEPT_PART;
    results.saturating_add(settles).saturating_add(commits).min(KEPT_BYTES_MAX)
}

impl Journal {
    /// Bytes that are needed for the started operations, and for `more` of them.
    fn needed(&self, more: u64) -> u64 {
        let room = self.index.room();
        let unsettled = self.reserve.unsettled.load(Ordering::Relaxed);
        let started = room.started() + self.reserve.pending.load(Ordering::Relaxed);
        let file_bytes = self.reserve.file_bytes.load(Ordering::Relaxed);
        needed(file_bytes, unsettled, started + more, room.result_len_max())
    }

    /// Must be called after each write to the vault.
    pub(super) fn look_at_reserve(&self) {
        if let Some(disk) = self.lock() {
            self.reserve.written(&*disk, self.vault.file_bytes().unwrap_or_default());
        }
    }

    /// Promises room for one more start in this scope.
    pub(super) fn promise(&self, scope: &[u8]) -> Result<Promise, Error> {
        let Some(disk) = self.lock() else { return Err(Error::Closed) };
        let _alone = self.reserve.granting.lock();
        if self.is_granted(&*disk, scope) || self.find_room(&*disk, scope) {
            return Ok(self.reserve.grant());
        }
        // The disk is short of space. What a settle writes counts twice while the settle runs, so
        // wait for it to finish.
        let granted = self.tend(|settled| {
            if self.find_room(&*disk, scope) {
                return Ok(true);
            }
            let may_shrink = self.reserve.was_swept.swap(false, Ordering::Relaxed);
            if may_shrink {
                self.vault.shrink(&self.meta(settled.last))?;
            }
            Ok(may_shrink && self.find_room(&*disk, scope))
        })?;
        let missing = self.needed(1).saturating_sub(disk.kept()).max(self.of_one());
        let refused = Error::Overloaded { bound: Bound::Disk { needed: missing } };
        if granted { Ok(self.reserve.grant()) } else { Err(refused) }
    }

    /// Asks the disk for room for one more start in this scope.
    fn find_room(&self, disk: &dyn Disk, scope: &[u8]) -> bool {
        match self.reserve.keep(disk, self.needed(1)) {
            // A disk that cannot reserve space cannot promise any. A write that finds no room fails
            // then.
            Err(error) if !is_full(&error) => true,
            _ => self.is_granted(disk, scope),
        }
    }

    fn of_one(&self) -> u64 {
        of_one(self.index.room().result_len_max())
    }

    /// Whether there is room for one more start in this scope.
    fn is_granted(&self, disk: &dyn Disk, scope: &[u8]) -> bool {
        let (needed, kept) = (self.needed(1), disk.kept());
        let is_ample = needed.saturating_mul(2).min(KEPT_BYTES_MAX) <= kept;
        match kept.checked_sub(needed) {
            Some(_) if !self.reserve.is_short.load(Ordering::Relaxed) => is_ample,
            Some(left) => self.reserve.take_share(scope, self.of_one(), left),
            None => false,
        }
    }

    /// Reserves as much disk space as is needed now, if there is room for it again, and releases a
    /// reserve that is far too large.
    pub(crate) fn tend_reserve(&self) {
        let Some(disk) = self.lock() else { return };
        // Don't release what is being promised right now.
        let _alone = self.reserve.granting.lock();
        let needed = self.needed(1);
        let kept = disk.kept();
        let is_far_more = needed.saturating_mul(6) < kept && kept != u64::MAX;
        if kept < needed || is_far_more || self.reserve.is_short.load(Ordering::Relaxed) {
            // An error means that the disk is still full.
            let _ = self.reserve.keep(&*disk, needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_has_a_least_and_a_most() {
        assert_eq!(needed(0, 0, 0, 0), KEPT_BYTES_MIN);
        assert_eq!(needed(9 * 1024, 10, 3, 100), KEPT_BYTES_MIN + 9 + 2 * (10 + 3 * (100 + 1024)));
        assert_eq!(needed(0, u64::MAX, u64::MAX, usize::MAX / 4), KEPT_BYTES_MAX);
    }

    #[test]
    fn a_scope_takes_as_much_of_what_is_left_as_it_leaves() {
        let reserve = Reserve::default();
        let mut left = 100;
        let mut take = |scope: &str| {
            let has_share = reserve.take_share(scope.as_bytes(), 10, left);
            left -= if has_share { 10 } else { 0 };
            has_share
        };
        assert_eq!((0..10).filter(|_| take("loud")).count(), 5);
        assert_eq!((0..10).filter(|_| take("second")).count(), 3);
        assert!(take("third") && !take("loud"));
        assert!(take("fourth") && !take("fourth"));
    }
}
