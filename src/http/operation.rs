//! What a handler can know, and say, of its operation.

use std::fmt;

use http::Response;

use crate::handle::Downstream;
use crate::key::Key;
use crate::rules::effect::Effect;
use crate::sync::{Arc, AtomicBool, Ordering};

/// The operation that a request names: it is in the extensions of each request that may run and
/// has a key.
///
/// A service that the handler calls, and that keeps idempotency keys, gets
/// [`Operation::downstream_key`].
#[derive(Clone)]
pub struct Operation {
    key: Key,
    attempt: u32,
    downstream: Downstream,
    effect_has_begun: Arc<AtomicBool>,
}

impl Operation {
    pub(super) fn new(key: Key, attempt: u32, downstream: Downstream) -> Self {
        Self { key, attempt, downstream, effect_has_begun: Arc::default() }
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
        self.effect_has_begun.store(true, Ordering::Release);
    }

    pub(super) fn has_effect_begun(&self) -> bool {
        self.effect_has_begun.load(Ordering::Acquire)
    }
}

/// It does not show the key.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Says what became of the effect where a status cannot: one that is not [`Effect::Done`] has its
/// response sent, and not stored.
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
