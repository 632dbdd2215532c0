//! The problems that a request is refused with.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::Body;
use super::permit::StartError;
use crate::observe;
use crate::rules::effect::Effect;

/// Why a request wasn't answered by its handler, or not with the handler's response.
///
/// A client gets it as `application/problem+json` (RFC 9457). The `type` is stable: programs may
/// compare it. No problem shows a key, or anything of another request.
///
/// ```
/// use idemstore::http::Problem;
///
/// assert_eq!(Problem::KeyReused.status(), 422);
/// assert!(Problem::KeyReused.type_uri().ends_with("#variant.KeyReused"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// 400: the request has no idempotency key, and needs one.
    KeyMissing,
    /// 400: the key is empty, or neither a quoted string nor a bare key.
    KeyMalformed,
    /// 400: the key has more than 255 characters.
    KeyTooLong,
    /// 400: the header appears more than once.
    KeyRepeated,
    /// 422: the key was used for another request.
    KeyReused,
    /// 409 with `Retry-After`: a request with this key is being handled now.
    InFlight,
    /// 409: a request with this key was started, is no longer being handled, and may or may not
    /// have taken effect. Nothing was run.
    Interrupted,
    /// 409: a request with this key was completed, but its response was too long to keep or had a
    /// [secret](super::without_keeping) in it. Nothing was run.
    ResponseNotKept,
    /// 413: the body is longer than the layer accepts.
    BodyTooLarge,
    /// 400: the body could not be read to its end.
    BodyUnreadable,
    /// 408 with `Retry-After`: the body did not arrive in [time](super::IdempotencyLayer::request_time_max).
    BodyTooSlow,
    /// 400: the body isn't what its media type says, or can be read in two ways, so it can't be
    /// compared [by what it means](super::IdempotencyLayer::fingerprint_multipart).
    BodyNotComparable,
    /// 500: the server doesn't know whose request this is: its scope is missing, empty, or longer
    /// than 255 bytes. Nothing was run.
    NoScope,
    /// 503 with `Retry-After`: the store could not answer in time, or too much work is under
    /// way. Nothing was run.
    Unavailable,
    /// 500: the request may have been started, and its outcome could not be stored. It may have
    /// taken effect.
    OutcomeUnknown,
    /// 500: what is stored for this key isn't a response. Nothing was run.
    StoredUnreadable,
}

/// The `type` of a problem. Clients compare it, so each is written out and doesn't change if a
/// variant is renamed.
macro_rules! type_uri {
    ($problem:literal) => {
        concat!(
            "https://docs.rs/idemstore/latest/idemstore/http/enum.Problem.html#variant.",
            $problem
        )
    };
}

const PROBLEM_JSON: &str = "application/problem+json";
/// The start of each problem's JSON.
const TYPE: &str = r#"{"type":""#;

