//! The order of layers: on a router, in a builder, and a whole stack.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use idemstore::Status;
use idemstore::http::{IdempotencyLayer, Problem, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, ServiceBuilder};
use tower_http::CompressionLevel;
use tower_http::auth::AsyncRequireAuthorizationLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout;
use tower_http::trace::TraceLayer;

use super::super::support::{Desk, Site, expect_order, expect_problem, layer, post};
use super::limits::{arriving, ended, hold};
use super::requests::{LONG, Tenant, Tokens, zipped};
use super::responses::{Counter, compressing, sharing, unzipped};
use super::watching::Told;
use super::{At, BOTH, expect_keys, soon};

#[tokio::test]
async fn the_first_layer_of_a_builder_is_the_outermost_and_the_last_one_of_a_router() {
    type Stack = fn(Router, IdempotencyLayer) -> Router;
    let stacks: [(At, Stack); 4] = [
        (At::Outside, |router, ours| router.layer(ours).layer(compressing())),
        (At::Outside, |router, ours| {
            router.layer(ServiceBuilder::new().layer(compressing()).layer(ours))
        }),
        (At::Inside, |router, ours| router.layer(compressing()).layer(ours)),
        (At::Inside, |router, ours| {
            router.layer(ServiceBuilder::new().layer(ours).layer(compressing()))
        }),
    ];
    for (at, stack) in stacks {
        let desk = Desk::default();
        let router = desk.router();
        let site = Site::serving(desk, |store| stack(router, layer(store))).await;
        let first = site.send(&post("abc", "apples").header("Accept-Encoding", "gzip")).await;
        assert_eq!(first.header("content-encoding"), Some("gzip"));
        let again = site.send(&post("abc", "apples")).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        let encoding = (at == At::Inside).then_some("gzip");
        assert_eq!(again.header("content-encoding"), encoding, "{at:?}");
    }
}

#[tokio::test]
async fn an_error_of_a_layer_inside_that_is_handled_outside_leaves_the_key_interrupted() {
    let desk = Desk::default();
    let router = desk.router();
    let site = Site::serving(desk, |store| {
        router.layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(async |error: BoxError| {
                    (StatusCode::GATEWAY_TIMEOUT, error.to_string())
                }))
                .layer(layer(store))
                .layer(TimeoutLayer::new(Duration::from_secs(1))),
        )
    })
    .await;
    let first = site.send(&post("abc", "held")).await;
    assert_eq!((first.status, first.text()), (504, "request timed out".to_owned()));
    expect_keys(&site, Status::Interrupted, 1);
    expect_problem(&site.send(&post("abc", "held")).await, Problem::Interrupted);
    assert_eq!((site.desk.runs(), site.desk.orders()), (1, 0));
}

/// A limit of one inside the layer, with the load shedding next to it, or outside the layer.
async fn shedding(at: At, arrived: &Arc<Semaphore>) -> Site {
    let desk = Desk::default();
    let router = desk.router();
    let busy = async |_: BoxError| StatusCode::TOO_MANY_REQUESTS;
    let shedder =
        ServiceBuilder::new().layer(HandleErrorLayer::new(busy)).layer(LoadShedLayer::new());
    let limit = GlobalConcurrencyLimitLayer::new(1);
    Site::serving(desk, |store| {
        let stack = ServiceBuilder::new();
        let router = match at {
            At::Outside => router.layer(stack.layer(shedder).layer(layer(store)).layer(limit)),
            At::Inside => router.layer(stack.layer(layer(store)).layer(shedder).layer(limit)),
        };
        router.layer(arriving(arrived))
    })
    .await
}

