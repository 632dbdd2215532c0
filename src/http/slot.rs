//! Holds the operation of a request, between the layer and the handler.

use std::mem;

use super::backing::{Claim, Limit, leave};
use crate::handle::Execution;
use crate::sync::{Arc, Mutex};

/// What the layer and the handler of a request share of its operation.
#[derive(Clone)]
pub(super) struct Slot {
    place: Arc<Mutex<Place>>,
    pub(super) limit: Limit,
}

enum Place {
    Claimed(Claim),
    Starting,
    Started(Execution),
    /// The handler has left it to be finished by its key.
    Left,
    /// The handler has answered.
    Closed,
}

/// What is left of an operation whose handler has answered.
pub(super) enum Answered {
    Started(Execution),
    /// It is finished by its key.
    Left,
    NotStarted,
}

impl Slot {
    /// The slot of an operation that is about to start.
    pub(super) fn starting(limit: Limit) -> Self {
        Self { place: Arc::new(Mutex::new(Place::Starting)), limit }
    }

    /// Lets the handler start the operation.
    pub(super) fn offer(&self, claim: Claim) {
        *self.place.lock() = Place::Claimed(claim);
    }

    /// Takes what is to be started, unless that was taken before.
    pub(super) fn take_claim(&self) -> Option<Claim> {
        let mut place = self.place.lock();
        match mem::replace(&mut *place, Place::Starting) {
            Place::Claimed(claim) => Some(claim),
            other @ (Place::Starting | Place::Started(_) | Place::Left | Place::Closed) => {
                *place = other;
                None
            }
        }
    }

    /// Puts a started operation into the slot, for the layer to complete. Returns `false` if the
    /// handler has answered in the meantime: then no result will be stored, so the effect must not
    /// happen. Whether an earlier attempt had its effect remains unknown.
    pub(super) async fn put(&self, execution: Execution) -> bool {
        let Some(late) = self.put_down(execution) else { return true };
        // If this fails, the key is interrupted.
        leave(late, self.limit).await;
        false
    }

    /// Returns the execution if the handler has answered in the meantime.
    fn put_down(&self, execution: Execution) -> Option<Execution> {
        let mut place = self.place.lock();
        if matches!(*place, Place::Closed) {
            return Some(execution);
        }
        *place = Place::Started(execution);
        None
    }

    /// Leaves the operation to be finished by its key. Returns `false` if it isn't running.
    pub(super) fn leave(&self) -> bool {
        let mut place = self.place.lock();
        match mem::replace(&mut *place, Place::Left) {
            Place::Started(execution) => {
                execution.detach();
                true
            }
            Place::Left => true,
            other @ (Place::Claimed(_) | Place::Starting | Place::Closed) => {
                *place = other;
                false
            }
        }
    }

    fn close(&self) -> Place {
        mem::replace(&mut *self.place.lock(), Place::Closed)
    }
}

/// The layer's end of a slot. Once it's dropped, even by a panic of the handler, nothing left in a
/// clone of the slot keeps the key.
pub(super) struct Lease(pub(super) Slot);

impl Lease {
    /// What is left of the operation, now that its handler has answered.
    pub(super) fn close(self) -> Answered {
        match self.0.close() {
            Place::Started(execution) => Answered::Started(execution),
            Place::Left => Answered::Left,
            Place::Claimed(_) | Place::Starting | Place::Closed => Answered::NotStarted,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The contents are dropped after the lock is released.
        drop(self.0.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Begin, Fingerprint, Key, Status, Store};

    fn begin(store: &Store) -> Begin {
        let key = Key::new("abc").expect("it is a key");
        store.begin(&key, Fingerprint::of("request")).expect("it answers")
    }

    /// The handler answers while its start is still under way in a task that it left behind.
    fn start_late(claim: Claim) -> bool {
        let slot = Slot::starting(Limit(None));
        slot.offer(claim);
        let lease = Lease(slot.clone());
        let claim = slot.take_claim().expect("it is the first");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
        runtime.block_on(async {
            let execution = claim.start(Limit(None)).await.expect("it starts");
            assert!(matches!(lease.close(), Answered::NotStarted));
            slot.put(execution).await
        })
    }

    #[test]
    fn a_start_that_comes_late_is_taken_back_unless_an_earlier_attempt_may_have_had_its_effect() {
        let directory = tempfile::tempdir().expect("there is room");
        let builder =
            Store::builder().log_bytes(64 * 1024).result_len_max(1024).background_thread(false);
        let store = builder.open(directory.path().join("store")).expect("it opens");

        let Begin::Fresh(permit) = begin(&store) else { panic!("it is new") };
        assert!(!start_late(Claim::Fresh(permit)));
        assert_eq!(store.keys().count(), 0);

        let Begin::Fresh(permit) = begin(&store) else { panic!("it is free") };
        drop(permit.start().expect("it starts"));
        let Begin::Interrupted(interrupted) = begin(&store) else { panic!("it has started") };
        assert!(!start_late(Claim::Interrupted(interrupted)));
        assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
    }
}
