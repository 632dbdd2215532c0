//! The layer and its options.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, response};
use tokio::sync::Semaphore;
use tower_layer::Layer;

use super::backing::Backing;
use super::fingerprint::FingerprintOf;
use super::interrupted::Decide;
use super::outcome::{EffectOf, effect_of_status};
use super::stored::UNSTORED;
use super::{Body, Decision, Idempotency, InterruptedRequest, Problem, Scope};
use crate::key::Fingerprint;
use crate::observe;
use crate::rules::effect::Effect;
use crate::store::Store;
use crate::sync::Arc;

/// As long as axum's own extractors take a body.
const REQUEST_LEN_DEFAULT: usize = 2 * 1024 * 1024;
const RESPONSE_LEN_DEFAULT: usize = 1024 * 1024;

/// More than a process can have.
const HANDLERS_MAX_DEFAULT: u32 = 1 << 24;

/// When the operation of a request starts: from then on it counts as run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before the handler. The handler needs to know nothing: its [status](effect_of_status) says what
    /// became of the effect.
    BeforeHandler,
    /// When the handler says so: see [`IdempotencyPermit`](super::IdempotencyPermit). A request that
    /// it refuses before that costs no write at all.
    ByHandler,
}

/// A tower layer that runs each request of an idempotency key once, and answers its retries with
/// the stored response. The [module](super) says what it does in each case.
///
/// ```
/// use std::time::Duration;
///
/// use idemstore::Store;
/// use idemstore::http::{IdempotencyLayer, Scope, Start};
///
/// # let directory = tempfile::tempdir()?;
/// # let store = Store::open(directory.path().join("store"))?;
/// let layer = IdempotencyLayer::new(store, Scope::shared("payments"))
///     .require_key(true)
///     .start(Start::ByHandler)
///     .wait(Duration::from_secs(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing before it is around a service"]
pub struct IdempotencyLayer {
    config: Config,
}

/// The store, and all options.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) backing: Backing,
    pub(super) scope: Scope,
    pub(super) header: HeaderName,
    pub(super) key_required: bool,
    methods: Vec<Method>,
    pub(super) fingerprint: FingerprintOf,
    pub(super) start: Start,
    pub(super) effect_of: EffectOf,
    pub(super) unstored_headers: Vec<HeaderName>,
    pub(super) request_len_max: usize,
    pub(super) response_len_max: usize,
    pub(super) wait: Option<Duration>,
    retry_after_secs: u64,
    pub(super) on_interrupted: Option<Decide>,
    pub(super) on_problem: Option<Restate>,
    skip: Option<Skip>,
    pub(super) streams: Streams,
    retention_of: Option<RetentionOf>,
    pub(super) keep_no_store: bool,
    /// One permit for each handler that may run.
    pub(super) handlers: Arc<Semaphore>,
    handlers_max: u32,
}

/// What answers a problem in another form.
pub(super) type Restate = Arc<dyn Fn(Problem, &Parts) -> Response<Body> + Send + Sync>;

/// Which responses are sent as they come.
pub(super) type Streams = Arc<dyn Fn(&response::Parts) -> bool + Send + Sync>;

type Skip = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
type RetentionOf = Arc<dyn Fn(&Parts) -> Option<Duration> + Send + Sync>;

impl IdempotencyLayer {
    /// A layer with the default options. There is no default for the scope: it keeps the tenants of
    /// a service apart.
    pub fn new(store: Store, scope: Scope) -> Self {
        observe::layered(&Problem::names());
        let config = Config {
            backing: Backing::new(store),
            scope,
            header: HeaderName::from_static("idempotency-key"),
            key_required: false,
            methods: vec![Method::POST, Method::PUT, Method::PATCH],
            fingerprint: FingerprintOf::Headers(vec![CONTENT_TYPE]),
            start: Start::BeforeHandler,
            effect_of: Arc::new(|head| effect_of_status(head.status)),
            unstored_headers: UNSTORED.to_vec(),
            request_len_max: REQUEST_LEN_DEFAULT,
            response_len_max: RESPONSE_LEN_DEFAULT,
            wait: None,
            retry_after_secs: 1,
            on_interrupted: None,
            on_problem: None,
            skip: None,
            streams: Arc::new(is_event_stream),
            retention_of: None,
            keep_no_store: false,
            handlers: Arc::new(Semaphore::new(HANDLERS_MAX_DEFAULT as usize)),
            handlers_max: HANDLERS_MAX_DEFAULT,
        };
        Self { config }
    }

