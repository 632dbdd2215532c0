//! Where the operation of a request is, between the layer and the handler.

use std::mem;

use super::backing::{Claim, Limit, leave};
use crate::handle::Execution;
use crate::sync::{Arc, Mutex};

/// What the layer and the handler of one request share of its operation.
#[derive(Clone)]
pub(super) struct Slot {
    place: Arc<Mutex<Place>>,
    pub(super) limit: Limit,
}

enum Place {
    Claimed(Claim),
    Starting,
    Started(Execution),
    /// The handler has left it to somebody who finishes it by its key.
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
    /// Of an operation that is about to start.
    pub(super) fn starting(limit: Limit) -> Self {
        Self { place: Arc::new(Mutex::new(Place::Starting)), limit }
    }

    /// Lets the handler start the operation.
    pub(super) fn offer(&self, claim: Claim) {
        *self.place.lock() = Place::Claimed(claim);
    }

    /// What is to be started, if it was not before.
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

    /// Puts down what has started, for the layer to complete. `false` if the handler has answered
    /// meanwhile: nobody will store a result, so the effect must not happen. That of an earlier
    /// attempt is as unknown as before.
    pub(super) async fn put(&self, execution: Execution) -> bool {
        let Some(late) = self.put_down(execution) else { return true };
        // If that fails, the key is interrupted.
        leave(late, self.limit).await;
        false
    }

    /// Gives the execution back if the handler has answered meanwhile.
    fn put_down(&self, execution: Execution) -> Option<Execution> {
        let mut place = self.place.lock();
        if matches!(*place, Place::Closed) {
            return Some(execution);
        }
        *place = Place::Started(execution);
        None
    }

    /// Leaves the operation to somebody who finishes it by its key. `false` if it does not run.
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

/// The layer's end of a slot. Once it is dropped, by a panic of the handler too, nothing that was left
/// somewhere keeps the key.
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
        // What was in it is dropped after the lock is free.
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

    /// The handler has answered while its start, in a task that it left behind, was on its way.
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
