//! The right to start an operation, as a handler has it.

use std::fmt;
use std::mem;

use super::backing::{Claim, leave};
use crate::error::Error;
use crate::handle::Execution;
use crate::sync::{Arc, Mutex};

/// Says when the operation of a request starts: with [`Start::ByHandler`](super::Start::ByHandler),
/// each request of a covered method has one in its extensions.
///
/// Call [`IdempotencyPermit::start`] after all that can refuse the request, right before the
/// effect. A handler that never does leaves no trace: its response is sent as it is, and the key is
/// as free as before.
///
/// A request without a key has one too, whose `start` does nothing, so that a handler need not ask.
#[derive(Clone)]
pub struct IdempotencyPermit {
    /// `None` if there is nothing to start.
    slot: Option<Arc<Mutex<Slot>>>,
    is_protected: bool,
}

enum Slot {
    Claimed(Claim),
    Starting,
    Started(Execution),
    /// The handler has answered.
    Closed,
}

/// Why the operation may not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It was started before, or the request has been answered already.
    #[error("the operation was started before, or its request has been answered")]
    Taken,
    /// The store failed. Unless the outcome is unknown, the key is as it was.
    #[error(transparent)]
    Store(#[from] Error),
}

impl IdempotencyPermit {
    /// The permit of a request without a key.
    pub(super) fn unprotected() -> Self {
        Self { slot: None, is_protected: false }
    }

    /// The permit of a request that another layer of the same store has started.
    pub(super) fn started() -> Self {
        Self { slot: None, is_protected: true }
    }

    /// Whether the request has a key. Without one nothing is stored, and a retry runs again.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.is_protected
    }

    /// Makes it durable that the operation runs from now on. From here on no status
    /// [frees the key](super::IdempotencyLayer::effect_of).
    ///
    /// Returns once that is durable.
    ///
    /// # Errors
    ///
    /// [`StartError`]. The operation must not run then.
    pub async fn start(&self) -> Result<(), StartError> {
        let Some(slot) = &self.slot else { return Ok(()) };
        let Some(claim) = take_claim(&mut slot.lock()) else { return Err(StartError::Taken) };
        arrive(slot, claim.start().await?).await
    }
}

fn take_claim(slot: &mut Slot) -> Option<Claim> {
    match mem::replace(slot, Slot::Starting) {
        Slot::Claimed(claim) => Some(claim),
        other => {
            *slot = other;
            None
        }
    }
}

/// Puts down what has started, for the layer to complete.
async fn arrive(slot: &Mutex<Slot>, execution: Execution) -> Result<(), StartError> {
    let late = put_execution(&mut slot.lock(), execution);
    let Some(execution) = late else { return Ok(()) };
    // Nobody will store a result, so the effect must not happen. That of an earlier attempt is as
    // unknown as before.
    leave(execution).await?;
    Err(StartError::Taken)
}

/// Gives the execution back if the handler has answered meanwhile.
fn put_execution(slot: &mut Slot, execution: Execution) -> Option<Execution> {
    if matches!(slot, Slot::Closed) {
        return Some(execution);
    }
    *slot = Slot::Started(execution);
    None
}

impl fmt::Debug for IdempotencyPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyPermit")
            .field("is_protected", &self.is_protected())
            .finish_non_exhaustive()
    }
}

/// The layer's end of a permit. Once it is dropped, by a panic of the handler too, no copy of the
/// permit that was left somewhere keeps the key.
pub(super) struct Lease(Arc<Mutex<Slot>>);

impl Lease {
    pub(super) fn new(claim: Claim) -> Self {
        Self(Arc::new(Mutex::new(Slot::Claimed(claim))))
    }

    pub(super) fn permit(&self) -> IdempotencyPermit {
        IdempotencyPermit { slot: Some(Arc::clone(&self.0)), is_protected: true }
    }

    /// The operation, if the handler has started it.
    pub(super) fn close(self) -> Option<Execution> {
        match mem::replace(&mut *self.0.lock(), Slot::Closed) {
            Slot::Started(execution) => Some(execution),
            Slot::Claimed(_) | Slot::Starting | Slot::Closed => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What was in it is dropped after the lock is free.
        let slot = mem::replace(&mut *self.0.lock(), Slot::Closed);
        drop(slot);
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
    fn start_late(claim: Claim) -> Result<(), StartError> {
        let lease = Lease::new(claim);
        let slot = lease.permit().slot.expect("there is a key");
        let claim = take_claim(&mut slot.lock()).expect("it is the first");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
        runtime.block_on(async {
            let execution = claim.start().await.expect("it starts");
            assert!(lease.close().is_none());
            arrive(&slot, execution).await
        })
    }

    #[test]
    fn a_start_that_comes_late_is_taken_back_unless_an_earlier_attempt_may_have_had_its_effect() {
        let directory = tempfile::tempdir().expect("there is room");
        let builder =
            Store::builder().log_bytes(64 * 1024).result_len_max(1024).background_thread(false);
        let store = builder.open(directory.path().join("store")).expect("it opens");

        let Begin::Fresh(permit) = begin(&store) else { panic!("it is new") };
        assert!(matches!(start_late(Claim::Fresh(permit)), Err(StartError::Taken)));
        assert_eq!(store.keys().count(), 0);

        let Begin::Fresh(permit) = begin(&store) else { panic!("it is free") };
        drop(permit.start().expect("it starts"));
        let Begin::Interrupted(interrupted) = begin(&store) else { panic!("it has started") };
        assert!(matches!(start_late(Claim::Interrupted(interrupted)), Err(StartError::Taken)));
        assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
    }
}
