//! Rights that a handler checks, applied to requests that never reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::post as route;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use idemstore::http::{Decision, IdempotencyLayer, Problem, without_keeping};
use idemstore::{Fingerprint, Key};

use super::support::{Call, Desk, Place, SCOPE, expect_problem, layer, post, serve};

/// A user of the one tenant may pay if the user's name says so.
fn may_pay(headers: &HeaderMap) -> bool {
    headers.get("x-user").is_some_and(|user| user == "payer")
}

async fn pay(
    State(desk): State<Desk>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    if !may_pay(&headers) {
        return axum::response::IntoResponse::into_response(StatusCode::FORBIDDEN);
    }
    let response = desk.answer(&body).await;
    if headers.contains_key("x-secret") { without_keeping(response) } else { response }
}

/// The layer that checks, and how often it has.
fn asking(layer: IdempotencyLayer) -> (IdempotencyLayer, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&asked);
    let layer = layer.authorize(move |head: Parts| {
        ours.fetch_add(1, Ordering::SeqCst);
        async move { if may_pay(&head.headers) { Ok(()) } else { Err(StatusCode::FORBIDDEN) } }
    });
    (layer, asked)
}

fn of(user: &str, call: Call) -> Call {
    call.header("X-User", user)
}

#[tokio::test]
async fn a_right_that_the_handler_checks_is_checked_for_a_replay_too() {
    let (place, desk) = (Place::new(), Desk::default());
    let (layer, asked) = asking(layer(place.open()));
    let router = Router::new().route("/orders", route(pay)).with_state(desk.clone());
    let address = serve(router.layer(layer)).await;
    let first = of("payer", post("abc", "apples")).send(address).await;
    assert_eq!(
        (first.status, asked.load(Ordering::SeqCst)),
        (201, 0),
        "the handler has checked it"
    );
    let other = of("guest", post("abc", "apples")).send(address).await;
    assert_eq!((other.status, other.text()), (403, String::new()));
    let replay = of("payer", post("abc", "apples")).send(address).await;
    assert_eq!((replay.text(), replay.header("idempotent-replayed")), (first.text(), Some("true")));
    assert_eq!((desk.runs(), asked.load(Ordering::SeqCst)), (1, 2));
    // Another request with that key learns nothing that it would need a right for.
    expect_problem(&of("guest", post("abc", "pears")).send(address).await, Problem::KeyReused);

    let secret = of("payer", post("def", "apples")).header("X-Secret", "1");
    assert_eq!(secret.send(address).await.status, 201);
    let other = of("guest", post("def", "apples")).send(address).await;
    assert_eq!(other.status, 403);
    expect_problem(&secret.send(address).await, Problem::ResponseNotKept);
}

#[tokio::test]
async fn a_right_is_checked_before_the_hook_for_interrupted_requests_is_asked() {
    let (place, desk) = (Place::new(), Desk::default());
    let store = place.open();
    let key = Key::scoped(SCOPE, "abc").expect("it is a key");
    let begin = store.begin(&key, Fingerprint::NONE).expect("it answers");
    let idemstore::Begin::Fresh(permit) = begin else { panic!("it is new") };
    drop(permit.start().expect("it starts"));
    let hooked = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&hooked);
    let (layer, _) = asking(layer(store).on_interrupted(move |_| {
        ours.fetch_add(1, Ordering::SeqCst);
        async { Decision::Resolve(Response::new(Bytes::from("paid before"))) }
    }));
    let router = Router::new().route("/orders", route(pay)).with_state(desk.clone());
    let address = serve(router.layer(layer)).await;
    assert_eq!(of("guest", post("abc", "apples")).send(address).await.status, 403);
    assert_eq!(hooked.load(Ordering::SeqCst), 0);
    assert_eq!(of("payer", post("abc", "apples")).send(address).await.text(), "paid before");
    assert_eq!((hooked.load(Ordering::SeqCst), desk.runs()), (1, 0));
}
