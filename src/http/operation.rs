//! What a handler can learn about its operation, and say about it.

use std::fmt;

use http::Response;

use super::backing::{Claim, Limit};
use super::slot::Slot;
use crate::clock::Timestamp;
use crate::handle::Downstream;
use crate::key::Key;
use crate::rules::effect::Effect;
use crate::sync::{Arc, Mutex};

/// The operation that a request names. It is in the extensions of each request that has a key and
/// may run.
///
/// When the handler calls a service that also keeps idempotency keys, give that service
/// [`Operation::downstream_key`].
#[derive(Clone)]
pub struct Operation {
    key: Key,
    attempt: u32,
    begun_at: Timestamp,
    downstream: Downstream,
    said: Arc<Mutex<Said>>,
    slot: Slot,
}

impl Operation {
    /// The operation that this claim would start.
    pub(super) fn of(claim: &Claim, limit: Limit) -> Self {
        let (key, attempt, begun_at, downstream) = match claim {
            Claim::Fresh(permit) => (permit.key(), 1, permit.begun_at(), permit.downstream()),
            Claim::Interrupted(interrupted) => {
                let (attempt, begun_at) = (interrupted.attempt(), interrupted.begun_at());
                (interrupted.key(), attempt.saturating_add(1), begun_at, interrupted.downstream())
            }
        };
        let slot = Slot::starting(limit);
        Self { key: key.clone(), attempt, begun_at, downstream, said: Arc::default(), slot }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The key, in its scope.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Which attempt this is, counted from 1 since the key was last free. All earlier attempts were
    /// interrupted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the operation was begun for the first time. Together with the key it identifies one
    /// operation for good: a key that was freed, or that is free again after its retention, is
    /// begun anew.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// A key for a service that the handler calls: see
    /// [`Execution::downstream_key`](crate::Execution::downstream_key). It belongs to this tenant's
    /// operation, whereas the client's key alone could be another tenant's too.
    #[must_use]
    pub fn downstream_key(&self, label: &str) -> String {
        self.downstream.key(label)
    }

    /// Says that the effect begins. From here on no status frees the key: a 404 or 429 that the
    /// handler passes on from its second step doesn't mean that the first step didn't happen. Call
    /// it right before the effect. With [`Start::ByHandler`](super::Start::ByHandler) the start
    /// implies it.
    ///
    /// It sets a flag in memory, and stores nothing.
    pub fn effect_begins(&self) {
        self.said.lock().has_begun = true;
    }

    /// Says what became of the effect, for handlers that can't put it into their response, such as
    /// a tonic handler that returns a `Status`. [`with_effect`] in a response takes precedence.
    ///
    /// ```
    /// use idemstore::Effect;
    /// use idemstore::http::Operation;
    ///
    /// # struct Status;
    /// # impl Status { fn unavailable(_: &str) -> Self { Self } }
    /// # async fn ask_the_bank(_: &str) -> Result<String, ()> { Err(()) }
    /// async fn pay(operation: &Operation) -> Result<String, Status> {
    ///     operation.effect_begins();
    ///     ask_the_bank(&operation.downstream_key("charge")).await.map_err(|()| {
    ///         // It isn't known whether the card was charged.
    ///         operation.set_effect(Effect::Unknown(()));
    ///         Status::unavailable("the bank gives no answer")
    ///     })
    /// }
    /// ```
    pub fn set_effect(&self, effect: Effect) {
        self.said.lock().effect = Some(effect);
    }

    /// Leaves the operation to be finished by its key elsewhere, such as in a webhook, by
    /// [`Store::complete_response`](crate::Store::complete_response) or
    /// [`Store::abandon`](crate::Store::abandon). The handler's response is sent and not stored,
    /// and a retry finds the operation in flight until it is finished. If the process ends first,
    /// the operation is interrupted.
    ///
    /// Call it *before* you call the service that will answer: otherwise a fast webhook would find
    /// the key still held. Returns whether the operation was left: one that hasn't started can't
    /// be.
    ///
    /// ```
    /// use axum::extract::Extension;
    /// use axum::http::StatusCode;
    /// use idemstore::http::Operation;
    ///
    /// # async fn ask_the_bank(_: &str) -> Result<(), ()> { Ok(()) }
    /// async fn pay(Extension(operation): Extension<Operation>) -> StatusCode {
    ///     // From here on the bank's webhook completes it.
    ///     if !operation.leave() {
    ///         return StatusCode::INTERNAL_SERVER_ERROR;
    ///     }
    ///     let asked = ask_the_bank(&operation.downstream_key("charge")).await;
    ///     if asked.is_ok() { StatusCode::ACCEPTED } else { StatusCode::BAD_GATEWAY }
    /// }
    /// ```
    #[must_use = "an operation that was not left is completed by its response"]
    pub fn leave(&self) -> bool {
        self.slot.leave()
    }

    pub(super) fn said(&self) -> Said {
        *self.said.lock()
    }
}

/// What the handler has said about the effect so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) has_begun: bool,
    pub(super) effect: Option<Effect>,
}

/// Doesn't show the key.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Says what became of the effect where a status can't. The response is sent in any case, and
/// stored if the effect is [`Effect::Done`].
///
/// ```
/// use http::{Response, StatusCode};
/// use idemstore::Effect;
/// use idemstore::http::with_effect;
///
/// fn no_answer_from_the_bank() -> Response<String> {
///     let mut response = Response::new("try again later".to_owned());
///     *response.status_mut() = StatusCode::BAD_GATEWAY;
///     with_effect(response, Effect::Unknown(()))
/// }
/// ```
#[must_use]
pub fn with_effect<B>(mut response: Response<B>, effect: Effect) -> Response<B> {
    response.extensions_mut().insert(effect);
    response
}
