//! A store that can't answer.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::any;
use http::StatusCode;
use idemstore::http::Problem;
use idemstore::{Begin, Fingerprint, Key, Status};

use super::support::{Call, Desk, Place, Site, expect_order, expect_problem, layer, post, serve};

#[tokio::test]
async fn nothing_runs_without_the_store() {
    let site = Site::new(|layer| layer).await;
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    site.store.clone().close().expect("it closes");
    for key in ["abc", "def"] {
        let answer = site.send(&post(key, "apples")).await;
        expect_problem(&answer, Problem::Unavailable);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(site.desk.runs(), 1);
    // An unprotected request needs no store.
    expect_order(&site.send(&Call::new("POST", "/orders").body("apples")).await, 2, false);
}

#[tokio::test]
async fn a_store_that_is_full_refuses_what_is_new_and_replays_the_rest() {
    let (place, desk) = (tempfile::tempdir().expect("there is room"), Desk::default());
    let store = Place::builder().keys_max(1).open(place.path().join("store")).expect("it opens");
    let address = serve(desk.router().layer(layer(store))).await;
    expect_order(&post("abc", "apples").send(address).await, 1, false);
    expect_problem(&post("def", "apples").send(address).await, Problem::Unavailable);
    expect_order(&post("abc", "apples").send(address).await, 1, true);
    assert_eq!(desk.runs(), 1);
}

/// A server whose handler closes the store before it answers with this status; returns what is left
/// in the store once it is reopened.
async fn closed_within(status: StatusCode) -> usize {
    let place = Place::new();
    let store = place.open();
    let ours = store.clone();
    let handle = move || {
        let store = ours.clone();
        async move {
            store.close().expect("it closes");
            (status, "done").into_response()
        }
    };
    let router = Router::new().fallback(any(handle));
    let address = serve(router.layer(layer(store))).await;
    expect_problem(&post("abc", "apples").send(address).await, Problem::OutcomeUnknown);
    place.open().keys().status(Status::Interrupted).count()
}

#[tokio::test]
async fn an_outcome_that_was_not_stored_is_not_told() {
    assert_eq!(closed_within(StatusCode::CREATED).await, 1);
    // A rejection promises that the key is free, so that must be true here as well.
    assert_eq!(closed_within(StatusCode::UNPROCESSABLE_ENTITY).await, 1);
}

#[tokio::test]
async fn a_start_that_fails_runs_nothing() {
    // The hook is the last thing that runs before the start.
    let place = Place::new();
    let store = place.open();
    let desk = Desk::default();
    let key = Key::scoped(super::support::SCOPE, "abc").expect("it is a key");
    let begin = store.begin(&key, Fingerprint::NONE).expect("it answers");
    let Begin::Fresh(permit) = begin else { panic!("it is new") };
    drop(permit.start().expect("it starts"));
    let ours = store.clone();
    let layer = layer(store).on_interrupted(move |_| {
        let store = ours.clone();
        async move {
            store.close().expect("it closes");
            idemstore::http::Decision::Retry
        }
    });
    let address = serve(desk.router().layer(layer)).await;
    expect_problem(&post("abc", "apples").send(address).await, Problem::Unavailable);
    assert_eq!(desk.runs(), 0);
}
