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
    /// The header with the key; `Idempotency-Key` by default.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.options().header = name;
        self
    }

    /// Whether a request of a covered method must have a key; by default it needn't.
    ///
    /// A request without a key is handled **without protection**: a retry of it runs again.
    pub fn require_key(mut self, required: bool) -> Self {
        self.options().key_required = required;
        self
    }

    /// The methods that are covered, and no others; POST, PUT and PATCH by default. A request with
    /// any other method passes untouched, even if it has a key.
    #[doc(alias = "methods")]
    pub fn only_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.options().methods = methods.into_iter().collect();
        self
    }

    /// Passes the requests for which this returns `true` on without protection, even if they have a
    /// key. It is called before the key is looked at.
    ///
    /// ```
    /// use idemstore::http::{IdempotencyLayer, Scope};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments"))
    ///     // It's a POST, but it only reads.
    ///     .skip(|head| head.uri.path().ends_with("/search"))
    /// # }
    /// ```
    pub fn skip(mut self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.options().skip = Some(Arc::new(skip));
        self
    }

    /// Computes the fingerprint from the method, path, query, body and these headers only; by
    /// default the header is `Content-Type`. Don't name a header that differs in a retry.
    #[doc(alias = "fingerprint_headers")]
    pub fn fingerprint_only_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.options().fingerprint.headers = names.into_iter().collect();
        self
    }

    /// Treats two media types as the same if they differ only in their parameters: a retry may send
    /// `application/json; charset=utf-8` where the first request sent `application/json`.
    ///
    /// Set this, and the two options below, before a service goes live. They change fingerprints,
    /// so a record stored without the option may be a mismatch for a retry that comes with it.
    pub fn fingerprint_media_type(mut self) -> Self {
        self.options().fingerprint.only_media_type = true;
        self
    }

    /// Treats two multipart bodies as the same if their parts are: programs choose a new boundary
    /// each time they build one. The parts are compared as they are, with their headers, in order.
    /// A body that isn't what its media type says is refused with
    /// [`Problem::BodyNotComparable`](crate::http::Problem::BodyNotComparable).
    pub fn fingerprint_multipart(mut self) -> Self {
        self.options().fingerprint.multipart = true;
        self
    }

    /// Treats two JSON bodies as the same if they mean the same, by the canonical form of RFC 8785:
    /// the order of names and whitespace don't matter, and `1.0` is `1`. `null` isn't the same as a
    /// missing name. A body is JSON if its media type is `application/json` or
    /// `application/*+json`; the parameters of the media type are ignored. Feature `json`.
    ///
    /// A body without such a form is refused with
    /// [`Problem::BodyNotComparable`](crate::http::Problem::BodyNotComparable): one in which a name
    /// appears twice in an object, one with a number that isn't exact in 64 bits of floating point
    /// (beyond 2^53 - 1; send it as a string), and one that isn't JSON. An empty body is compared
    /// as such.
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

    /// Computes the fingerprint with a function of the request's head and body. It overrides
    /// [`IdempotencyLayer::fingerprint_only_headers`] and the other `fingerprint_` options.
    pub fn fingerprint(
        mut self,
        compute: impl Fn(&Parts, &Bytes) -> Fingerprint + Send + Sync + 'static,
    ) -> Self {
        self.options().fingerprint.function = Some(Arc::new(compute));
        self
    }

    /// The longest body of a protected request, in bytes; 2 MiB by default, as for axum's
    /// extractors. The body is held in memory. A longer one is answered with
    /// [`Problem::BodyTooLarge`](crate::http::Problem::BodyTooLarge).
    pub fn request_len_max(mut self, bytes: usize) -> Self {
        self.options().request_len_max = bytes;
        self
    }

    /// How long the body of a protected request may take to arrive; 60 seconds by default. A slower
    /// one is answered with [`Problem::BodyTooSlow`](crate::http::Problem::BodyTooSlow), and leaves
    /// no trace. The runtime must have its timer enabled if a body isn't there at once.
    pub fn request_time_max(mut self, at_most: Duration) -> Self {
        self.options().request_time_max = at_most;
        self
    }

    /// The most bytes that the bodies of all protected requests may have together, each from its
    /// first byte until its request is answered; 512 MiB by default. A request that would exceed it
    /// is answered with [`Problem::Unavailable`](crate::http::Problem::Unavailable), and leaves no
    /// trace. All clones of this layer share the limit.
    pub fn requests_len_max(mut self, bytes: usize) -> Self {
        self.options().room = Room::new(bytes);
        self
    }

    /// Asks whether a request may be answered without its handler: before a replay, before the hook
    /// for [interrupted](Self::on_interrupted) requests, and before
    /// [`Problem::ResponseNotKept`](crate::http::Problem::ResponseNotKept). Otherwise a right that
    /// only the handler checks would not be checked for a retry, whether by another user of the
    /// same scope or after the right was revoked. A refusal is sent as the answer, and leaves the
    /// key as it is.
    ///
    /// It's better to authorise outside of the layer, where one check covers both cases.
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

    /// Lets a request whose key is in flight wait for the outcome, for at most this time. By
    /// default it doesn't wait. The runtime must have its timer enabled.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.options().wait = Some(at_most);
        self
    }
}
