//! Where gRPC differs from HTTP: how a call ends, and why one is refused.
//!
//! The HTTP status is 200 whatever becomes of a call. The outcome is in `grpc-status`, in the
//! trailers or, if there is no message, in the headers:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request, response};

use super::{Body, Problem, effect_of_status};
use crate::rules::effect::Effect;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long a client waits before it retries, in milliseconds: gRFC A6.
pub(super) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Which problem this is, for clients and for layers further out.
const PROBLEM: HeaderName = HeaderName::from_static("idempotency-problem");

/// What a gRPC status says about the effect, by default: see
/// [`IdempotencyLayer::grpc`](super::IdempotencyLayer::grpc).
///
/// | status | effect |
/// |---|---|
/// | `INVALID_ARGUMENT` 3, `NOT_FOUND` 5, `PERMISSION_DENIED` 7, `RESOURCE_EXHAUSTED` 8, `FAILED_PRECONDITION` 9, `ABORTED` 10, `OUT_OF_RANGE` 11, `UNIMPLEMENTED` 12, `UNAUTHENTICATED` 16 | it didn't happen |
/// | `CANCELLED` 1, `UNKNOWN` 2, `DEADLINE_EXCEEDED` 4, `UNAVAILABLE` 14 | unknown: one side gave up, and the effect may still come |
/// | all others: `OK` 0, `ALREADY_EXISTS` 6, `INTERNAL` 13, `DATA_LOSS` 15 | done: this is the answer |
///
/// The numbers are those of <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>.
#[must_use]
pub fn effect_of_grpc_status(code: i32) -> Effect {
    match code {
        3 | 5 | 7..=12 | 16 => Effect::DidNotHappen(()),
        1 | 2 | 4 | 14 => Effect::Unknown(()),
        _ => Effect::Done(()),
    }
}

/// The effect by a head that also has the trailers. A call that ended without a status was cut off,
/// unless HTTP itself refused it.
pub(super) fn effect_of_head(head: &response::Parts) -> Effect {
    let status = head.headers.get(STATUS).and_then(|status| status.to_str().ok()?.parse().ok());
    match status {
        Some(status) => effect_of_grpc_status(status),
        None if head.status == StatusCode::OK => Effect::Unknown(()),
        None => effect_of_status(head.status),
    }
}

/// Whether these headers already say how the call ended. If not, its trailers will.
pub(super) fn has_status(headers: &HeaderMap) -> bool {
    headers.contains_key(STATUS)
}

/// The problem that another layer has answered with.
pub(super) fn problem_in(headers: &HeaderMap) -> Option<Problem> {
    let name = headers.get(PROBLEM)?;
    Problem::ALL.into_iter().find(|problem| *name == problem.name())
}

/// The problem's gRPC status. A client with the usual policy retries after `UNAVAILABLE`, and after
/// `ABORTED` if its policy names it; only `InFlight` is `ABORTED` here. After the others, a retry
/// of the same call would get the same answer.
fn code(problem: Problem) -> u16 {
    match problem {
        Problem::KeyMissing
        | Problem::KeyMalformed
        | Problem::KeyTooLong
        | Problem::KeyRepeated
        | Problem::KeyReused
        | Problem::BodyUnreadable
        | Problem::BodyNotComparable => 3,
        Problem::BodyTooSlow => 4,
        Problem::ResponseNotKept => 6,
        Problem::BodyTooLarge => 8,
        Problem::Interrupted => 9,
        Problem::InFlight => 10,
        Problem::OutcomeUnknown => 2,
        Problem::NoScope => 13,
        Problem::Unavailable => 14,
        Problem::StoredUnreadable => 15,
    }
}

/// The trailers of a call that ends with a problem.
pub(super) fn trailers(problem: Problem) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(code(problem)));
    trailers.insert(MESSAGE, HeaderValue::from_static(problem.detail()));
    trailers.insert(PROBLEM, HeaderValue::from_static(problem.name()));
    trailers
}

/// A refused call has no message, so its trailers are sent as headers.
pub(super) fn refused(
    problem: Problem,
    response: &Response<Body>,
    _request: &request::Parts,
) -> Response<Body> {
    let mut refused = Response::new(Body::from(Bytes::new()));
    *refused.headers_mut() = trailers(problem);
    refused.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let after = response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
    if let Some(seconds) = after.and_then(|after| after.parse::<u32>().ok()) {
        let millis = u64::from(seconds) * 1000;
        refused.headers_mut().insert(PUSHBACK, HeaderValue::from(millis));
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_in_one_of_three_sets() {
        let of = |wanted: Effect| -> Vec<i32> {
            (-1..=17).filter(|code| effect_of_grpc_status(*code) == wanted).collect()
        };
        assert_eq!(of(Effect::DidNotHappen(())), [3, 5, 7, 8, 9, 10, 11, 12, 16]);
        assert_eq!(of(Effect::Unknown(())), [1, 2, 4, 14]);
        assert_eq!(of(Effect::Done(())), [-1, 0, 6, 13, 15, 17]);
    }

    #[test]
    fn a_call_without_a_status_was_cut() {
        let head = |status: u16, said: Option<&'static str>| {
            let mut head = Response::new(()).into_parts().0;
            head.status = StatusCode::from_u16(status).expect("it is a status");
            if let Some(said) = said {
                head.headers.insert(STATUS, HeaderValue::from_static(said));
            }
            effect_of_head(&head)
        };
        assert_eq!(head(200, None), Effect::Unknown(()));
        assert_eq!(head(200, Some("x")), Effect::Unknown(()));
        assert_eq!(head(200, Some("0")), Effect::Done(()));
        assert_eq!(head(415, None), Effect::DidNotHappen(()));
        assert_eq!(head(503, None), Effect::Unknown(()));
    }

    /// A message is percent-encoded in gRPC; these have no character that needs it.
    #[test]
    fn each_problem_is_told_by_its_trailers() {
        for problem in Problem::ALL {
            let trailers = trailers(problem);
            let message = trailers[&MESSAGE].to_str().expect("it is ASCII");
            assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%'));
            assert_eq!(problem_in(&trailers), Some(problem));
        }
    }
}
