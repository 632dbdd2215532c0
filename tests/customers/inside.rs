//! The service inside the test process, without a socket.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use idemstore::Store;
use idemstore::http::Start;
use tower::util::ServiceExt;

use super::example::api::Api;
use super::example::exchange::Peer;
use super::example::objects::Objects;
use super::example::verification::Verification;

/// Both ways to start an operation.
pub const STARTS: [Start; 2] = [Start::BeforeHandler, Start::ByHandler];

/// The service on this store, with its objects in this directory.
pub fn router(directory: &Path, store: &Store, start: Start) -> Router {
    router_that_takes(Duration::ZERO, directory, store, start)
}

/// The same, with creates that take this long.
pub fn router_that_takes(delay: Duration, directory: &Path, store: &Store, start: Start) -> Router {
    // Nothing listens there.
    let provider = Peer { address: ([127, 0, 0, 1], 9).into(), secret: "secret".to_owned() };
    let api = Api {
        store: store.clone(),
        objects: Objects::open(&directory.join("objects.log")).expect("it opens"),
        verification: Verification::new(provider),
        start,
        require_key: false,
        wait: None,
        delay,
    };
    let layer = api.layer();
    api.router(layer)
}

/// Status, whether it was replayed, and the body.
pub type Answer = (StatusCode, bool, String);

pub async fn post(router: &Router, path: &str, key: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path).header("Idempotency-Key", key).body(body.into());
    send(router, request.expect("it is a request")).await
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await;
    let (parts, body) = response.expect("it answers").into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("it is short");
    let body = String::from_utf8(body.to_vec()).expect("it is text");
    (parts.status, parts.headers.contains_key("idempotent-replayed"), body)
}
