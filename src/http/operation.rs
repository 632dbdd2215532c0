//! What a handler can know, and say, of its operation.

use std::fmt;

use http::Response;

use super::backing::{Claim, Limit};
use super::slot::Slot;
use crate::clock::Timestamp;
use crate::handle::Downstream;
use crate::key::Key;
use crate::rules::effect::Effect;
use crate::sync::{Arc, Mutex};

/// The operation that a request names: it is in the extensions of each request that may run and
/// has a key.
///
/// A service that the handler calls, and that keeps idempotency keys, gets
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
    /// What this would start.
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

    /// Which attempt this is, counted from 1 since the key was last free. All before it were
    /// interrupted.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the operation was begun for the first time. Together with the key it names one operation for
    /// ever: a key that was freed, or is free again after its retention, is begun anew.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// A key for a service that the handler calls: see
    /// [`Execution::downstream_key`](crate::Execution::downstream_key). It is that of the tenant's own
    /// operation, where the client's key alone could be another tenant's too.
    #[must_use]
    pub fn downstream_key(&self, label: &str) -> String {
        self.downstream.key(label)
    }

    /// Says that the effect begins. From here on no status frees the key: a 404 or 429 that the handler
    /// passes on from its second step does not mean that the first one has not happened. Call it right
    /// before the effect; with [`Start::ByHandler`](super::Start::ByHandler) the start says it.
    ///
    /// It is a mark in memory, and stores nothing.
    pub fn effect_begins(&self) {
        self.said.lock().has_begun = true;
    }

    /// Says what became of the effect, as [`with_effect`] does in a response, which counts more. It is for
    /// handlers that cannot put anything into theirs, such as one of tonic that returns a `Status`.
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
    ///         // Whether the card was charged is not known.
    ///         operation.set_effect(Effect::Unknown(()));
    ///         Status::unavailable("the bank gives no answer")
    ///     })
    /// }
    /// ```
    pub fn set_effect(&self, effect: Effect) {
        self.said.lock().effect = Some(effect);
    }

    /// Leaves the operation to somebody who finishes it by its key, such as a webhook: by
    /// [`Store::complete_response`](crate::Store::complete_response) or
    /// [`Store::abandon`](crate::Store::abandon). The response of the handler is sent and not stored,
    /// and a retry finds the operation in flight until it is finished. If the process ends before, it
    /// is interrupted.
    ///
    /// Call it *before* the service is called that will answer: a fast webhook would else meet a key that
    /// is still held. Returns whether it has: one that has not started cannot be left.
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

/// What the handler has said of the effect until now.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) has_begun: bool,
    pub(super) effect: Option<Effect>,
}

/// It does not show the key.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Says what became of the effect where a status cannot. The response is sent in any case, and stored if the
/// effect is [`Effect::Done`].
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
