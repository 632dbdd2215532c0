//! What a handler can know, and say, of its operation.

use std::fmt;

use crate::key::Key;

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

/// What a handler says of its effect where a status cannot: it puts this into the extensions of its
/// response, which is then sent and not stored.
///
/// ```
/// use http::{Response, StatusCode};
/// use idemstore::http::Effect;
///
/// fn no_answer_from_the_bank() -> Response<String> {
///     let mut response = Response::new("try again later".to_owned());
///     *response.status_mut() = StatusCode::BAD_GATEWAY;
///     response.extensions_mut().insert(Effect::Unknown);
///     response
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// It did not happen, for certain: the key is free, unless an earlier attempt may have had its
    /// effect.
    DidNotHappen,
    /// It may have happened: the key is interrupted.
    Unknown,
}