    /// The header that has the key; `Idempotency-Key` by default.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.config.header = name;
        self
    }

    /// Whether a request of a covered method must have a key; by default it need not.
    ///
    /// A request without a key is handled **without protection**: a retry of it runs again.
    pub fn require_key(mut self, required: bool) -> Self {
        self.config.key_required = required;
        self
    }

    /// The methods that are covered, and no others; POST, PUT and PATCH by default. A request of any
    /// other passes untouched, with a key too.
    #[doc(alias = "methods")]
    pub fn only_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.config.methods = methods.into_iter().collect();
        self
    }

    /// Makes the fingerprint of method, path, query, body and these headers, and of no others;
    /// `Content-Type` by default. Name no header that differs in a retry.
    #[doc(alias = "fingerprint_headers")]
    pub fn fingerprint_only_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.fingerprint = FingerprintOf::Headers(names.into_iter().collect());
        self
    }

    /// Makes the fingerprint by a function of the request's head and its body, in place of all
    /// that [`IdempotencyLayer::fingerprint_only_headers`] says.
    pub fn fingerprint(
        mut self,
        compute: impl Fn(&Parts, &Bytes) -> Fingerprint + Send + Sync + 'static,
    ) -> Self {
        self.config.fingerprint = FingerprintOf::Function(Arc::new(compute));
        self
    }

    /// When the operation starts; [`Start::BeforeHandler`] by default.
    pub fn start(mut self, start: Start) -> Self {
        self.config.start = start;
        self
    }

    /// Tells from the head of a response what became of the effect, instead of [`effect_of_status`],
    /// which takes it from the status alone.
    ///
    /// - [`Effect::Done`]: the response is stored.
    /// - [`Effect::DidNotHappen`]: it is sent and not stored, and the key of a first attempt is free. A
    ///   later attempt leaves it interrupted, since it says nothing of the first one. After the
    ///   handler has started the operation itself ([`Start::ByHandler`]), or has said that
    ///   [its effect begins](super::Operation::effect_begins), this counts as done.
    /// - [`Effect::Unknown`]: it is sent and not stored, and the key is interrupted.
    ///
    /// What a handler says by [`with_effect`](super::with_effect) counts more than this.
    ///
    /// ```
    /// use http::StatusCode;
    /// use idemstore::Effect;
    /// use idemstore::http::{IdempotencyLayer, Scope, effect_of_status};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).effect_of(|head| match head.status {
    ///     // These handlers answer so before they do anything.
    ///     StatusCode::CONFLICT => Effect::DidNotHappen(()),
    ///     status => effect_of_status(status),
    /// })
    /// # }
    /// ```
    #[doc(alias = "rejections")]
    pub fn effect_of(
        mut self,
        tell: impl Fn(&response::Parts) -> Effect + Send + Sync + 'static,
    ) -> Self {
        self.config.effect_of = Arc::new(tell);
        self
    }

    /// Leaves these headers of a response out of what is stored, beside `Date`, `Set-Cookie` and those
    /// of a connection.
    pub fn leave_out_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.unstored_headers.extend(names);
        self
    }

    /// Stores these headers of a response, of those that are left out by default: a retry gets them as
    /// they were. `Set-Cookie` hands the session of the first client to the one that retries.
    pub fn store_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let stored: Vec<_> = names.into_iter().collect();
        self.config.unstored_headers.retain(|name| !stored.contains(name));
        self
    }

    /// The longest body of a protected request, in bytes; 2 MiB by default, as axum's extractors have
    /// it. It is held in memory.
    pub fn request_len_max(mut self, bytes: usize) -> Self {
        self.config.request_len_max = bytes;
        self
    }

    /// The longest body of a response that is kept, in bytes; 1 MiB by default, and no more than
    /// what the [store takes](crate::Builder::result_len_max), which counts the head too: with both
    /// defaults the body and its head have 1 MiB together. A longer one is sent to the client that asked first, and a retry gets [`Problem::ResponseNotKept`].
    pub fn response_len_max(mut self, bytes: usize) -> Self {
        self.config.response_len_max = bytes;
        self
    }

    /// Lets a request whose key is in flight wait for the outcome, at most for this time. By
    /// default it does not wait. The runtime must have its timer enabled.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.config.wait = Some(at_most);
        self
    }

    /// What `Retry-After` says, in whole seconds; 1 by default, and at least.
    pub fn retry_after(mut self, after: Duration) -> Self {
        let started = u64::from(after.subsec_nanos() != 0);
        self.config.retry_after_secs = after.as_secs().saturating_add(started).max(1);
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
        self.config.skip = Some(Arc::new(skip));
        self
    }

    /// The most handlers of requests with a key that run at one time; 16 million by default. A request
    /// that would be one more is answered with [`Problem::Unavailable`], and leaves no trace.
    ///
    /// A handler counts until it has ended, also if its client has left: a limit around the layer would
    /// not see it any more. All services that are made of this layer, and of its copies, share the limit.
    pub fn handlers_max(mut self, handlers: u32) -> Self {
        let handlers = handlers.clamp(1, HANDLERS_MAX_DEFAULT);
        self.config.handlers = Arc::new(Semaphore::new(handlers as usize));
        self.config.handlers_max = handlers;
        self
    }

    /// Waits until all handlers have ended whose requests have a key, at most for this time, and says how
    /// many have not. Call it when the server takes no connections any more, and before its runtime
    /// ends: a handler may outlive its client. From now on no further one begins while this waits.
    ///
    /// The runtime must have its timer enabled.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use idemstore::http::IdempotencyLayer;
    /// # async fn serve(listener: tokio::net::TcpListener, app: axum::Router, layer: IdempotencyLayer)
    /// # -> std::io::Result<()> {
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
    ///     .await?;
    /// let left = layer.drain(Duration::from_secs(30)).await;
    /// // What is left is interrupted.
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self, deadline: Duration) -> usize {
        let Config { handlers, handlers_max, .. } = &self.config;
        match tokio::time::timeout(deadline, handlers.acquire_many(*handlers_max)).await {
            Ok(_all) => 0,
            Err(_) => (*handlers_max as usize).saturating_sub(handlers.available_permits()),
        }
    }

    /// Which responses are streams, from their heads; those of the type `text/event-stream` by default.
    ///
    /// A stream is sent as it comes, and kept as other responses are, if it ends within the
    /// [limit](Self::response_len_max). Its end is not told before it is stored. If its client leaves
    /// before, or it fails, the key is interrupted. One that has a `Content-Length` is no stream.
    pub fn streams(
        mut self,
        tell: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config.streams = Arc::new(tell);
        self
    }

    /// How long the outcome of a request is kept, from its head; `None` for the retention of the store.
    pub fn retention_of(
        mut self,
        tell: impl Fn(&Parts) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.config.retention_of = Some(Arc::new(tell));
        self
    }

    /// Whether a response with `Cache-Control: no-store` is stored; by default only its length and
    /// digest are, and a retry gets [`Problem::ResponseNotKept`]: it may have a secret in it.
    /// [`without_keeping`](super::without_keeping) says the same of any response.
    pub fn keep_no_store(mut self, keep: bool) -> Self {
        self.config.keep_no_store = keep;
        self
    }

    /// Answers problems in another form than `application/problem+json`, from the problem and the head of
    /// the request. The problem stays in the extensions of the response, and `Retry-After` is added
    /// where it has none and the problem may pass.
    ///
    /// ```
    /// use http::Response;
    /// use idemstore::http::{IdempotencyLayer, Problem, Scope};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).on_problem(|problem, _| {
    ///     let code = match problem {
    ///         Problem::KeyReused => "idempotency_conflict",
    ///         Problem::InFlight => "idempotency_in_flight",
    ///         _ => "idempotency_error",
    ///     };
    ///     let mut response = Response::new(format!(r#"{{"code":"{code}"}}"#));
    ///     *response.status_mut() = problem.status();
    ///     response
    /// })
    /// # }
    /// ```
    pub fn on_problem<B>(
        mut self,
        restate: impl Fn(Problem, &Parts) -> Response<B> + Send + Sync + 'static,
    ) -> Self
    where
        B: Into<Bytes>,
    {
        let restate =
            move |problem, head: &Parts| restate(problem, head).map(|body| Body::from(body.into()));
        self.config.on_problem = Some(Arc::new(restate));
        self
    }

    /// Decides about requests that were interrupted. By default they are refused, until their
    /// retention is over or somebody says what became of them by
    /// [`Store::complete`](Store::complete) or [`Store::abandon`](Store::abandon).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use idemstore::http::{Decision, IdempotencyLayer, InterruptedRequest, Scope};
    ///
    /// # #[derive(Clone)] struct Bank;
    /// # impl Bank {
    /// #     async fn find(&self, _reference: &str) -> Result<Option<String>, ()> { Ok(None) }
    /// # }
    /// # fn layer(store: idemstore::Store, bank: Bank) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).on_interrupted(
    ///     move |request: InterruptedRequest| {
    ///         let bank = bank.clone();
    ///         async move {
    ///             // The key that the handler gave the bank: no other tenant's is the same.
    ///             match bank.find(&request.downstream_key("charge")).await {
    ///                 Ok(Some(receipt)) => Decision::Resolve(Response::new(Bytes::from(receipt))),
    ///                 Ok(None) => Decision::Retry,
    ///                 Err(_) => Decision::Refuse,
    ///             }
    ///         }
    ///     },
    /// )
    /// # }
    /// ```
    pub fn on_interrupted<F>(
        mut self,
        decide: impl Fn(InterruptedRequest) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        self.config.on_interrupted = Some(Arc::new(move |request| Box::pin(decide(request))));
        self
    }
}

