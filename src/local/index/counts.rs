//! Counts the keys of the live table by their state.

use super::Shard;
use super::slot::Slot;
use crate::clock::Timestamp;
use crate::rules::Holder;
use crate::rules::retention::is_live;

/// How many keys are in each state.
#[derive(Default)]
pub(crate) struct Counts {
    /// Records that have not expired.
    pub(crate) live: usize,
    pub(crate) expired: usize,
    /// Keys that are held.
    pub(crate) held: usize,
    /// Keys that have waiters.
    pub(crate) waited_for: usize,
    /// Live records of operations that were started and not completed.
    started: usize,
    /// The part of `started` whose keys are held.
    started_held: usize,
}

impl Counts {
    /// Keys whose operation was started and that aren't held.
    pub(crate) fn interrupted(&self) -> usize {
        self.started.saturating_sub(self.started_held)
    }
}

impl Shard {
    pub(super) fn count(&self, now: Timestamp, counts: &mut Counts) {
        for entry in &self.entries {
            let is_live = is_live(entry.id().expires_at, now);
            counts.live += usize::from(is_live);
            counts.expired += usize::from(!is_live);
            counts.started += usize::from(is_live && entry.is_started());
        }
        for Slot { holder, record, waiters, .. } in &self.slots {
            let is_held = *holder != Holder::Nobody;
            let is_started = record
                .as_ref()
                .is_some_and(|record| record.state.is_started() && is_live(record.expires_at, now));
            counts.held += usize::from(is_held);
            counts.started_held += usize::from(is_held && is_started);
            counts.waited_for += usize::from(waiters.is_some());
        }
    }
}
