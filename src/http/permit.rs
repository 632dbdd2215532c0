//! The right to start an operation, as a handler has it.

use std::fmt;
use std::time::Duration;

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
    /// If it is another than the layer has found.
    retention: Option<Duration>,
}

/// Why the operation may not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It was started before, or the request has been answered already.
    #[error("the operation was started before, or its request has been answered")]
    Taken,
    /// The store did not answer in [time](super::IdempotencyLayer::store_timeout). The key is freed once
    /// it has.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store failed. Unless the outcome is unknown, the key is as it was.
    #[error(transparent)]
    Store(#[from] Error),
}

impl IdempotencyPermit {
    /// The permit of what is in this slot.
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot: Some(slot), is_protected: true, retention: None }
    }

    /// The permit of a request without a key.
    pub(super) fn unprotected() -> Self {
        Self { slot: None, is_protected: false, retention: None }
    }

    /// The permit of a request that another layer of the same store has started.
    pub(super) fn started() -> Self {
        Self { slot: None, is_protected: true, retention: None }
    }

    /// Whether the request has a key. Without one nothing is stored, and a retry runs again.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.is_protected
    }

    /// The same for an operation whose outcome is kept for this time, counted from when its key was begun,
    /// instead of what the [layer](super::IdempotencyLayer::retention_of) or the store says. A later
    /// attempt keeps the one that the first has started with.
    #[must_use]
    pub fn with_retention(&self, retention: Duration) -> Self {
        Self { retention: Some(retention), ..self.clone() }
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
        let mut claim = slot.take_claim().ok_or(StartError::Taken)?;
        if let Some(retention) = self.retention {
            claim = claim.with_retention(retention);
        }
        let started = claim.start(slot.limit).await?;
        if slot.put(started).await { Ok(()) } else { Err(StartError::Taken) }
    }
}

impl fmt::Debug for IdempotencyPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyPermit")
            .field("is_protected", &self.is_protected())
            .finish_non_exhaustive()
    }
}
