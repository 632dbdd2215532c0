//! The whole configuration of a layer: its store and its options.

use std::fmt;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, response};
use tokio::sync::Semaphore;

use super::asks::Asks;
use super::authorize::Authorize;
use super::backing::Backing;
use super::fingerprint::FingerprintOf;
use super::interrupted::Decide;
use super::outcome::{EffectOf, effect_of_status};
use super::room::Room;
use super::stored::UNSTORED;
use super::{Body, Problem, Scope, Start, grpc, media_type};
use crate::store::Store;
use crate::sync::Arc;

/// As much as axum's own extractors accept.
const REQUEST_LEN_DEFAULT: usize = 2 * 1024 * 1024;
const RESPONSE_LEN_DEFAULT: usize = 1024 * 1024;
/// 256 of the longest bodies.
const REQUESTS_LEN_DEFAULT: usize = 512 * 1024 * 1024;
const REQUEST_TIME_DEFAULT: Duration = Duration::from_secs(60);

/// More than a process can run.
pub(super) const HANDLERS_MAX_DEFAULT: u32 = 1 << 24;

#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(super) struct Config {
    pub(super) backing: Backing,
    pub(super) scope: Scope,
    pub(super) header: HeaderName,
    pub(super) key_required: bool,
    pub(super) methods: Vec<Method>,
    pub(super) skip: Option<Skip>,
    pub(super) fingerprint: FingerprintOf,
    pub(super) request_len_max: usize,
    pub(super) request_time_max: Duration,
    /// Room for the bodies of all requests under way.
    pub(super) room: Room,
    pub(super) authorize: Option<Authorize>,
    pub(super) wait: Option<Duration>,
    pub(super) start: Start,
    pub(super) effect_of: EffectOf,
    /// Whether the trailers of a response say what became of the effect.
    pub(super) is_grpc: bool,
    pub(super) retention_of: Option<RetentionOf>,
    /// One permit for each handler that may run.
    pub(super) handlers: Arc<Semaphore>,
    pub(super) handlers_max: u32,
    pub(super) on_interrupted: Option<Decide>,
    pub(super) asks: Arc<Asks>,
    pub(super) unstored_headers: Vec<HeaderName>,
    pub(super) response_len_max: usize,
    pub(super) streams: Streams,
    pub(super) keep_no_store: bool,
    pub(super) echo_key: bool,
    pub(super) retry_after_secs: u64,
    pub(super) on_problem: Option<Restate>,
}

/// Makes the response that a problem is sent as, from the default response and the request.
pub(super) type Restate =
    Arc<dyn Fn(Problem, &Response<Body>, &Parts) -> Response<Body> + Send + Sync>;

/// Which responses are sent as they come.
pub(super) type Streams = Arc<dyn Fn(&response::Parts) -> bool + Send + Sync>;

pub(super) type Skip = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
pub(super) type RetentionOf = Arc<dyn Fn(&Parts) -> Option<Duration> + Send + Sync>;

impl Config {
    pub(super) fn new(store: Store, scope: Scope) -> Self {
        Self {
            backing: Backing::new(store),
            scope,
            header: HeaderName::from_static("idempotency-key"),
            key_required: false,
            methods: vec![Method::POST, Method::PUT, Method::PATCH],
            skip: None,
            fingerprint: FingerprintOf::default(),
            request_len_max: REQUEST_LEN_DEFAULT,
            request_time_max: REQUEST_TIME_DEFAULT,
            room: Room::new(REQUESTS_LEN_DEFAULT),
            authorize: None,
            wait: None,
            start: Start::BeforeHandler,
            effect_of: Arc::new(|head| effect_of_status(head.status)),
            is_grpc: false,
            retention_of: None,
            handlers: Arc::new(Semaphore::new(HANDLERS_MAX_DEFAULT as usize)),
            handlers_max: HANDLERS_MAX_DEFAULT,
            on_interrupted: None,
            asks: Arc::default(),
            unstored_headers: UNSTORED.to_vec(),
            response_len_max: RESPONSE_LEN_DEFAULT,
            streams: Arc::new(is_event_stream),
            keep_no_store: false,
            echo_key: false,
            retry_after_secs: 1,
            on_problem: None,
        }
    }

    /// The default options for gRPC.
    pub(super) fn grpc(store: Store, scope: Scope) -> Self {
        Self {
            effect_of: Arc::new(grpc::effect_of_head),
            is_grpc: true,
            // No head says which calls are streams, so any of them may be one.
            streams: Arc::new(|_| true),
            on_problem: Some(Arc::new(grpc::refused)),
            ..Self::new(store, scope)
        }
    }

    /// Whether a request passes the layer untouched.
    pub(super) fn passes(&self, head: &Parts) -> bool {
        !self.methods.contains(&head.method) || self.skip.as_ref().is_some_and(|skip| skip(head))
    }

    /// How long to keep the outcome of this request, if it isn't the store's retention.
    pub(super) fn retention(&self, head: &Parts) -> Option<Duration> {
        self.retention_of.as_ref().and_then(|tell| tell(head))
    }

    pub(super) fn refuse(&self, problem: Problem) -> Response<Body> {
        problem.retrying_after(self.retry_after_secs)
    }

    /// The header with the key, as the client sent it, if responses are to have it.
    pub(super) fn echoed(&self, head: &Parts) -> Option<(HeaderName, HeaderValue)> {
        let key = head.headers.get(&self.header).filter(|_| self.echo_key)?;
        Some((self.header.clone(), key.clone()))
    }
}

/// A time for `Retry-After`: whole seconds, rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() != 0))
}

fn is_event_stream(response: &response::Parts) -> bool {
    let media_type = response.headers.get(CONTENT_TYPE).map(media_type::essence);
    media_type.is_some_and(|name| name == b"text/event-stream")
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
            .field("request_time_max", &self.request_time_max)
            .field("response_len_max", &self.response_len_max)
            .field("wait", &self.wait)
            .field("retry_after_secs", &self.retry_after_secs)
            .finish_non_exhaustive()
    }
}
