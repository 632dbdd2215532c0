//! The layer's and axum's limits for a body, and a handler whose requests need no key.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Extension};
use axum::http::{Request, StatusCode};
use axum::routing::post;
use http_body_util::Limited;
use idemstore::Store;
use idemstore::http::{IdempotencyLayer, Operation, Problem, Scope};
use tower::ServiceExt;
use tower::util::MapRequestLayer;

const MIB: usize = 1024 * 1024;

fn store() -> Store {
    let store = Store::builder().log_bytes(512 * 1024).background_thread(false);
    store.open_in_memory().expect("it opens")
}

struct Service {
    store: Store,
    app: Router,
}

impl Service {
    /// A handler inside the layer, with these limits where they differ from the defaults.
    fn new(layer: Option<usize>, axum: Option<usize>) -> Self {
        let store = store();
        let mut idempotency = IdempotencyLayer::new(store.clone(), Scope::shared("tests"));
        if let Some(bytes) = layer {
            idempotency = idempotency.request_len_max(bytes);
        }
        let taken = async |body: Bytes| body.len().to_string();
        let mut app = Router::new().route("/", post(taken)).layer(idempotency);
        if let Some(bytes) = axum {
            app = app.layer(DefaultBodyLimit::max(bytes));
        }
        Self { store, app }
    }

    async fn send(&self, key: Option<&str>, len: usize) -> (StatusCode, Option<Problem>) {
        let mut request = Request::post("/");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let request = request.body(Body::from(vec![b'a'; len])).expect("it is a request");
        let answer = self.app.clone().oneshot(request).await.expect("a router does not fail");
        (answer.status(), answer.extensions().get().copied())
    }

    fn records(&self) -> usize {
        self.store.keys().count()
    }
}

const TAKEN: (StatusCode, Option<Problem>) = (StatusCode::OK, None);
const OF_AXUM: (StatusCode, Option<Problem>) = (StatusCode::PAYLOAD_TOO_LARGE, None);
const OF_THE_LAYER: (StatusCode, Option<Problem>) =
    (StatusCode::PAYLOAD_TOO_LARGE, Some(Problem::BodyTooLarge));

#[tokio::test]
async fn both_limits_are_two_mebibytes_by_default() {
    let service = Service::new(None, None);
    assert_eq!(service.send(Some("too-long"), 2 * MIB + 1).await, OF_THE_LAYER);
    assert_eq!(service.records(), 0);
    assert_eq!(service.send(None, 2 * MIB + 1).await, OF_AXUM);
    assert_eq!(service.send(Some("longest"), 2 * MIB).await, TAKEN);
    assert_eq!(service.records(), 1);
}

#[tokio::test]
async fn a_longer_body_needs_both_limits_raised() {
    let service = Service::new(None, Some(4 * MIB));
    assert_eq!(service.send(Some("key"), 3 * MIB).await, OF_THE_LAYER);
    // The layer doesn't read a request without a key.
    assert_eq!(service.send(None, 3 * MIB).await, TAKEN);

    let service = Service::new(Some(4 * MIB), None);
    assert_eq!(service.send(Some("key"), 3 * MIB).await, OF_AXUM);
    assert_eq!(service.records(), 0, "the key is free");
    assert_eq!(service.send(Some("key"), MIB).await, TAKEN);

    let service = Service::new(Some(4 * MIB), Some(4 * MIB));
    assert_eq!(service.send(Some("key"), 3 * MIB).await, TAKEN);
}

#[tokio::test]
async fn a_shorter_limit_of_axum_frees_the_key() {
    let service = Service::new(None, Some(10));
    assert_eq!(service.send(Some("key"), 11).await, OF_AXUM);
    assert_eq!(service.records(), 0);
    assert_eq!(service.send(Some("key"), 10).await, TAKEN);
}

#[tokio::test]
async fn a_limit_around_the_layer_is_answered_as_its_own() {
    let Service { store, app } = Service::new(None, None);
    let limited = MapRequestLayer::new(|request: Request<Body>| {
        request.map(|body| Body::new(Limited::new(body, 10)))
    });
    let service = Service { store, app: app.layer(limited) };
    assert_eq!(service.send(Some("key"), 11).await, OF_THE_LAYER);
    assert_eq!(service.records(), 0);
    assert_eq!(service.send(Some("key"), 10).await, TAKEN);
}

#[tokio::test]
async fn without_a_key_a_handler_finds_no_operation() {
    let layer = IdempotencyLayer::new(store(), Scope::shared("tests"));
    let tell = async |operation: Option<Extension<Operation>>| operation.is_some().to_string();
    let app = Router::new().route("/", post(tell)).route_layer(layer);
    for (key, expected) in [(None, "false"), (Some("key"), "true")] {
        let mut request = Request::post("/");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let request = request.body(Body::empty()).expect("it is a request");
        let answer = app.clone().oneshot(request).await.expect("a router does not fail");
        let body = to_bytes(answer.into_body(), 16).await.expect("it is short");
        assert_eq!(body, expected);
    }
}

/// With `route_layer` the layer doesn't see unknown paths; with `layer` such a request costs two
/// fsyncs.
#[tokio::test]
async fn a_path_without_a_route_is_no_matter_of_a_route_layer() {
    for (of_routes, batches) in [(true, 0), (false, 2)] {
        let store = store();
        let layer = IdempotencyLayer::new(store.clone(), Scope::shared("tests"));
        let app = Router::new().route("/", post(async || "run"));
        let app = if of_routes { app.route_layer(layer) } else { app.layer(layer) };
        let request = Request::post("/nowhere").header("Idempotency-Key", "key");
        let request = request.body(Body::empty()).expect("it is a request");
        assert_eq!(app.oneshot(request).await.expect("it does not fail").status(), 404);
        assert_eq!(store.stats().batches, batches);
    }
}
