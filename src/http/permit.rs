//! The right to start an operation, as a handler holds it.

use std::fmt;
use std::time::Duration;

use super::slot::Slot;
use crate::error::Error;

/// Lets a handler say when the operation of its request starts. With
/// [`Start::ByHandler`](super::Start::ByHandler), each request of a covered method has a permit in
/// its extensions.
///
/// Call [`IdempotencyPermit::start`] after everything that can refuse the request, right before the
/// effect. If a handler never calls it, nothing is stored: the response is sent as it is, and the
/// key is as free as before.
///
/// A request without a key has a permit too. Its `start` does nothing, so a handler needn't
/// distinguish the two.
#[derive(Clone)]
pub struct IdempotencyPermit {
    /// `None` if there is nothing to start.
    slot: Option<Slot>,
    is_protected: bool,
    /// Overrides the retention of the layer and the store.
    retention: Option<Duration>,
}

/// Why the operation may not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operation was started before, or the request has already been answered.
    #[error("the operation was started before, or its request has been answered")]
    Taken,
    /// The store did not answer in [time](super::IdempotencyLayer::store_timeout). Once it
    /// has, the key is free, or interrupted as before.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store failed. Unless the outcome is unknown, the key is as it was.
    #[error(transparent)]
    Store(#[from] Error),
}

impl IdempotencyPermit {
    /// The permit to start the operation in this slot.
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot: Some(slot), is_protected: true, retention: None }
    }

    /// The permit of a request without a key.
    pub(super) fn unprotected() -> Self {
        Self { slot: None, is_protected: false, retention: None }
    }

    /// The permit of a request that another layer of the same store has already started.
    pub(super) fn started() -> Self {
        Self { slot: None, is_protected: true, retention: None }
    }

    /// Whether the request has a key. Without one, nothing is stored and a retry runs again.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.is_protected
    }

    /// The same permit, with another retention for the outcome, counted from when the key was
    /// begun. It overrides the retention of the [layer](super::IdempotencyLayer::retention_of) and
    /// of the store. A later attempt keeps the retention that the first one started with.
    #[must_use]
    pub fn with_retention(&self, retention: Duration) -> Self {
        Self { retention: Some(retention), ..self.clone() }
    }

    /// Makes the start of the operation durable, and returns once it is. From here on no status
    /// [frees the key](super::IdempotencyLayer::effect_of).
    ///
    /// # Errors
    ///
    /// [`StartError`]: the operation must not run.
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