impl Problem {
    pub(super) const ALL: [Self; 16] = [
        Self::KeyMissing,
        Self::KeyMalformed,
        Self::KeyTooLong,
        Self::KeyRepeated,
        Self::KeyReused,
        Self::InFlight,
        Self::Interrupted,
        Self::ResponseNotKept,
        Self::BodyTooLarge,
        Self::BodyUnreadable,
        Self::BodyTooSlow,
        Self::BodyNotComparable,
        Self::NoScope,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::StoredUnreadable,
    ];

    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyTooLong
            | Self::KeyRepeated
            | Self::BodyUnreadable
            | Self::BodyNotComparable => StatusCode::BAD_REQUEST,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight | Self::Interrupted | Self::ResponseNotKept => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoScope | Self::OutcomeUnknown | Self::StoredUnreadable => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The `type`: a URI for each problem, which stays the same in later versions.
    #[must_use]
    pub fn type_uri(self) -> &'static str {
        match self {
            Self::KeyMissing => type_uri!("KeyMissing"),
            Self::KeyMalformed => type_uri!("KeyMalformed"),
            Self::KeyTooLong => type_uri!("KeyTooLong"),
            Self::KeyRepeated => type_uri!("KeyRepeated"),
            Self::KeyReused => type_uri!("KeyReused"),
            Self::InFlight => type_uri!("InFlight"),
            Self::Interrupted => type_uri!("Interrupted"),
            Self::ResponseNotKept => type_uri!("ResponseNotKept"),
            Self::BodyTooLarge => type_uri!("BodyTooLarge"),
            Self::BodyUnreadable => type_uri!("BodyUnreadable"),
            Self::BodyTooSlow => type_uri!("BodyTooSlow"),
            Self::BodyNotComparable => type_uri!("BodyNotComparable"),
            Self::NoScope => type_uri!("NoScope"),
            Self::Unavailable => type_uri!("Unavailable"),
            Self::OutcomeUnknown => type_uri!("OutcomeUnknown"),
            Self::StoredUnreadable => type_uri!("StoredUnreadable"),
        }
    }

    /// The last part of the `type`.
    pub(super) fn name(self) -> &'static str {
        self.type_uri().rsplit('.').next().expect("a split has a last part")
    }

    /// The names of all problems.
    pub(super) fn names() -> [&'static str; Self::ALL.len()] {
        Self::ALL.map(Self::name)
    }

    /// The `title`: the same for every problem of this type.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::KeyMissing => "Idempotency key is missing",
            Self::KeyMalformed => "Idempotency key is malformed",
            Self::KeyTooLong => "Idempotency key is too long",
            Self::KeyRepeated => "Idempotency key is repeated",
            Self::KeyReused => "Idempotency key is already used",
            Self::InFlight => "A request is outstanding for this idempotency key",
            Self::Interrupted => "The request was interrupted",
            Self::ResponseNotKept => "The response was not kept",
            Self::BodyTooLarge => "The body is too large",
            Self::BodyUnreadable => "The body could not be read",
            Self::BodyTooSlow => "The body came too slowly",
            Self::BodyNotComparable => "The body could not be compared",
            Self::NoScope => "The scope of the request is not known",
            Self::Unavailable => "The idempotency store is not available",
            Self::OutcomeUnknown => "The outcome is not known",
            Self::StoredUnreadable => "The stored response could not be read",
        }
    }

    /// The `detail`: what the client can do.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::KeyMissing => "This operation needs an idempotency key. Send one.",
            Self::KeyMalformed => {
                "The key must be a string of printable ASCII in double quotes, or a bare token of \
                 visible ASCII without quotes, backslashes, commas and semicolons."
            }
            Self::KeyTooLong => "The key may have at most 255 characters.",
            Self::KeyRepeated => "Send the header with the key only once.",
            Self::KeyReused => {
                "This key was used for another request. Send a new request with a new key."
            }
            Self::InFlight => "A request with this key is being handled. Retry shortly.",
            Self::Interrupted => {
                "A request with this key was started, and it is not known whether it has taken \
                 effect. It was not run again."
            }
            Self::ResponseNotKept => {
                "A request with this key was completed, and its response was not kept. It was not \
                 run again."
            }
            Self::BodyTooLarge => {
                "The body is longer than this server takes. The key was not used."
            }
            Self::BodyUnreadable => "The body ended early. The key was not used.",
            Self::BodyTooSlow => "The body did not arrive in time. The key was not used.",
            Self::BodyNotComparable => {
                "The body must be what its media type says. In JSON, no name may appear twice in one \
                 object, and no number may be beyond 2^53 - 1: send it as a string. The key was not used."
            }
            Self::NoScope => {
                "The server could not tell whose request this is. The key was not used."
            }
            Self::Unavailable => "Nothing was run. Retry shortly.",
            Self::OutcomeUnknown => {
                "The request may have been started, and it is not known whether it has taken \
                 effect. Send it again with the same key to find out."
            }
            Self::StoredUnreadable => {
                "A request with this key was completed, and its response could not be read. It was \
                 not run again."
            }
        }
    }

    /// Whether a retry shortly after may succeed.
    fn passes(self) -> bool {
        matches!(self, Self::InFlight | Self::Unavailable | Self::BodyTooSlow)
    }

    /// What the problem says about the effect of the request that it answers.
    pub(super) fn effect(self) -> Effect {
        match self {
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyTooLong
            | Self::KeyRepeated
            | Self::KeyReused
            | Self::InFlight
            | Self::BodyTooLarge
            | Self::BodyUnreadable
            | Self::BodyTooSlow
            | Self::BodyNotComparable
            | Self::NoScope
            | Self::Unavailable => Effect::DidNotHappen(()),
            Self::Interrupted
            | Self::ResponseNotKept
            | Self::OutcomeUnknown
            | Self::StoredUnreadable => Effect::Unknown(()),
        }
    }

    /// The problem that another layer has answered with, even across a network and with another
    /// [base](super::IdempotencyLayer::problem_base). A response that is a problem is never stored.
    pub(super) fn in_response(head: &Parts, body: &[u8]) -> Option<Self> {
        if head.headers.get(CONTENT_TYPE)? != PROBLEM_JSON || !body.starts_with(TYPE.as_bytes()) {
            return None;
        }
        Self::ALL.into_iter().find(|problem| body.ends_with(problem.after_base().as_bytes()))
    }

    /// The JSON from the name on.
    fn after_base(self) -> String {
        let (name, title, detail) = (self.name(), self.title(), self.detail());
        let status = self.status().as_u16();
        format!(r#"{name}","title":"{title}","status":{status},"detail":"{detail}"}}"#)
    }

    /// The problem, with a `type` that starts with this base and ends with the name.
    pub(super) fn response(self, base: &str) -> Response<Body> {
        let json = [TYPE, base, &self.after_base()].concat();
        let mut response = Response::new(Body::from(Bytes::from(json)));
        *response.status_mut() = self.status();
        let problem_json = HeaderValue::from_static(PROBLEM_JSON);
        response.headers_mut().insert(CONTENT_TYPE, problem_json);
        response.extensions_mut().insert(self);
        response
    }

    /// The response that reports the problem to a client. The problem is in its extensions, and
    /// `Retry-After` is in its headers if a retry may succeed.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        self.retrying_after(1)
    }

    /// The same, with this many seconds in `Retry-After`.
    pub(super) fn retrying_after(self, seconds: u64) -> Response<Body> {
        observe::problem(self.name(), self.status().is_server_error());
        let base = self.type_uri().strip_suffix(self.name()).expect("its name ends it");
        let mut response = self.response(base);
        if self.passes() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

/// What a handler answers if it can't start: [`Problem::Unavailable`] if the store has failed, and
/// [`Problem::OutcomeUnknown`] if the operation was started before.
impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Taken => Self::OutcomeUnknown,
            StartError::Timeout | StartError::Store(_) => Self::Unavailable,
        }
    }
}
