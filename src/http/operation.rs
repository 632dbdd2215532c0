//! What a handler can know, and say, of its operation.

use std::fmt;

use http::Response;

use crate::key::Key;
use crate::rules::effect::Effect;

/// The operation that a request names: it is in the extensions of each request that may run and
/// has a key.
///
/// A service that the handler calls, and that keeps idempotency keys, gets the key alone, with its scope:
/// see [what is said of attempts](crate#after-an-interruption).
#[derive(Clone)]
pub struct Operation {
    key: Key,
    attempt: u32,
}

impl Operation {
    pub(super) fn new(key: Key, attempt: u32) -> Self {
        Self { key, attempt }
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
