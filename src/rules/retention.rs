//! How long a record counts.

use std::time::Duration;

use super::{Holder, Record};
use crate::clock::Timestamp;

/// Returns whether a record counts: until its retention ends, and no longer at that very moment.
pub(crate) fn is_live(expires_at: Timestamp, now: Timestamp) -> bool {
    now < expires_at
}

/// Returns whether a record may be deleted: its retention has ended, and no handle holds the key.
pub(crate) fn is_sweepable(expires_at: Timestamp, holder: Holder, now: Timestamp) -> bool {
    holder == Holder::Nobody && !is_live(expires_at, now)
}

/// Returns when a record expires that was begun at `begun_at` and is started now. Without this, a
/// permit held for longer than its retention would start an operation whose record counts for
/// nothing.
pub(crate) fn expiry(begun_at: Timestamp, retention: Duration, now: Timestamp) -> Timestamp {
    let expires_at = begun_at.saturating_add(retention);
    if is_live(expires_at, now) { expires_at } else { now.saturating_add(retention) }
}

/// Returns when a record expires that is completed now, if that changes. A record whose retention
/// has ended begins a new one of the same length; otherwise it would be free a moment later.
pub(crate) fn renewed_expiry(record: &Record, now: Timestamp) -> Option<Timestamp> {
    let retention = record.expires_at.saturating_since(record.begun_at);
    (!is_live(record.expires_at, now)).then(|| now.saturating_add(retention))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EXPIRY, at, started};
    use super::*;

    #[test]
    fn sweeping_follows_the_same_boundary() {
        let expires_at = started().expires_at;
        assert!(!is_sweepable(expires_at, Holder::Nobody, at(EXPIRY - 1)));
        assert!(is_sweepable(expires_at, Holder::Nobody, at(EXPIRY)));
        for holder in [Holder::Reservation, Holder::Execution, Holder::Detached] {
            assert!(!is_sweepable(expires_at, holder, at(EXPIRY)));
        }
    }

    #[test]
    fn a_record_that_is_completed_late_begins_a_new_retention() {
        assert_eq!(renewed_expiry(&started(), at(EXPIRY - 1)), None);
        assert_eq!(renewed_expiry(&started(), at(EXPIRY)), Some(at(2 * EXPIRY)));
        assert_eq!(renewed_expiry(&started(), at(5 * EXPIRY)), Some(at(6 * EXPIRY)));
    }

    #[test]
    fn a_permit_that_is_older_than_its_retention_starts_a_new_one() {
        let retention = Duration::from_millis(EXPIRY);
        assert_eq!(expiry(at(1), retention, at(EXPIRY)), at(EXPIRY + 1));
        assert_eq!(expiry(at(1), retention, at(EXPIRY + 1)), at(2 * EXPIRY + 1));
        assert_eq!(expiry(at(1), Duration::ZERO, at(7)), at(7));
    }
}