fn is_event_stream(response: &response::Parts) -> bool {
    let media_type = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let media_type = media_type.and_then(|value| value.split(|byte| *byte == b';').next());
    media_type.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(Arc::new(self.config.clone()), inner)
    }
}

impl Config {
    fn covers(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// Whether the layer has nothing to do with a request.
    pub(super) fn passes(&self, head: &Parts) -> bool {
        !self.covers(&head.method) || self.skip.as_ref().is_some_and(|skip| skip(head))
    }

    /// How long the outcome of this request is to be kept, if not as long as any other's.
    pub(super) fn retention(&self, head: &Parts) -> Option<Duration> {
        self.retention_of.as_ref().and_then(|tell| tell(head))
    }

    pub(super) fn refuse(&self, problem: Problem) -> Response<Body> {
        problem.retrying_after(self.retry_after_secs)
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("config", &self.config).finish()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("header", &self.header)
            .field("key_required", &self.key_required)
            .field("methods", &self.methods)
            .field("start", &self.start)
            .field("unstored_headers", &self.unstored_headers)
            .field("request_len_max", &self.request_len_max)
            .field("response_len_max", &self.response_len_max)
            .field("wait", &self.wait)
            .field("retry_after_secs", &self.retry_after_secs)
            .finish_non_exhaustive()
    }
}
