//! Services that aren't axum's, and what doesn't show on a socket.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use idemstore::Status;
use idemstore::http::{Body, Problem};
use tokio::sync::Semaphore;
use tower::util::ServiceExt;
use tower::{Layer, Service, service_fn};

use super::support::{Place, layer};

fn request(body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("/orders").header("Idempotency-Key", "abc");
    request.body(Full::from(body)).expect("it is a request")
}

#[tokio::test]
async fn any_service_of_http_requests_can_be_in_the_layer() {
    let place = Place::new();
    let runs = AtomicUsize::new(0);
    let runs = Arc::new(runs);
    let ours = Arc::clone(&runs);
    let inner = service_fn(move |request: Request<Body>| {
        let run = 1 + ours.fetch_add(1, Ordering::SeqCst);
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            let text = format!("{run} for {}", String::from_utf8_lossy(&body));
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::new(text))
        }
    });
    let service = layer(place.open()).layer(inner);
    for replayed in [false, true] {
        let response = service.clone().oneshot(request("apples")).await.expect("it answers");
        assert_eq!(response.headers().contains_key("idempotent-replayed"), replayed);
        let body = response.into_body().collect().await.expect("it has a body").to_bytes();
        assert_eq!(&body[..], b"1 for apples");
    }
}

#[tokio::test]
async fn a_handler_sees_what_is_local_to_the_task_that_waits_for_it() {
    tokio::task_local! {
        static REQUEST: u8;
    }
    let place = Place::new();
    let inner = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(REQUEST.get().to_string()))
    });
    let service = layer(place.open()).layer(inner);
    let response = REQUEST.scope(7, service.oneshot(request("apples"))).await.expect("it answers");
    let body = response.into_body().collect().await.expect("it has a body").to_bytes();
    assert_eq!(&body[..], b"7");
}

#[tokio::test]
async fn trailers_are_stored_and_handed_on() {
    let place = Place::new();
    let inner = service_fn(|request: Request<Body>| async {
        let collected = request.into_body().collect().await.expect("it has a body");
        let trailers = collected.trailers().cloned();
        let body = Full::new(collected.to_bytes());
        let trailers = async move { trailers.map(Ok) };
        Ok::<_, Infallible>(Response::new(body.with_trailers(trailers)))
    });
    let service = layer(place.open()).layer(inner);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    for _ in 0..2 {
        let sent = trailers.clone();
        let request = request("apples").map(|body| body.with_trailers(async { Some(Ok(sent)) }));
        let response = service.clone().oneshot(request).await.expect("it answers");
        let collected = response.into_body().collect().await.expect("it has a body");
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(&collected.to_bytes()[..], b"apples");
    }
}

#[tokio::test]
async fn a_service_that_fails_has_not_said_what_became_of_the_effect() {
    let place = Place::new();
    let store = place.open();
    let inner = service_fn(|_: Request<Body>| async { Err::<Response<String>, _>("it failed") });
    let service = layer(store.clone()).layer(inner);
    let error = service.clone().oneshot(request("apples")).await.expect_err("it fails");
    assert_eq!(error, "it failed");
    assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
    let response = service.oneshot(request("apples")).await.expect("it is refused");
    assert_eq!(response.status(), Problem::Interrupted.status());
}

#[tokio::test]
async fn a_future_that_is_dropped_does_not_end_a_handler() {
    let place = Place::new();
    let store = place.open();
    let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (theirs, their_gate) = (Arc::clone(&entered), Arc::clone(&gate));
    let inner = service_fn(move |_: Request<Body>| {
        let (entered, gate) = (Arc::clone(&theirs), Arc::clone(&their_gate));
        async move {
            entered.add_permits(1);
            gate.acquire().await.expect("it stays open").forget();
            Ok::<_, Infallible>(Response::new("done".to_owned()))
        }
    });
    let mut service = layer(store.clone()).layer(inner);
    {
        let mut answer = pin!(service.call(request("apples")));
        tokio::select! {
            _ = &mut answer => panic!("the handler is held"),
            permit = entered.acquire() => permit.expect("it stays open").forget(),
        }
    }
    assert_eq!(store.keys().status(Status::Executing).count(), 1);
    gate.add_permits(1);
    while store.keys().status(Status::Completed).count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let replay = service.oneshot(request("apples")).await.expect("it answers");
    assert!(replay.headers().contains_key("idempotent-replayed"));
}

#[test]
fn nothing_runs_without_a_runtime() {
    let place = Place::new();
    let inner = service_fn(|_: Request<Body>| pending::<Result<Response<String>, Infallible>>());
    let mut service = layer(place.open()).layer(inner);
    let mut answer = pin!(service.call(request("apples")));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = answer.as_mut().poll(&mut context) else {
        panic!("it is not refused")
    };
    assert_eq!(response.status(), Problem::Unavailable.status());
}

/// A body that states its length, and never arrives.
struct Announced(u64);

impl http_body::Body for Announced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_is_read() {
    let place = Place::new();
    let inner = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new("done".to_owned()))
    });
    let service = layer(place.open()).request_len_max(25);
    let service = service.layer(inner);
    for (len, status) in [(26, 413), (25, 200)] {
        let request = request("").map(|_| Announced(len));
        let response = service.clone().oneshot(request).await.expect("it answers");
        assert_eq!(response.status(), status);
    }
}

/// A service that is ready only once, like services that reserve room in `poll_ready`.
struct Reserving {
    ready: bool,
}

impl Clone for Reserving {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl<B: http_body::Body<Data: Buf>> Service<Request<B>> for Reserving {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(self.ready, "it was called without being asked first");
        std::future::ready(Ok(Response::new("done".to_owned())))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let place = Place::new();
    let mut service = layer(place.open()).layer(Reserving { ready: false });
    for _ in 0..2 {
        poll_fn(|context| Service::<Request<Full<Bytes>>>::poll_ready(&mut service, context))
            .await
            .expect("it is ready");
        let response = service.call(request("apples")).await.expect("it answers");
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn no_debug_output_shows_a_request_or_a_response() {
    let place = Place::new();
    let options = layer(place.open());
    assert!(format!("{options:?}").contains("idempotency-key"));
    let body = Body::new(Full::new(Bytes::from("secret")));
    let whole = Body::from(Bytes::from("secret"));
    let decision = idemstore::http::Decision::Resolve(Response::new(Bytes::from("secret")));
    for shown in [format!("{body:?}"), format!("{whole:?}"), format!("{decision:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}
