//! The service: what happens to a request before it runs.

use std::fmt;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tokio::runtime::Handle;
use tower_service::Service;

use super::backing::{Claim, Within};
use super::body::{BodyError, Whole};
use super::config::{Config, Restate};
use super::enduring::Enduring;
use super::permit::IdempotencyPermit;
use super::room::Share;
use super::run::Run;
use super::{Body, Problem, Refusal, Start, header, stored};
use crate::handle::{Begin, Completed};
use crate::key::Key;
use crate::observe;
use crate::sync::Arc;

/// The service that [`IdempotencyLayer`](super::IdempotencyLayer) wraps around another one.
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
        // Calls the service that was polled ready, and leaves its clone to be polled next.
        let copy = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, copy);
        let config = Arc::clone(&self.config);
        let (head, body) = request.into_parts();
        let echoed = config.echoed(&head);
        let asked = config.on_problem.clone().map(|restate| (restate, head.clone()));
        let answer = answer(config, inner, head, Body::new(body));
        if asked.is_none() && echoed.is_none() {
            return answer;
        }
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some((restate, head)) = asked {
                response = restated(response, &restate, &head);
            }
            if let Some((header, key)) = echoed {
                response.headers_mut().insert(header, key);
            }
            Ok(response)
        })
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
        // A layer around this one already holds the key.
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

/// The response; if it is a problem, the problem in its other form.
fn restated(response: Response<Body>, restate: &Restate, head: &Parts) -> Response<Body> {
    let Some(problem) = response.extensions().get::<Problem>().copied() else { return response };
    let mut restated = restate(problem, &response, head);
    if let (Some(after), false) =
        (response.headers().get(RETRY_AFTER), restated.headers().contains_key(RETRY_AFTER))
    {
        restated.headers_mut().insert(RETRY_AFTER, after.clone());
    }
    restated.extensions_mut().insert(problem);
    restated
}

/// Passes on a request that the layer leaves alone.
async fn pass<S, R>(mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    Ok(inner.call(request).await?.map(Body::new))
}

/// Answers a request that has a key. Once the request may run, it runs to its end: a client that
/// disconnects drops this future, and that must not stop a handler that has started.
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
    let asked = match config.ask(&name, request).await {
        Ok(asked) => asked,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let Asked { begin, request, share, retention } = asked;
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
    // Without a runtime nothing could run to its end. The claim is dropped, which leaves no trace
    // of the request.
    let (Ok(runtime), Ok(handler)) =
        (Handle::try_current(), Arc::clone(&config.handlers).try_acquire_owned())
    else {
        return Ok(config.refuse(Problem::Unavailable));
    };
    let run = Run { config: Arc::clone(&config), inner, request, handler, share };
    match Enduring::new(runtime, run.finish(claim)).await {
        Ok(answer) => answer,
        // The handler has panicked: propagate it, as without the layer.
        Err(panic) => resume_unwind(panic),
    }
}

/// The store's answer to a request, and the request with its whole body.
struct Asked {
    begin: Begin,
    request: Request<Whole>,
    /// The room that the body takes.
    share: Share,
    /// Overrides the retention of the store.
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

    /// Asks the store about a request. Everything that can refuse the request comes first, so that
    /// a refused one leaves no trace.
    async fn ask(&self, name: &[u8], request: Request<Body>) -> Result<Asked, Refusal> {
        let (parts, body) = request.into_parts();
        let scope = self.scope.derive(&parts)?;
        // `find_key` has checked the length of the key.
        let key = Key::scoped(scope, name).map_err(|_| Problem::NoScope)?;
        let read = self.read(body).await;
        let (whole, share) = read.map_err(|problem| Refusal::from(self.refuse(problem)))?;
        let fingerprint = self.fingerprint.compute(&parts, &whole.data)?;
        let begin = self.backing.begin(&key, fingerprint, self.wait).await;
        let begin = begin.map_err(|_| Refusal::from(self.refuse(Problem::Unavailable)))?;
        if let (Some(authorize), true) = (&self.authorize, skips_its_handler(&begin)) {
            authorize.ask(parts.clone()).await?;
        }
        let retention = self.retention(&parts);
        Ok(Asked { begin, request: Request::from_parts(parts, whole), share, retention })
    }

    /// Reads the body of a request to its end, within the time limit.
    async fn read(&self, body: Body) -> Result<(Whole, Share), Problem> {
        let mut read = pin!(body.read_request(self.request_len_max, &self.room));
        // A body that is already there needs no timer.
        match poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
            Poll::Ready(read) => read,
            Poll::Pending => {
                let in_time = tokio::time::timeout(self.request_time_max, read).await;
                in_time.unwrap_or(Err(Problem::BodyTooSlow))
            }
        }
    }

    /// The stored response again.
    fn replay(&self, completed: &Completed) -> Response<Body> {
        let stored = stored::decode(completed.result());
        if stored.is_some() {
            observe::responded(observe::Response::Replayed);
        }
        stored.map_or_else(|| self.refuse(Problem::StoredUnreadable), stored::replayed)
    }
}

/// Whether a request is answered from the store or by a hook, without its handler.
fn skips_its_handler(begin: &Begin) -> bool {
    match begin {
        Begin::Replay(_) | Begin::NotKept(_) | Begin::Interrupted(_) => true,
        Begin::Fresh(_) | Begin::InFlight(_) | Begin::Mismatch => false,
    }
}
