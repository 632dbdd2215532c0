//! Runs a request that has claimed its key, from its start to the stored response.

use std::time::Instant;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tower_service::Service;

use super::backing::{Claim, Within};
use super::body::{BodyError, Whole};
use super::conclude::Conclusion;
use super::config::{Config, whole_seconds};
use super::permit::IdempotencyPermit;
use super::room::Share;
use super::slot::{Answered, Lease};
use super::{Body, Decision, InterruptedRequest, Operation, Problem, Start, stored};
use crate::handle::Interrupted;
use crate::observe;
use crate::sync::Arc;

/// A request that may run.
pub(super) struct Run<S> {
    pub(super) config: Arc<Config>,
    pub(super) inner: S,
    pub(super) request: Request<Whole>,
    /// Counts the handler until it has ended.
    pub(super) handler: OwnedSemaphorePermit,
    /// The room that the body of the request takes.
    pub(super) share: Share,
}

impl<S, R> Run<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    /// Runs the request, and returns its response. If the future doesn't finish, because the
    /// handler panics or the runtime ends, a started operation is interrupted.
    pub(super) async fn finish(mut self, claim: Claim) -> Result<Response<Body>, S::Error> {
        let claim = match claim {
            Claim::Interrupted(interrupted) => {
                match self.config.decide(self.asks_again(&interrupted)).await {
                    Decision::Refuse => return Ok(self.config.interrupted(&interrupted)),
                    Decision::Resolve(response) => {
                        return Ok(self.config.resolve(interrupted, response).await);
                    }
                    Decision::Retry => Claim::Interrupted(interrupted),
                }
            }
            fresh @ Claim::Fresh(_) => fresh,
        };
        let limit = self.config.backing.limit;
        let operation = Operation::of(&claim, limit);
        let extensions = self.request.extensions_mut();
        extensions.insert(operation.clone());
        let (backing, key) = (self.config.backing.clone(), operation.key().clone());
        extensions.insert(Within { backing, key });
        let lease = Lease(operation.slot().clone());
        match self.config.start {
            Start::BeforeHandler => {
                let Ok(execution) = claim.start(limit).await else {
                    return Ok(self.config.refuse(Problem::Unavailable));
                };
                let is_put = lease.0.put(execution).await;
                assert!(is_put, "nobody has answered yet");
            }
            Start::ByHandler => {
                lease.0.offer(claim);
                extensions.insert(IdempotencyPermit::new(lease.0.clone()));
            }
        }
        self.answer(lease, operation).await
    }

    fn asks_again(&self, interrupted: &Interrupted) -> InterruptedRequest {
        let (parts, body) = self.request.clone().into_parts();
        InterruptedRequest::new(interrupted, parts, body.data)
    }

    /// Calls the handler, and ends the operation as its response says. A service that returns an
    /// error says nothing about the effect, so the key is interrupted.
    async fn answer(
        mut self,
        lease: Lease,
        operation: Operation,
    ) -> Result<Response<Body>, S::Error> {
        let request = self.request.map(Body::from);
        let response = stored::first(self.inner.call(request).await?.map(Body::new));
        drop(self.share);
        match lease.close() {
            Answered::Started(execution) => {
                // A handler that starts its operation does so right before its effect.
                if self.config.start == Start::ByHandler {
                    operation.effect_begins();
                }
                let Self { config, handler, .. } = self;
                let conclusion = Conclusion { config, operation, execution, handler };
                Ok(conclusion.conclude(response).await)
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
    /// Asks the hook what to do about an interrupted request, unless it was asked just now.
    async fn decide(&self, request: InterruptedRequest) -> Decision {
        let Some(decide) = &self.on_interrupted else { return Decision::Refuse };
        let key = request.key().clone();
        if self.asks.left(&key, Instant::now()).is_some() {
            return Decision::Refuse;
        }
        let decision = decide(request).await;
        if matches!(decision, Decision::Refuse) {
            self.asks.note(&key, Instant::now());
        }
        decision
    }

    /// Answers that the outcome is unknown, and when the hook may be asked again.
    fn interrupted(&self, interrupted: &Interrupted) -> Response<Body> {
        let mut response = self.refuse(Problem::Interrupted);
        if let Some(left) = self.asks.left(interrupted.key(), Instant::now()) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(left)));
        }
        response
    }

    /// Stores a response that the hook has made, and answers with it.
    async fn resolve(&self, interrupted: Interrupted, response: Response<Bytes>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let kept = match Body::from(body).read(self.response_len_max).await {
            Ok(read) => self.keep(interrupted, head, read).await,
            Err(_) => None,
        };
        kept.map_or_else(|| self.refuse(Problem::OutcomeUnknown), stored::replayed)
    }
}
