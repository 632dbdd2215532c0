//! The run of a request that has its key in hand, from its start to the stored response.

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::body::{BodyError, Read};
use super::layer::{Config, Start};
use super::permit::{Claim, Lease};
use super::service::Whole;
use super::{Body, Decision, Effect, InterruptedRequest, Problem, stored};
use crate::error::CompleteError;
use crate::handle::{Execution, Interrupted};
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
        let refused = self.config.rejects(response.status()).then_some(Effect::DidNotHappen);
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
            None => self.keep(execution, response).await,
            // This attempt has done nothing. If there was an earlier one, that may have.
            Some(Effect::DidNotHappen) if execution.attempt() == 1 => {
                match execution.abandon_async().await {
                    Ok(()) => response,
                    Err(_) => self.refuse(Problem::OutcomeUnknown),
                }
            }
            // Dropping the execution leaves the key interrupted.
            Some(Effect::DidNotHappen | Effect::Unknown) => response,
        }
    }

    /// Stores a response, then gives it to be sent. One that is not stored is not sent: a client
    /// must not hold an answer that its retry could not get.
    async fn keep(&self, execution: Execution, response: Response<Body>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let headers = stored::lasting(&parts.headers, &self.unstored_headers);
        let (kept, body) = match body.read(self.response_len_max).await {
            Ok(Read::Whole { data, trailers }) => {
                let bytes = stored::encode(parts.status, &headers, &data, trailers.as_ref());
                (complete(execution, &bytes).await, Body::whole(data, trailers))
            }
            Ok(Read::TooLong { start, body }) => {
                let bytes = stored::encode(parts.status, &headers, &start, None);
                (execution.complete_tombstone_async(&bytes).await.is_ok(), body)
            }
            Err(_) => return self.refuse(Problem::OutcomeUnknown),
        };
        if kept { Response::from_parts(parts, body) } else { self.refuse(Problem::OutcomeUnknown) }
    }

    /// Stores a response that the handler did not make, and answers with it.
    async fn resolve(&self, interrupted: Interrupted, response: Response<Bytes>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let headers = stored::lasting(&parts.headers, &self.unstored_headers);
        let bytes = stored::encode(parts.status, &headers, &body, None);
        match interrupted.resolve_async(&bytes).await {
            Ok(completed) => self.replay(&completed),
            Err(_) => self.refuse(Problem::OutcomeUnknown),
        }
    }
}

/// Stores the bytes of a response, or that there was one if they are too many. Whether it has.
async fn complete(execution: Execution, bytes: &[u8]) -> bool {
    match execution.complete_async(bytes).await {
        Ok(_) => true,
        Err(CompleteError::TooLarge { handle, .. }) => {
            handle.complete_tombstone_async(bytes).await.is_ok()
        }
        Err(_) => false,
    }
}

impl From<Whole> for Body {
    fn from(whole: Whole) -> Self {
        Self::whole(whole.data, whole.trailers)
    }
}
