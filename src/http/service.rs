//! The service: what becomes of a request before it runs.

use std::error::Error;
use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::LengthLimitError;
use tokio::runtime::Handle;
use tower_service::Service;

use super::backing::{Claim, Within};
use super::body::{BodyError, Read, Whole};
use super::enduring::Enduring;
use super::layer::{Config, Restate, Start};
use super::permit::IdempotencyPermit;
use super::run::Run;
use super::scope::Refusal;
use super::{Body, Problem, header, stored};
use crate::handle::{Begin, Completed};
use crate::key::Key;
use crate::observe;
use crate::sync::Arc;

/// The service that [`IdempotencyLayer`](super::IdempotencyLayer) makes of another one.
#[derive(Clone)]
pub struct Idempotency<S> {
    config: Arc<Config>,
    inner: S,
}

impl<S> Idempotency<S> {
    pub(super) fn new(config: Arc<Config>, inner: S) -> Self {
        Self { config, inner }
    }
}

impl<S> fmt::Debug for Idempotency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("config", &self.config).finish_non_exhaustive()
    }
}

type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B, R> Service<Request<B>> for Idempotency<S>
where
    S: Service<Request<Body>, Response = Response<R>, Error: Send, Future: Send>,
    S: Clone + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that said it is ready is called, and its copy is asked next.
        let copy = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, copy);
        let config = Arc::clone(&self.config);
        let (head, body) = request.into_parts();
        let asked = config.on_problem.clone().map(|restate| (restate, head.clone()));
        let answer = answer(config, inner, head, Body::new(body));
        let Some((restate, head)) = asked else { return answer };
        Box::pin(async move { Ok(restated(answer.await?, &restate, &head)) })
    }
}

/// Answers a request.
fn answer<S, R>(config: Arc<Config>, inner: S, head: Parts, body: Body) -> ResponseFuture<S::Error>
where
    S: Service<Request<Body>, Response = Response<R>, Error: Send, Future: Send> + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let passes = config.passes(&head);
    let mut request = Request::from_parts(head, body);
    if passes {
        return Box::pin(pass(inner, request));
    }
    let within = request.extensions().get::<Within>();
    match config.find_key(request.headers()) {
        // A layer around this one has the key in hand.
        Ok(Some(name)) if within.is_some_and(|within| within.is(&config.backing, &name)) => {
            if request.extensions().get::<IdempotencyPermit>().is_none() {
                request.extensions_mut().insert(IdempotencyPermit::started());
            }
            Box::pin(pass(inner, request))
        }
        Ok(Some(name)) => Box::pin(protect(config, inner, name, request)),
        Ok(None) => {
            if config.start == Start::ByHandler {
                request.extensions_mut().insert(IdempotencyPermit::unprotected());
            }
            Box::pin(pass(inner, request))
        }
        Err(problem) => Box::pin(async move { Ok(config.refuse(problem)) }),
    }
}

/// The response, or if it is a problem that problem in another form.
fn restated(response: Response<Body>, restate: &Restate, head: &Parts) -> Response<Body> {
    let Some(problem) = response.extensions().get::<Problem>().copied() else { return response };
    let mut restated = restate(problem, head);
    if let (Some(after), false) =
        (response.headers().get(RETRY_AFTER), restated.headers().contains_key(RETRY_AFTER))
    {
        restated.headers_mut().insert(RETRY_AFTER, after.clone());
    }
    restated.extensions_mut().insert(problem);
    restated
}

/// Hands a request on that the layer has nothing to do with.
async fn pass<S, R>(mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    Ok(inner.call(request).await?.map(Body::new))
}

/// Answers a request that has a key. As soon as it may run, it does so to its end: a client that
/// leaves ends this future, and must not end a handler that has started.
async fn protect<S, R>(
    config: Arc<Config>,
    inner: S,
    name: Vec<u8>,
    request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>, Error: Send, Future: Send> + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    // Without a runtime nothing could be run to its end, so it is not begun.
    let Ok(runtime) = Handle::try_current() else { return Ok(config.refuse(Problem::Unavailable)) };
    let asked = match config.ask(&name, request).await {
        Ok(asked) => asked,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let Asked { begin, request, retention } = asked;
    let claim = match begin {
        Begin::Fresh(permit) => Claim::Fresh(match retention {
            Some(retention) => permit.with_retention(retention),
            None => permit,
        }),
        Begin::Interrupted(interrupted) => Claim::Interrupted(interrupted),
        Begin::Replay(completed) => return Ok(config.replay(&completed)),
        Begin::NotKept(_) => return Ok(config.refuse(Problem::ResponseNotKept)),
        Begin::InFlight(_) => return Ok(config.refuse(Problem::InFlight)),
        Begin::Mismatch => return Ok(config.refuse(Problem::KeyReused)),
    };
    let Ok(handler) = Arc::clone(&config.handlers).try_acquire_owned() else {
        // The claim is dropped, and with it all there is of the request.
        return Ok(config.refuse(Problem::Unavailable));
    };
    let run = Run { config: Arc::clone(&config), inner, request, handler };
    match Enduring::new(runtime, run.finish(claim)).await {
        Ok(answer) => answer,
        // The handler has panicked, which is told as without the layer.
        Err(panic) => resume_unwind(panic),
    }
}

/// What the store says of a request, and the request with its body as a whole.
struct Asked {
    begin: Begin,
    request: Request<Whole>,
    /// If it is another than the store's.
    retention: Option<Duration>,
}

impl Config {
    /// The key of a request; `None` if it has none and needs none.
    fn find_key(&self, headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
        match header::find(headers, &self.header)? {
            None if self.key_required => Err(Problem::KeyMissing),
            found => Ok(found),
        }
    }

    /// Asks the store about a request. All that can refuse it comes before, so that a refused one
    /// leaves no trace.
    async fn ask(&self, name: &[u8], request: Request<Body>) -> Result<Asked, Refusal> {
        let (parts, body) = request.into_parts();
        let scope = self.scope.derive(&parts)?;
        // The key has its length already.
        let key = Key::scoped(scope, name).map_err(|_| Problem::NoScope)?;
        let whole = match body.read(self.request_len_max).await {
            Ok(Read::Whole(whole)) => whole,
            Ok(Read::TooLong { .. }) => return Err(Problem::BodyTooLarge.into()),
            Err(error) if is_too_long(&*error) => return Err(Problem::BodyTooLarge.into()),
            Err(_) => return Err(Problem::BodyUnreadable.into()),
        };
        let fingerprint = self.fingerprint.compute(&parts, &whole.data);
        let begin = self.backing.begin(&key, fingerprint, self.wait).await;
        let begin = begin.map_err(|_| Refusal::from(self.refuse(Problem::Unavailable)))?;
        let retention = self.retention(&parts);
        Ok(Asked { begin, request: Request::from_parts(parts, whole), retention })
    }

    /// The stored response once more.
    fn replay(&self, completed: &Completed) -> Response<Body> {
        let stored = stored::decode(completed.result());
        if stored.is_some() {
            observe::responded(observe::Response::Replayed);
        }
        stored.map_or_else(|| self.refuse(Problem::StoredUnreadable), stored::replayed)
    }
}

/// Whether a layer further out has refused to read on.
fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_too_long)
}
