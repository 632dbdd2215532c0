//! A handler that panics.

use axum::Router;
use axum::extract::Extension;
use axum::response::Response;
use axum::routing::any;
use idemstore::Status;
use idemstore::http::{IdempotencyPermit, Problem, Start};
use tokio::sync::mpsc;

use super::support::{Desk, Site, expect_order, expect_problem, layer, post};

#[tokio::test]
async fn a_panic_after_the_start_leaves_the_key_interrupted_and_nothing_else() {
    let site = Site::new(|layer| layer).await;
    expect_problem(&site.send(&post("abc", "panic")).await, Problem::OutcomeUnknown);
    assert_eq!(site.store.keys().status(Status::Interrupted).count(), 1);
    expect_problem(&site.send(&post("abc", "panic")).await, Problem::Interrupted);
    assert_eq!(site.desk.runs(), 1);
    expect_order(&site.send(&post("def", "apples")).await, 1, false);
}

#[tokio::test]
async fn a_panic_before_the_start_leaves_no_trace_even_if_the_permit_was_left_somewhere() {
    let (keep, mut kept) = mpsc::unbounded_channel();
    let handle = move |Extension(permit): Extension<IdempotencyPermit>| {
        keep.send(permit).expect("somebody keeps it");
        async { panics() }
    };
    let router = Router::new().fallback(any(handle));
    let site =
        Site::serving(Desk::default(), |store| router.layer(layer(store).start(Start::ByHandler)))
            .await;
    for _ in 0..2 {
        expect_problem(&site.send(&post("abc", "apples")).await, Problem::OutcomeUnknown);
    }
    assert!(kept.recv().await.is_some() && kept.recv().await.is_some());
    assert_eq!(site.records(), 0);
}

fn panics() -> Response {
    panic!("this handler always does")
}
