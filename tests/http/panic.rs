//! A handler that panics.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Extension;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use idemstore::Status;
use idemstore::http::{IdempotencyLayer, IdempotencyPermit, Problem, Start};
use tokio::sync::mpsc;
use tower_http::catch_panic::CatchPanicLayer;

use super::support::{Desk, Site, expect_order, expect_problem, layer, post};

/// This router inside the layer, and both inside a layer that reports panics.
fn catching(router: Router, layer: IdempotencyLayer, caught: &Arc<AtomicUsize>) -> Router {
    let caught = Arc::clone(caught);
    router.layer(layer).layer(CatchPanicLayer::custom(move |_: Box<dyn Any + Send>| {
        caught.fetch_add(1, Ordering::SeqCst);
        (StatusCode::INTERNAL_SERVER_ERROR, "reported").into_response()
    }))
}

#[tokio::test]
async fn a_panic_after_the_start_leaves_the_key_interrupted_and_is_reported_outside() {
    let (desk, caught) = (Desk::default(), Arc::new(AtomicUsize::new(0)));
    let router = desk.router();
    let site = Site::serving(desk, |store| catching(router, layer(store), &caught)).await;
    let panicked = site.send(&post("abc", "panic")).await;
    assert_eq!((panicked.status, panicked.text()), (500, "reported".to_owned()));
    assert_eq!(caught.load(Ordering::SeqCst), 1);
    assert_eq!(site.store.keys().status(Status::Interrupted).count(), 1);
    expect_problem(&site.send(&post("abc", "panic")).await, Problem::Interrupted);
    assert_eq!((site.desk.runs(), caught.load(Ordering::SeqCst)), (1, 1));
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
    let caught = Arc::new(AtomicUsize::new(0));
    let site = Site::serving(Desk::default(), |store| {
        catching(router, layer(store).start(Start::ByHandler), &caught)
    })
    .await;
    for _ in 0..2 {
        let panicked = site.send(&post("abc", "apples")).await;
        assert_eq!((panicked.status, panicked.text()), (500, "reported".to_owned()));
    }
    assert!(kept.recv().await.is_some() && kept.recv().await.is_some());
    assert_eq!((site.records(), caught.load(Ordering::SeqCst)), (0, 2));
}

fn panics() -> Response {
    panic!("this handler always does")
}
