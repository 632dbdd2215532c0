//! What a service can configure about its responses and its keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use idemstore::http::{IdempotencyPermit, Operation, Problem, Start};
use idemstore::{Effect, Status};

use super::support::{Call, Place, SCOPE, Site, layer, post, serve};

#[tokio::test]
async fn problems_can_have_types_of_the_service_and_are_known_by_them_to_a_layer_further_out() {
    let base = "https://api.example.com/problems/";
    let inner = Site::new(|layer| layer.problem_base(base).require_key(true)).await;
    let answer = inner.send(&Call::new("POST", "/orders").body("apples")).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (400, Some("application/problem+json"))
    );
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    assert_eq!(json["type"], "https://api.example.com/problems/KeyMissing");
    assert_eq!(json["title"], Problem::KeyMissing.title());

    let held = inner.begin("abc");
    let body = inner.send(&post("abc", "apples")).await.body;
    let behind = move || {
        let body = body.clone();
        async move {
            let problem = [(CONTENT_TYPE, "application/problem+json")];
            (StatusCode::CONFLICT, problem, body).into_response()
        }
    };
    let outer = Place::new();
    let store = outer.open();
    let router = Router::new().fallback(axum::routing::any(behind));
    let address = serve(router.layer(layer(store.clone()))).await;
    assert_eq!(post("abc", "apples").send(address).await.status, 409);
    assert_eq!(store.keys().count(), 0, "it is no outcome to keep");
    drop(held);
}

#[tokio::test]
async fn a_key_can_be_sent_back_as_it_came() {
    let site = Site::new(|layer| layer.echo_key(true).require_key(true)).await;
    for (key, status) in [("\"abc\"", 201), ("\"abc\"", 201), ("abc", 201), ("a b", 400)] {
        let answer = site.send(&post(key, "apples")).await;
        assert_eq!((answer.status, answer.header("idempotency-key")), (status, Some(key)));
    }
    let other = site.send(&post("abc", "pears")).await;
    assert_eq!((other.status, other.header("idempotency-key")), (422, Some("abc")));
    let without = site.send(&Call::new("POST", "/orders")).await;
    assert_eq!((without.status, without.header("idempotency-key")), (400, None));
    assert_eq!(site.desk.runs(), 1);
}

#[tokio::test]
async fn a_handler_can_say_how_long_its_outcome_is_kept() {
    let place = Place::new();
    let store = place.open();
    let runs = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&runs);
    let handle = move |Extension(permit): Extension<IdempotencyPermit>, body: String| {
        let runs = Arc::clone(&ours);
        async move {
            let permit = if body == "short" {
                permit.with_retention(Duration::from_millis(1))
            } else {
                permit
            };
            permit.start().await.expect("it starts");
            format!("run {}", 1 + runs.fetch_add(1, Ordering::SeqCst))
        }
    };
    let router = Router::new().fallback(axum::routing::any(handle));
    let address = serve(router.layer(layer(store).start(Start::ByHandler))).await;
    for (body, expected) in [("short", ["run 1", "run 2"]), ("long", ["run 3", "run 3"])] {
        for expected in expected {
            assert_eq!(post(body, body).send(address).await.text(), expected);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn an_operation_can_be_told_what_became_of_its_effect() {
    for (effect, status) in [
        (Effect::Unknown(()), Some(Status::Interrupted)),
        (Effect::DidNotHappen(()), None),
        (Effect::Done(()), Some(Status::Completed)),
    ] {
        let place = Place::new();
        let store = place.open();
        let handle = move |Extension(operation): Extension<Operation>| async move {
            operation.set_effect(effect);
            StatusCode::BAD_GATEWAY
        };
        let router = Router::new().fallback(axum::routing::any(handle));
        let address = serve(router.layer(layer(store.clone()))).await;
        assert_eq!(post("abc", "apples").send(address).await.status, 502);
        let key = idemstore::Key::scoped(SCOPE, "abc").expect("it is a key");
        let info = store.get(&key).expect("it answers");
        assert_eq!(info.map(|info| info.status()), status, "{effect:?}");
    }
}

#[tokio::test]
async fn an_operation_says_when_it_was_begun_in_each_of_its_attempts() {
    let place = Place::new();
    let store = place.open();
    let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ours = Arc::clone(&begun);
    let handle = move |Extension(operation): Extension<Operation>| {
        ours.lock().expect("no handler panics").push((operation.attempt(), operation.begun_at()));
        async { StatusCode::BAD_GATEWAY }
    };
    let router = Router::new().fallback(axum::routing::any(handle));
    let layer = layer(store.clone()).on_interrupted(|_| async { idemstore::http::Decision::Retry });
    let address = serve(router.layer(layer)).await;
    for _ in 0..2 {
        assert_eq!(post("abc", "apples").send(address).await.status, 502);
    }
    let key = idemstore::Key::scoped(SCOPE, "abc").expect("it is a key");
    let known = store.get(&key).expect("it answers").expect("it was interrupted").begun_at();
    assert_eq!(*begun.lock().expect("no handler panics"), [(1, known), (2, known)]);
}
