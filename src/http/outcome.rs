//! What a response says about the effect: the one rule that decides whether a request is done, has
//! done nothing, or has an unknown outcome.

use http::header::CACHE_CONTROL;
use http::response::Parts;
use http::{Response, StatusCode};

use super::operation::Said;
use super::{Problem, grpc};
use crate::rules::effect::Effect;
use crate::sync::Arc;

/// Tells the effect of a request from the head of its response.
pub(super) type EffectOf = Arc<dyn Fn(&Parts) -> Effect + Send + Sync>;

/// What a status says about the effect, by default: see
/// [`IdempotencyLayer::effect_of`](super::IdempotencyLayer::effect_of).
///
/// | statuses | effect |
/// |---|---|
/// | 400, 401, 403 to 406, 411 to 417, 421, 422, 425, 426, 428, 429, 431 | it didn't happen: by their definitions (RFC 9110, RFC 6585, RFC 8470) nothing was applied |
/// | 408, 502, 503, 504 | unknown: something gave up waiting, and the effect may still come |
/// | all others, including 409 and 500 | done: this is the answer |
#[must_use]
pub fn effect_of_status(status: StatusCode) -> Effect {
    match status.as_u16() {
        400 | 401 | 403..=406 | 411..=417 | 421 | 422 | 425 | 426 | 428 | 429 | 431 => {
            Effect::DidNotHappen(())
        }
        408 | 502 | 503 | 504 => Effect::Unknown(()),
        _ => Effect::Done(()),
    }
}

/// What became of the effect: by the handler's own word; failing that, by the problem that another
/// layer has answered with; failing that, by the head of the response. Once the effect has begun,
/// no head says that it didn't happen.
pub(super) fn effect(response: &Parts, said: Said, by_head: impl Fn(&Parts) -> Effect) -> Effect {
    if let Some(effect) = response.extensions.get::<Effect>().copied().or(said.effect) {
        return effect;
    }
    let of_extensions = || response.extensions.get::<Problem>().copied();
    if let Some(problem) = of_extensions().or_else(|| grpc::problem_in(&response.headers)) {
        return of_problem(problem, said.has_begun);
    }
    match by_head(response) {
        Effect::DidNotHappen(()) if said.has_begun => Effect::Done(()),
        effect => effect,
    }
}

/// What a problem says about the effect. A problem is not an outcome to keep, so one that is
/// answered after the effect has begun leaves the effect unknown.
pub(super) fn of_problem(problem: Problem, has_begun: bool) -> Effect {
    match problem.effect() {
        Effect::DidNotHappen(()) if has_begun => Effect::Unknown(()),
        effect => effect,
    }
}

/// In the extensions of a response that is done and must not be stored.
#[derive(Clone, Copy)]
struct Unkept;

/// Says that the effect has happened, and that the response must not be stored because it has a
/// secret in it: only its length and digest are. The client that asked first gets the response, and
/// a retry gets [`Problem::ResponseNotKept`].
///
/// ```
/// use http::Response;
/// use idemstore::http::without_keeping;
///
/// fn api_key(key: String) -> Response<String> {
///     without_keeping(Response::new(key))
/// }
/// ```
#[must_use]
pub fn without_keeping<B>(mut response: Response<B>) -> Response<B> {
    response.extensions_mut().insert(Unkept);
    response
}

/// Whether a response must not be stored.
pub(super) fn is_secret(response: &Parts, keep_no_store: bool) -> bool {
    let is_no_store = || {
        let values = response.headers.get_all(CACHE_CONTROL).iter();
        let mut directives = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-store"))
    };
    response.extensions.get::<Unkept>().is_some() || !keep_no_store && is_no_store()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Parts {
        Response::builder().status(status).body(()).expect("it is a status").into_parts().0
    }

    fn said(has_begun: bool) -> Said {
        Said { has_begun, effect: None }
    }

    fn by_status(head: &Parts) -> Effect {
        effect_of_status(head.status)
    }

    #[test]
    fn each_status_is_in_one_of_three_sets() {
        let of = |begun, wanted: Effect| -> Vec<u16> {
            let is_it = |status: &u16| effect(&head(*status), said(begun), by_status) == wanted;
            (100..=599).filter(is_it).collect()
        };
        let nothing = [
            400, 401, 403, 404, 405, 406, 411, 412, 413, 414, 415, 416, 417, 421, 422, 425, 426,
            428, 429, 431,
        ];
        assert_eq!(of(false, Effect::DidNotHappen(())), nothing);
        assert_eq!(of(false, Effect::Unknown(())), [408, 502, 503, 504]);
        assert_eq!(of(false, Effect::Done(())).len(), 500 - nothing.len() - 4);
    }

    #[test]
    fn after_the_effect_has_begun_no_status_frees() {
        for status in 100..=599 {
            let effect = effect(&head(status), said(true), by_status);
            assert_ne!(effect, Effect::DidNotHappen(()), "{status}");
            assert_eq!(effect == Effect::Unknown(()), [408, 502, 503, 504].contains(&status));
        }
    }

    #[test]
    fn the_handlers_own_word_counts_most_and_a_problem_more_than_its_status() {
        let mut head = head(200);
        head.extensions.insert(Problem::InFlight);
        assert_eq!(effect(&head, said(false), by_status), Effect::DidNotHappen(()));
        assert_eq!(effect(&head, said(true), by_status), Effect::Unknown(()));
        let of_operation = Said { has_begun: false, effect: Some(Effect::Done(())) };
        assert_eq!(effect(&head, of_operation, by_status), Effect::Done(()));
        head.extensions.insert::<Effect>(Effect::Unknown(()));
        assert_eq!(effect(&head, of_operation, by_status), Effect::Unknown(()));
    }
}
