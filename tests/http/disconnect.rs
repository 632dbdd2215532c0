//! A client that leaves.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::any;
use idemstore::Status;
use idemstore::http::{IdempotencyPermit, Problem, Start};
use tokio::sync::Semaphore;

use super::support::{Desk, Site, expect_order, expect_problem, layer, post};

/// Adds a permit when it is dropped.
struct Gone(Arc<Semaphore>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// Reports when the future of a request is gone.
fn watched(router: Router, gone: &Arc<Semaphore>) -> Router {
    let gone = Arc::clone(gone);
    router.layer(from_fn(move |request: Request, next: Next| {
        let gone = Gone(Arc::clone(&gone));
        async move {
            let response = next.run(request).await;
            drop(gone);
            response
        }
    }))
}

/// Waits until a response is stored that no client is waiting for.
async fn completed(site: &Site) {
    while site.store.keys().status(Status::Completed).count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_started_handler_is_run_to_its_end_and_the_retry_gets_its_response() {
    let (desk, gone) = (Desk::default(), Arc::new(Semaphore::new(0)));
    let router = desk.router();
    let site = Site::serving(desk, |store| watched(router.layer(layer(store)), &gone)).await;
    let connection = post("abc", "held apples").start(site.address).await;
    site.desk.entered().await;
    drop(connection);
    // The server has noticed, and has dropped everything that it held for the request.
    gone.acquire().await.expect("it stays open").forget();
    assert_eq!((site.desk.runs(), site.desk.orders()), (1, 0));
    assert_eq!(site.store.keys().status(Status::Executing).count(), 1);
    site.desk.let_go();
    completed(&site).await;
    expect_order(&site.send(&post("abc", "held apples")).await, 1, true);
    assert_eq!(site.desk.runs(), 1);
}

/// A handler that starts only after it was held.
async fn start_late(
    State(desk): State<Desk>,
    Extension(permit): Extension<IdempotencyPermit>,
) -> Response {
    desk.hold().await;
    permit.start().await.expect("it starts");
    desk.answer(b"apples").await
}

#[tokio::test]
async fn a_handler_that_has_not_started_may_still_do_so() {
    let (desk, gone) = (Desk::default(), Arc::new(Semaphore::new(0)));
    let router = Router::new().fallback(any(start_late)).with_state(desk.clone());
    let site = Site::serving(desk, |store| {
        watched(router.layer(layer(store).start(Start::ByHandler)), &gone)
    })
    .await;
    let connection = post("abc", "apples").start(site.address).await;
    site.desk.entered().await;
    drop(connection);
    gone.acquire().await.expect("it stays open").forget();
    assert_eq!(site.records(), 0);
    site.desk.let_go();
    completed(&site).await;
    expect_order(&site.send(&post("abc", "apples")).await, 1, true);
}

#[tokio::test]
async fn a_client_that_leaves_within_its_request_leaves_no_trace() {
    use tokio::io::AsyncWriteExt;

    let (desk, gone) = (Desk::default(), Arc::new(Semaphore::new(0)));
    let router = desk.router();
    let site = Site::serving(desk, |store| watched(router.layer(layer(store)), &gone)).await;
    let mut connection = tokio::net::TcpStream::connect(site.address).await.expect("it is there");
    let head =
        "POST /orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: abc\r\nContent-Length: 9\r\n\r\nhalf";
    connection.write_all(head.as_bytes()).await.expect("it is sent");
    drop(connection);
    gone.acquire().await.expect("it stays open").forget();
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
}

#[tokio::test]
async fn a_handler_counts_until_its_end_and_a_drain_waits_for_it() {
    let (desk, gone) = (Desk::default(), Arc::new(Semaphore::new(0)));
    let router = desk.router();
    let mut layers = Vec::new();
    let site = Site::serving(desk, |store| {
        let layer = layer(store).handlers_max(1);
        layers.push(layer.clone());
        watched(router.layer(layer), &gone)
    })
    .await;
    let layer = layers.pop().expect("it was made");
    let connection = post("abc", "held apples").start(site.address).await;
    site.desk.entered().await;
    expect_problem(&site.send(&post("def", "apples")).await, Problem::Unavailable);
    drop(connection);
    gone.acquire().await.expect("it stays open").forget();
    // The client has left, and its handler continues.
    expect_problem(&site.send(&post("def", "apples")).await, Problem::Unavailable);
    expect_problem(&site.send(&post("abc", "held apples")).await, Problem::InFlight);
    assert_eq!(site.records(), 1, "what was refused left no trace");
    assert_eq!(layer.drain(Duration::from_millis(20)).await, 1);

    site.desk.let_go();
    assert_eq!(layer.drain(Duration::from_secs(60)).await, 0);
    assert_eq!(site.store.keys().status(Status::Completed).count(), 1);
    // A replay needs no handler, and afterwards handlers run as before.
    expect_order(&site.send(&post("abc", "held apples")).await, 1, true);
    expect_order(&site.send(&post("def", "apples")).await, 2, false);
}
