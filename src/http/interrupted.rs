//! What to do about a request whose first attempt was interrupted.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use crate::clock::Timestamp;
use crate::handle::{Downstream, Interrupted};
use crate::key::Key;
use crate::sync::Arc;

/// A request whose key belongs to an operation that was started and whose outcome is unknown. It is
/// the same request as before, as far as its fingerprint can tell.
///
/// While the hook runs, no other request can claim the key.
pub struct InterruptedRequest {
    key: Key,
    attempt: u32,
    begun_at: Timestamp,
    downstream: Downstream,
    parts: Parts,
    body: Bytes,
}

impl InterruptedRequest {
    pub(super) fn new(interrupted: &Interrupted, parts: Parts, body: Bytes) -> Self {
        Self {
            key: interrupted.key().clone(),
            attempt: interrupted.attempt(),
            begun_at: interrupted.begun_at(),
            downstream: interrupted.downstream(),
            parts,
            body,
        }
    }

    /// The key, in its scope.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The number of the attempt that was interrupted, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the operation was begun for the first time.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// The key that the interrupted attempt gave to a service, if it used this label. Ask that
    /// service about it. See [`Execution::downstream_key`](crate::Execution::downstream_key).
    #[must_use]
    pub fn downstream_key(&self, label: &str) -> String {
        self.downstream.key(label)
    }

    /// Method, URI, headers and extensions of the current request.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The body of the current request.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Shows neither the key nor the request.
impl fmt::Debug for InterruptedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptedRequest").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// What to do about an interrupted request.
pub enum Decision {
    /// The outcome can't be known now: answer
    /// [`Problem::Interrupted`](super::Problem::Interrupted), and leave the key as it is.
    Refuse,
    /// The effect did not happen, or may safely happen twice: run the handler, as the next attempt.
    Retry,
    /// The effect happened: store this response, and answer with it. A response over the
    /// [limit](super::IdempotencyLayer::response_len_max) is sent, but not kept for the next retry.
    Resolve(Response<Bytes>),
}

/// Doesn't show the response.
impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse => f.write_str("Refuse"),
            Self::Retry => f.write_str("Retry"),
            Self::Resolve(_) => f.write_str("Resolve(..)"),
        }
    }
}

/// The hook that decides.
pub(super) type Decide =
    Arc<dyn Fn(InterruptedRequest) -> Pin<Box<dyn Future<Output = Decision> + Send>> + Send + Sync>;
