//! What the live table knows of a key that is held, or for which the vault is out of date.

use hashbrown::hash_table::OccupiedEntry;

use super::Located;
use super::entry::table_hash;
use super::table::take_out;
use super::waiters::{Outcome, Waiters};
use crate::canary;
use crate::clock::Timestamp;
use crate::error::Bound;
use crate::local::change::RecordId;
use crate::local::room::Room;
use crate::rules::record::{Done, Record};
use crate::rules::{Claim, Event, Holder, Known};
use crate::sync::Arc;

pub(super) struct Slot {
    pub(super) at: Located,
    pub(super) holder: Holder,
    pub(super) since: Timestamp,
    /// The durable record of the key, if there is one.
    pub(super) record: Option<Arc<Record>>,
    /// Whether the vault has that record.
    pub(super) settled: bool,
    pub(super) waiters: Option<Arc<Waiters>>,
}

/// Removes a slot that says no more than the key's entry does.
pub(super) fn remove_at_rest(slot: OccupiedEntry<'_, Slot>) {
    let Slot { holder, record, settled, .. } = slot.get();
    if *holder == Holder::Nobody && (*settled || record.is_none()) {
        remove(slot);
    }
}

pub(super) fn remove(slot: OccupiedEntry<'_, Slot>) -> Slot {
    take_out(slot, |slot| table_hash(slot.at.hash))
}

impl Slot {
    /// The slot of a key that was just claimed and had none.
    pub(super) fn claimed(at: Located, since: Timestamp, record: Option<Arc<Record>>) -> Self {
        let holder = Holder::Nobody.after(Event::Claimed);
        // A record without a slot can only have come from the vault.
        let settled = record.is_some();
        Self { at, holder, since, record, settled, waiters: None }
    }

    pub(super) fn known(&self, now: Timestamp) -> Known<'_> {
        let Self { holder, since, record, .. } = self;
        Known { holder: *holder, since: *since, record: record.as_ref(), now }
    }

    /// Whether its record is at this place.
    pub(super) fn is_of(&self, id: RecordId) -> bool {
        self.record.as_ref().is_some_and(|record| RecordId::of(record) == id)
    }

    /// Lets a caller hold the key, if there is room for it.
    pub(super) fn claim(&mut self, claim: Claim, now: Timestamp, room: &Room) -> Result<(), Bound> {
        if claim == Claim::Free {
            room.take(self.at.key.framed())?;
            // Any record that is left has expired: the sweeper deletes it.
            self.record = None;
            self.settled = false;
        }
        // A detached execution has held the key all the time.
        if self.holder == Holder::Nobody {
            self.since = now;
        }
        self.passes_on(Event::Claimed);
        Ok(())
    }

    pub(super) fn passes_on(&mut self, event: Event) {
        self.holder = self.holder.after(event);
    }

    /// Takes over a new record of the key, which is now durable.
    pub(super) fn put(&mut self, record: &Arc<Record>) {
        self.record = Some(Arc::clone(record));
        self.settled = false;
        match Done::of(record) {
            None => self.passes_on(Event::Started),
            Some(done) => {
                self.passes_on(Event::Completed);
                if !canary::sings("forgets to wake") {
                    self.wake(Outcome::Completed(done));
                }
            }
        }
    }

    pub(super) fn wake(&mut self, outcome: Outcome) {
        if let Some(waiters) = self.waiters.take() {
            waiters.wake(outcome);
        }
    }
}
