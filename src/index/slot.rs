//! What the live table knows of a key that somebody holds, or that the vault is behind on.

use hashbrown::hash_table::OccupiedEntry;

use super::waiters::{Outcome, Waiters};
use super::{Attach, Probe};
use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::record::{Record, State};
use crate::sync::Arc;
use crate::transition::{self, Answer, Finish, Holder};

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
        slot.remove();
    }
}

impl Slot {
    pub(super) fn begin(&mut self, fingerprint: &Fingerprint, now: Timestamp) -> Probe {
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
                self.record = None;
                self.settled = false;
                self.hold(now);
                Probe::Reserved
            }
        }
    }

    pub(super) fn attach(&mut self, now: Timestamp) -> Attach {
        let finish = transition::finish(self.holder, self.record.as_deref(), now);
        match (finish, self.record.clone()) {
            (Finish::Held, _) => Attach::Held,
            (Finish::Open, Some(record)) if self.holder == Holder::Detached => {
                self.holder = Holder::Execution;
                Attach::Execution(record)
            }
            (Finish::Open, Some(record)) => {
                self.hold(now);
                Attach::Interrupted(record)
            }
            (Finish::Open, None) | (Finish::NotExecuting, _) => Attach::NotExecuting,
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
        match record.state {
            State::Started => self.holder = Holder::Execution,
            State::Completed { .. } => {
                self.holder = Holder::Nobody;
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
