//! What the live table knows of a key that somebody holds, or that the vault is behind on.

use hashbrown::hash_table::OccupiedEntry;

use super::entry::table_hash;
use super::table::take_out;
use super::waiters::{Outcome, Waiters};
use super::{Probe, Taken};
use crate::canary;
use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::record::Record;
use crate::room::Room;
use crate::sync::Arc;
use crate::transition::{self, Answer, Holder, Take, TakeRule};

pub(super) struct Slot {
    pub(super) hash: u64,
    pub(super) key: Key,
    pub(super) holder: Holder,
    pub(super) since: Timestamp,
    /// What is durable of the key, if anything is.
    pub(super) record: Option<Arc<Record>>,
    /// Whether the vault has that record.
    pub(super) settled: bool,
    pub(super) waiters: Option<Arc<Waiters>>,
}

/// Removes a slot that says no more than the entry does.
pub(super) fn remove_at_rest(slot: OccupiedEntry<'_, Slot>) {
    let Slot { holder, record, settled, .. } = slot.get();
    if *holder == Holder::Nobody && (*settled || record.is_none()) {
        remove(slot);
    }
}

pub(super) fn remove(slot: OccupiedEntry<'_, Slot>) -> Slot {
    take_out(slot, |slot| table_hash(slot.hash))
}

impl Slot {
    pub(super) fn begin(
        &mut self,
        fingerprint: &Fingerprint,
        now: Timestamp,
        room: &Room,
    ) -> Probe {
        let answer = transition::begin(self.holder, self.record.as_deref(), fingerprint, now);
        match (answer, &self.record) {
            (Answer::Replay, Some(record)) => Probe::Replay(Arc::clone(record)),
            (Answer::Interrupted, Some(record)) => {
                let record = Arc::clone(record);
                self.hold(now);
                Probe::Interrupted(record)
            }
            (Answer::InFlight, _) => Probe::InFlight { since: self.since },
            (Answer::Mismatch, _) => Probe::Mismatch,
            // The record that is left, if any, has expired: it is the sweeper's now.
            (Answer::Fresh | Answer::Replay | Answer::Interrupted, _) => {
                if let Err(bound) = room.take(self.key.framed()) {
                    return Probe::Full(bound);
                }
                self.record = None;
                self.settled = false;
                self.hold(now);
                Probe::Reserved
            }
        }
    }

    pub(super) fn take(&mut self, rule: TakeRule, now: Timestamp) -> Taken {
        match (rule(self.holder, self.record.as_deref(), now), self.record.clone()) {
            (Take::Held, _) => Taken::Held,
            (Take::Open, Some(record)) if self.holder == Holder::Detached => {
                self.holder = Holder::Execution;
                Taken::Execution(record)
            }
            (Take::Open, Some(record)) => {
                self.hold(now);
                Taken::AtRest(record)
            }
            (Take::Open, None) | (Take::Nothing, _) => Taken::Nothing,
        }
    }

    fn hold(&mut self, now: Timestamp) {
        self.holder = Holder::Reservation;
        self.since = now;
    }

    /// A new record of the key is durable.
    pub(super) fn put(&mut self, record: &Arc<Record>) {
        self.record = Some(Arc::clone(record));
        self.settled = false;
        if record.state.is_started() {
            // An execution may be detached while a checkpoint of it is on its way.
            if self.holder != Holder::Detached {
                self.holder = Holder::Execution;
            }
        } else {
            self.holder = Holder::Nobody;
            if !canary::sings("forgets to wake") {
                self.wake(Outcome::Completed(Arc::clone(record)));
            }
        }
    }

    pub(super) fn wake(&mut self, outcome: Outcome) {
        if let Some(waiters) = self.waiters.take() {
            waiters.wake(outcome);
        }
    }
}
