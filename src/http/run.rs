//! The run of a request that has its key in hand, from its start to the stored response.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tower_service::Service;

use super::backing::{self, Claim, Within};
use super::body::{BodyError, Read, Whole};
use super::layer::{Config, Start};
use super::permit::IdempotencyPermit;
use super::slot::{Answered, Lease};
use super::stream::Streamed;
use super::{Body, Decision, InterruptedRequest, Operation, Problem, outcome, stored};
use crate::handle::{Completable, Execution, Interrupted};
use crate::observe;
use crate::rules::effect::Effect;
use crate::sync::Arc;

/// A request that may run.
pub(super) struct Run<S> {
    pub(super) config: Arc<Config>,
    pub(super) inner: S,
    pub(super) request: Request<Whole>,
    /// Counts the handler until it has ended.
    pub(super) handler: OwnedSemaphorePermit,
}

impl<S, R> Run<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    /// Runs the request, and gives its answer. If this ends on the way, by a panic of the handler
    /// or with the runtime, a started operation is interrupted.
    pub(super) async fn finish(mut self, claim: Claim) -> Result<Response<Body>, S::Error> {
        let claim = match claim {
            Claim::Interrupted(interrupted) => {
                match self.config.decide(self.asks_again(&interrupted)).await {
                    Decision::Refuse => return Ok(self.config.refuse(Problem::Interrupted)),
                    Decision::Resolve(response) => {
                        return Ok(self.config.resolve(interrupted, response).await);
                    }
                    Decision::Retry => Claim::Interrupted(interrupted),
                }
            }
            fresh @ Claim::Fresh(_) => fresh,
        };
        let operation = Operation::of(&claim);
        let extensions = self.request.extensions_mut();
        extensions.insert(operation.clone());
        let (backing, key) = (self.config.backing.clone(), operation.key().clone());
        extensions.insert(Within { backing, key });
        let lease = Lease(operation.slot().clone());
        match self.config.start {
            Start::BeforeHandler => {
                let Ok(execution) = claim.start().await else {
                    return Ok(self.config.refuse(Problem::Unavailable));
                };
                lease.0.put(execution).await.expect("nobody has answered yet");
            }
            Start::ByHandler => {
                lease.0.offer(claim);
                extensions.insert(IdempotencyPermit::new(lease.0.clone()));
            }
        }
        self.answer(lease, &operation).await
    }

    fn asks_again(&self, interrupted: &Interrupted) -> InterruptedRequest {
        let (parts, body) = self.request.clone().into_parts();
        InterruptedRequest::new(interrupted, parts, body.data)
    }

    /// Lets the handler answer, and ends the operation as that says. A service that fails has not said
    /// what became of the effect: the key is interrupted.
    async fn answer(
        mut self,
        lease: Lease,
        operation: &Operation,
    ) -> Result<Response<Body>, S::Error> {
        let request = self.request.map(Body::from);
        let response = stored::first(self.inner.call(request).await?.map(Body::new));
        // A handler that starts by itself does so right before its effect.
        let has_begun = operation.has_effect_begun() || self.config.start == Start::ByHandler;
        match lease.close() {
            Answered::Started(execution) => {
                let held = (execution, self.handler);
                Ok(self.config.conclude(held, response, has_begun).await)
            }
            Answered::Left => {
                observe::responded(observe::Response::Left);
                Ok(response)
            }
            Answered::NotStarted => Ok(response),
        }
    }
}

impl Config {
    async fn decide(&self, request: InterruptedRequest) -> Decision {
        match &self.on_interrupted {
            Some(decide) => decide(request).await,
            None => Decision::Refuse,
        }
    }

    /// Ends an operation as its response says, and gives that to be sent.
    async fn conclude(
        &self,
        (execution, handler): (Execution, OwnedSemaphorePermit),
        response: Response<Body>,
        has_begun: bool,
    ) -> Response<Body> {
        let (head, body) = response.into_parts();
        let effect = outcome::effect(&head, has_begun, &self.effect_of);
        if effect != Effect::Done(()) {
            return self.leave(execution, effect, Response::from_parts(head, body)).await;
        }
        if (self.streams)(&head) && !head.headers.contains_key(CONTENT_LENGTH) {
            let body = Streamed::new((execution, handler), &head, self, body);
            return Response::from_parts(head, Body::new(body));
        }
        let Ok(read) = body.read(self.response_len_max).await else {
            // Dropping the execution leaves the key interrupted.
            return self.refuse(Problem::OutcomeUnknown);
        };
        // A layer further in has refused the request, in this process or behind a network.
        if let Read::Whole(whole) = &read
            && let Some(problem) = Problem::in_response(&head, &whole.data)
        {
            let response = Response::from_parts(head, Body::from(whole.clone()));
            let effect = outcome::of_problem(problem, has_begun);
            return self.leave(execution, effect, response).await;
        }
        let kept = self.keep(execution, head, read).await;
        kept.unwrap_or_else(|| self.refuse(Problem::OutcomeUnknown))
    }

    /// Ends an operation that has no result, and gives the response to be sent.
    async fn leave(
        &self,
        execution: Execution,
        effect: Effect,
        response: Response<Body>,
    ) -> Response<Body> {
        match effect {
            Effect::DidNotHappen(()) => match backing::leave(execution).await {
                Ok(()) => {
                    observe::responded(observe::Response::Freed);
                    response
                }
                Err(_) => self.refuse(Problem::OutcomeUnknown),
            },
            // Dropping the execution leaves the key interrupted.
            Effect::Unknown(()) | Effect::Done(()) => {
                observe::responded(observe::Response::Interrupted);
                response
            }
        }
    }

    /// Stores a response, then gives it to be sent. `None` if it is not stored: a client must not hold
    /// an answer that its retry could not get.
    async fn keep<H: Completable>(
        &self,
        handle: H,
        head: Parts,
        read: Read,
    ) -> Option<Response<Body>> {
        let headers = stored::lasting(&head.headers, &self.unstored_headers);
        let is_secret = outcome::is_secret(&head, self.keep_no_store);
        let (start, trailers, body, is_left_out) = match read {
            Read::Whole(Whole { data, trailers }) => {
                let kept = trailers.clone().filter(|_| !is_secret);
                (data.clone(), kept, Body::from(Whole { data, trailers }), is_secret)
            }
            Read::TooLong { start, body } => (start, None, body, true),
        };
        let bytes = stored::encode(head.status, &headers, &start, trailers.as_ref());
        let is_stored = backing::keep(handle, &bytes, is_left_out).await;
        is_stored.then(|| Response::from_parts(head, body))
    }

    /// Stores a response that the handler did not make, and answers with it.
    async fn resolve(&self, interrupted: Interrupted, response: Response<Bytes>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let kept = match Body::from(body).read(self.response_len_max).await {
            Ok(read) => self.keep(interrupted, head, read).await,
            Err(_) => None,
        };
        kept.map_or_else(|| self.refuse(Problem::OutcomeUnknown), stored::replayed)
    }
}