#[tokio::test]
async fn room_that_is_asked_for_through_the_layer_is_taken_by_replays_and_by_slow_bodies_too() {
    for at in BOTH {
        let arrived = Arc::new(Semaphore::new(0));
        let site = shedding(at, &arrived).await;
        let done = post("done", "apples");
        expect_order(&site.send(&done).await, 1, false);
        let held = hold(&site, "abc").await;
        let during_the_handler = site.send(&done).await;
        site.desk.let_go();
        expect_order(&ended(held).await, 2, false);

        // No handler runs. One client has announced that its body will come.
        let mut slow = TcpStream::connect(site.address).await.expect("the server is there");
        let beginning = "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    Idempotency-Key: slow\r\nContent-Length: 6\r\n\r\n";
        slow.write_all(beginning.as_bytes()).await.expect("it is taken");
        soon(arrived.acquire_many(4)).await.expect("it stays open").forget();
        let during_the_body = site.send(&done).await;
        for replay in [during_the_handler, during_the_body] {
            match at {
                At::Outside => assert_eq!((replay.status, replay.text()), (429, String::new())),
                At::Inside => expect_order(&replay, 1, true),
            }
        }
        slow.write_all(b"apples").await.expect("it is taken");
        let mut answer = Vec::new();
        slow.read_to_end(&mut answer).await.expect("it is answered");
        assert!(answer.ends_with(b"order 3"));
    }
}

#[tokio::test]
async fn a_whole_stack_answers_a_retry_that_comes_from_elsewhere_in_another_form() {
    let (desk, told, tokens) = (Desk::default(), Told::default(), Tokens::of(["ann", "bob"]));
    let router = desk.router();
    let (requests, told_of) = (Counter::default(), told.clone());
    let busy = async |_: BoxError| StatusCode::SERVICE_UNAVAILABLE;
    let limit = timeout::TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        Duration::from_secs(60),
    );
    let no_store = HeaderValue::from_static("no-store");
    let site = Site::serving(desk, |store| {
        router.layer(timeout::ResponseBodyTimeoutLayer::new(Duration::from_secs(60))).layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::x_request_id(requests))
                .layer(TraceLayer::new_for_http().on_response(told_of))
                .layer(PropagateRequestIdLayer::x_request_id())
                .layer(sharing())
                .layer(SetResponseHeaderLayer::overriding(CACHE_CONTROL, no_store))
                .layer(compressing())
                .layer(CatchPanicLayer::new())
                .layer(HandleErrorLayer::new(busy))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::new(8))
                .layer(limit)
                .layer(AsyncRequireAuthorizationLayer::new(tokens))
                .layer(MapResponseBodyLayer::new(Body::new))
                .layer(RequestBodyLimitLayer::new(1024))
                .layer(RequestDecompressionLayer::new())
                .layer(IdempotencyLayer::new(store, Scope::extension::<Tenant>())),
        )
    })
    .await;
    let call = |tenant: &str, origin: &str| {
        post("abc", "").header("Authorization", format!("Bearer {tenant}")).header("Origin", origin)
    };
    let ann = call("ann", "https://a.example").header("Accept-Encoding", "gzip").body(LONG);
    let first = site.send(&ann).await;
    assert_eq!((first.status, unzipped(&first).await), (201, "order 1".to_owned()));
    assert_eq!(first.header("x-request-id"), Some("1"));

    // The same request from another page, through a proxy that compresses, from a client that
    // doesn't.
    let packed = zipped(LONG, CompressionLevel::Best).await;
    let elsewhere = call("ann", "https://b.example").header("Content-Encoding", "gzip");
    let again = site.send(&elsewhere.body(packed)).await;
    expect_order(&again, 1, true);
    assert_eq!(again.header("x-request-id"), Some("2"));
    assert_eq!(again.header("access-control-allow-origin"), Some("https://b.example"));
    assert_eq!(again.header("cache-control"), Some("no-store"));

    let bob = call("bob", "https://b.example").body(LONG);
    expect_order(&site.send(&bob).await, 2, false);
    assert_eq!(site.send(&call("eve", "https://b.example").body(LONG)).await.status, 401);
    assert_eq!(told.statuses(), [(201, false), (201, true), (201, false), (401, false)]);
    expect_keys(&site, Status::Completed, 2);
}
