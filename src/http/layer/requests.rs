//! Options: which requests are protected, and what they must have.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method};

use super::IdempotencyLayer;
use crate::http::Refusal;
use crate::http::authorize::Authorize;
use crate::http::room::Room;
use crate::key::Fingerprint;
use crate::sync::Arc;

impl IdempotencyLayer {
    /// The header that has the key; `Idempotency-Key` by default.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.options().header = name;
        self
    }

    /// Whether a request of a covered method must have a key; by default it need not.
    ///
    /// A request without a key is handled **without protection**: a retry of it runs again.
    pub fn require_key(mut self, required: bool) -> Self {
        self.options().key_required = required;
        self
    }

    /// The methods that are covered, and no others; POST, PUT and PATCH by default. A request of any
    /// other passes untouched, with a key too.
    #[doc(alias = "methods")]
    pub fn only_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.options().methods = methods.into_iter().collect();
        self
    }

    /// Passes requests on without protection for which this says so, with a key too. It is asked before
    /// the key is looked at.
    ///
    /// ```
    /// use idemstore::http::{IdempotencyLayer, Scope};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments"))
    ///     // It reads, although it is a POST.
    ///     .skip(|head| head.uri.path().ends_with("/search"))
    /// # }
    /// ```
    pub fn skip(mut self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.options().skip = Some(Arc::new(skip));
        self
    }

    /// Makes the fingerprint of method, path, query, body and these headers, and of no others;
    /// `Content-Type` by default. Name no header that differs in a retry.
    #[doc(alias = "fingerprint_headers")]
    pub fn fingerprint_only_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.options().fingerprint.headers = names.into_iter().collect();
        self
    }

    /// Takes two media types for the same if they differ in their parameters alone: a retry may say
    /// `application/json; charset=utf-8` where the first request has said `application/json`.
    ///
    /// Set this, and the two below, before a service goes live: a record that was made without it is a
    /// mismatch for a retry that differs from what it would have been.
    pub fn fingerprint_media_type(mut self) -> Self {
        self.options().fingerprint.only_media_type = true;
        self
    }

    /// Takes two multipart bodies for the same if their parts are: programs choose a new boundary each
    /// time they build one. The parts count as they are, with their headers, in their order. A body
    /// that is not what its media type says is refused with [`Problem::BodyNotComparable`](crate::http::Problem::BodyNotComparable).
    pub fn fingerprint_multipart(mut self) -> Self {
        self.options().fingerprint.multipart = true;
        self
    }

    /// Takes two JSON bodies for the same if they mean the same, by the canonical form of RFC 8785: in any
    /// order of names, with any spaces, and `1.0` for `1`. `null` is not the same as a name that is left
    /// out. Bodies are JSON if their media type is `application/json` or ends with `+json`; its parameters
    /// do not count. Feature `json`.
    ///
    /// What has no such form is refused with [`Problem::BodyNotComparable`](crate::http::Problem::BodyNotComparable): a name that is there twice, a
    /// number that is not exact in 64 bits of floating point (beyond 2^53 - 1; send it as a string), and
    /// what is no JSON. A request without a body is compared as one.
    ///
    /// ```
    /// use idemstore::http::{IdempotencyLayer, Scope};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).fingerprint_json()
    /// # }
    /// ```
    #[cfg(feature = "json")]
    pub fn fingerprint_json(mut self) -> Self {
        self.options().fingerprint.json = true;
        self
    }

    /// Makes the fingerprint by a function of the request's head and its body, instead of all that
    /// [`IdempotencyLayer::fingerprint_only_headers`] and its like say.
    pub fn fingerprint(
        mut self,
        compute: impl Fn(&Parts, &Bytes) -> Fingerprint + Send + Sync + 'static,
    ) -> Self {
        self.options().fingerprint.function = Some(Arc::new(compute));
        self
    }

    /// The longest body of a protected request, in bytes; 2 MiB by default, as axum's extractors have
    /// it. It is held in memory. A longer one is answered with [`Problem::BodyTooLarge`](crate::http::Problem::BodyTooLarge).
    pub fn request_len_max(mut self, bytes: usize) -> Self {
        self.options().request_len_max = bytes;
        self
    }

    /// How long the body of a protected request may take to arrive; 60 seconds by default. A slower one is
    /// answered with [`Problem::BodyTooSlow`](crate::http::Problem::BodyTooSlow), and leaves no trace. The runtime must have its timer
    /// enabled, if a body is not there at once.
    pub fn request_time_max(mut self, at_most: Duration) -> Self {
        self.options().request_time_max = at_most;
        self
    }

    /// The most bytes that the bodies of all protected requests may have together, from their first
    /// byte until they are answered; 512 MiB by default. A request that would have more is answered with
    /// [`Problem::Unavailable`](crate::http::Problem::Unavailable), and leaves no trace. All copies of this layer share it.
    pub fn requests_len_max(mut self, bytes: usize) -> Self {
        self.options().room = Room::new(bytes);
        self
    }

    /// Asks whether a request may be answered without its handler: before a replay, before the hook for
    /// [interrupted](Self::on_interrupted) requests, and before it is told that its response was not
    /// kept. A right that only the handler checks would else not be checked for a retry, by another user
    /// of the same scope or after the right is gone. What this refuses is answered so, and leaves the
    /// key as it is.
    ///
    /// Better is to authorise outside of the layer, where one check serves both.
    ///
    /// ```
    /// use http::StatusCode;
    /// use http::request::Parts;
    /// use idemstore::http::{IdempotencyLayer, Scope};
    ///
    /// # #[derive(Clone)] struct User;
    /// # impl User { async fn may_pay(&self) -> bool { true } }
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).authorize(|head: Parts| async move {
    ///     match head.extensions.get::<User>() {
    ///         Some(user) if user.may_pay().await => Ok(()),
    ///         _ => Err(StatusCode::FORBIDDEN),
    ///     }
    /// })
    /// # }
    /// ```
    pub fn authorize<F, E>(mut self, ask: impl Fn(Parts) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Refusal>,
    {
        self.options().authorize = Some(Authorize::new(ask));
        self
    }

    /// Lets a request whose key is in flight wait for the outcome, at most for this time. By
    /// default it does not wait. The runtime must have its timer enabled.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.options().wait = Some(at_most);
        self
    }
}
