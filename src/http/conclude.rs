//! How a started operation ends once its handler has answered.

use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::backing::Limit;
use super::body::{Ahead, Read, Whole};
use super::config::Config;
use super::stream::Streamed;
use super::{Body, Operation, Problem, backing, grpc, outcome, stored};
use crate::handle::{Completable, Execution};
use crate::observe;
use crate::rules::effect::Effect;
use crate::sync::Arc;

/// A started operation whose response decides how it ends.
pub(super) struct Conclusion {
    pub(super) config: Arc<Config>,
    pub(super) operation: Operation,
    pub(super) execution: Execution,
    /// Counts the handler until it has ended.
    pub(super) handler: OwnedSemaphorePermit,
}

impl Conclusion {
    /// Ends the operation as its response says, and returns the response to send.
    pub(super) async fn conclude(self, response: Response<Body>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let said = self.operation.said();
        // While a call's trailers are still to come, only the handler's own word counts.
        let effect = if self.awaits_trailers(&head) {
            outcome::effect(&head, said, |_| Effect::Done(()))
        } else {
            outcome::effect(&head, said, &*self.config.effect_of)
        };
        if effect != Effect::Done(()) {
            return self.leave(effect, Response::from_parts(head, body)).await;
        }
        let len_max = self.config.response_len_max;
        let is_stream = (self.config.streams)(&head) && !head.headers.contains_key(CONTENT_LENGTH);
        let read = if is_stream {
            // A stream that ends at once can be held until it's stored, like any other response.
            match body.read_ahead(len_max).await {
                Ok(Ahead::Ended(Read::Whole(whole))) => Ok(Read::Whole(whole)),
                Ok(Ahead::Ended(Read::TooLong { body, .. }) | Ahead::GoesOn(body)) => {
                    let body = Body::new(Streamed::new(self, head.clone(), body));
                    return Response::from_parts(head, body);
                }
                Err(error) => Err(error),
            }
        } else {
            body.read(len_max).await
        };
        match read {
            Ok(read) => self.end(head, read).await,
            // Dropping the execution leaves the key interrupted.
            Err(_) => self.config.refuse(Problem::OutcomeUnknown),
        }
    }

    fn awaits_trailers(&self, head: &Parts) -> bool {
        self.config.is_grpc && !grpc::has_status(&head.headers)
    }

    /// What a response says about the effect, now that its trailers are known.
    fn effect(&self, head: &Parts, trailers: Option<&HeaderMap>) -> Effect {
        let mut head = head.clone();
        if let Some(trailers) = trailers {
            head.headers.extend(trailers.clone());
        }
        outcome::effect(&head, self.operation.said(), &*self.config.effect_of)
    }

    /// Ends an operation whose response was read, and returns the response to send.
    async fn end(self, head: Parts, read: Read) -> Response<Body> {
        if let Read::Whole(whole) = &read {
            let effect = self.effect_of_whole(&head, whole);
            if effect != Effect::Done(()) {
                let response = Response::from_parts(head, Body::from(whole.clone()));
                return self.leave(effect, response).await;
            }
        }
        let Self { config, execution, handler: _until_the_end, .. } = self;
        let kept = config.keep(execution, head, read).await;
        kept.unwrap_or_else(|| config.refuse(Problem::OutcomeUnknown))
    }

    fn effect_of_whole(&self, head: &Parts, whole: &Whole) -> Effect {
        if self.awaits_trailers(head) {
            return self.effect(head, whole.trailers.as_ref());
        }
        // A layer further in has refused the request, in this process or across a network.
        let problem = Problem::in_response(head, &whole.data);
        problem.map_or(Effect::Done(()), |problem| {
            outcome::of_problem(problem, self.operation.said().has_begun)
        })
    }

    /// Ends an operation that has no result, and returns the response to send.
    async fn leave(self, effect: Effect, response: Response<Body>) -> Response<Body> {
        if leave(self.execution, effect, self.config.backing.limit).await {
            response
        } else {
            self.config.refuse(Problem::OutcomeUnknown)
        }
    }

    /// Ends an operation whose response was streamed, before the end of the stream is sent. Returns
    /// whether the stream may end normally.
    pub(super) async fn end_stream(
        self,
        head: &Parts,
        copy: &[u8],
        trailers: Option<&HeaderMap>,
        is_too_long: bool,
    ) -> bool {
        if self.awaits_trailers(head) {
            let effect = self.effect(head, trailers);
            if effect != Effect::Done(()) {
                return leave(self.execution, effect, self.config.backing.limit).await;
            }
        }
        let Self { config, execution, handler: _until_the_end, .. } = self;
        config.store(execution, head, copy, trailers, is_too_long).await
    }
}

/// Ends an operation that has no result. Returns whether its key is left as `effect` says.
async fn leave(execution: Execution, effect: Effect, limit: Limit) -> bool {
    match effect {
        Effect::DidNotHappen(()) => {
            let is_left = backing::leave(execution, limit).await;
            if is_left {
                observe::responded(observe::Response::Freed);
            }
            is_left
        }
        // Dropping the execution leaves the key interrupted.
        Effect::Unknown(()) | Effect::Done(()) => {
            observe::responded(observe::Response::Interrupted);
            true
        }
    }
}

impl Config {
    /// Stores a response, then returns it to be sent. `None` if it wasn't stored: a client must not
    /// hold a response that its retry could not get.
    pub(super) async fn keep<H: Completable + Send + 'static>(
        &self,
        handle: H,
        head: Parts,
        read: Read,
    ) -> Option<Response<Body>> {
        let (is_stored, body) = match read {
            Read::Whole(whole) => {
                let Whole { data, trailers } = &whole;
                let stored = self.store(handle, &head, data, trailers.as_ref(), false).await;
                (stored, Body::from(whole))
            }
            Read::TooLong { start, body } => {
                (self.store(handle, &head, &start, None, true).await, body)
            }
        };
        is_stored.then(|| Response::from_parts(head, body))
    }

    /// Stores a response, or only that there was one if it is too long or has a secret in it.
    /// Returns whether it was stored.
    async fn store<H: Completable + Send + 'static>(
        &self,
        handle: H,
        head: &Parts,
        body: &[u8],
        trailers: Option<&HeaderMap>,
        is_too_long: bool,
    ) -> bool {
        let is_left_out = is_too_long || outcome::is_secret(head, self.keep_no_store);
        let trailers = trailers.filter(|_| !is_left_out);
        let headers = stored::lasting(&head.headers, &self.unstored_headers);
        let bytes = stored::encode(head.status, &headers, body, trailers);
        backing::keep(handle, bytes, is_left_out, self.backing.limit).await
    }
}
