//! The right to start an operation, as a handler has it.

use std::fmt;

use super::slot::Slot;
use crate::error::Error;

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
    slot: Option<Slot>,
    is_protected: bool,
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
    /// The permit of what is in this slot.
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot: Some(slot), is_protected: true }
    }

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
        let claim = slot.take_claim().ok_or(StartError::Taken)?;
        if slot.put(claim.start().await?).await? { Ok(()) } else { Err(StartError::Taken) }
    }
}

impl fmt::Debug for IdempotencyPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyPermit")
            .field("is_protected", &self.is_protected())
            .finish_non_exhaustive()
    }
}
