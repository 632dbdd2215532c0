//! The run of a request that has its key in hand, from its start to the stored response.

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::backing::{self, Claim};
use super::body::{BodyError, Read, Whole};
use super::layer::{Config, Start};
use super::permit::Lease;
use super::{Body, Decision, InterruptedRequest, Problem, stored};
use crate::handle::{Completable, Execution, Interrupted};
use crate::rules::effect::Effect;
use crate::sync::Arc;

/// A request that may run.
pub(super) struct Run<S> {
    pub(super) config: Arc<Config>,
    pub(super) inner: S,
    pub(super) request: Request<Whole>,
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
        self.request.extensions_mut().insert(claim.operation());
        match self.config.start {
            Start::BeforeHandler => self.started(claim).await,
            Start::ByHandler => self.startable(claim).await,
        }
    }

    fn asks_again(&self, interrupted: &Interrupted) -> InterruptedRequest {
        let (parts, body) = self.request.clone().into_parts();
        InterruptedRequest::new(interrupted, parts, body.data)
    }

    /// [`Start::BeforeHandler`].
    async fn started(mut self, claim: Claim) -> Result<Response<Body>, S::Error> {
        let Ok(execution) = claim.start().await else {
            return Ok(self.config.refuse(Problem::Unavailable));
        };
        let request = self.request.map(Body::from);
        // A service that fails has not said what became of the effect: the key is interrupted.
        let response = self.inner.call(request).await?.map(Body::new);
        let refused = self.config.rejects(response.status()).then_some(Effect::DidNotHappen(()));
        Ok(self.config.conclude(execution, response, refused).await)
    }

    /// [`Start::ByHandler`].
    async fn startable(mut self, claim: Claim) -> Result<Response<Body>, S::Error> {
        let lease = Lease::new(claim);
        let mut request = self.request.map(Body::from);
        request.extensions_mut().insert(lease.permit());
        let response = self.inner.call(request).await?.map(Body::new);
        match lease.close() {
            Some(execution) => Ok(self.config.conclude(execution, response, None).await),
            None => Ok(response),
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

    /// Ends an operation as its response says: by what the handler has put into it, or else by its
    /// status, or else by what it is.
    async fn conclude(
        &self,
        execution: Execution,
        response: Response<Body>,
        by_status: Option<Effect>,
    ) -> Response<Body> {
        match response.extensions().get().copied().or(by_status) {
            None | Some(Effect::Done(())) => {
                let kept = self.keep(execution, response).await;
                kept.unwrap_or_else(|| self.refuse(Problem::OutcomeUnknown))
            }
            Some(Effect::DidNotHappen(())) => match backing::leave(execution).await {
                Ok(()) => response,
                Err(_) => self.refuse(Problem::OutcomeUnknown),
            },
            // Dropping the execution leaves the key interrupted.
            Some(Effect::Unknown(())) => response,
        }
    }

    /// Stores a response, then gives it to be sent. `None` if it is not stored: a client must not hold
    /// an answer that its retry could not get.
    async fn keep<H: Completable>(
        &self,
        handle: H,
        response: Response<Body>,
    ) -> Option<Response<Body>> {
        let (parts, body) = response.into_parts();
        let headers = stored::lasting(&parts.headers, &self.unstored_headers);
        let (kept, body) = match body.read(self.response_len_max).await.ok()? {
            Read::Whole(whole) => {
                let Whole { data, trailers } = &whole;
                let bytes = stored::encode(parts.status, &headers, data, trailers.as_ref());
                (backing::keep(handle, &bytes).await, Body::from(whole))
            }
            Read::TooLong { start, body } => {
                let bytes = stored::encode(parts.status, &headers, &start, None);
                (backing::keep_digest(handle, &bytes).await, body)
            }
        };
        kept.then(|| Response::from_parts(parts, body))
    }

    /// Stores a response that the handler did not make, and answers with it.
    async fn resolve(&self, interrupted: Interrupted, response: Response<Bytes>) -> Response<Body> {
        let kept = self.keep(interrupted, response.map(Body::from)).await;
        kept.map_or_else(|| self.refuse(Problem::OutcomeUnknown), stored::replayed)
    }
}
