//! Bodies of any length and in any form.

use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body::Frame;
use http_body_util::Limited;
use idemstore::Begin;
use idemstore::http::{IdempotencyPermit, Problem, Start};
use tokio::io::AsyncReadExt;
use tower::util::MapRequestLayer;

use super::support::{Desk, Frames, Site, expect_order, expect_problem, layer, post};

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_anything() {
    let site = Site::new(|layer| layer.request_len_max(25)).await;
    let over = "x".repeat(26);
    for call in [post("abc", &over), post("abc", &over).chunked()] {
        expect_problem(&site.send(&call).await, Problem::BodyTooLarge);
    }
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
    expect_order(&site.send(&post("abc", &over[1..])).await, 1, false);
}

#[tokio::test]
async fn a_body_is_the_same_in_chunks() {
    let body = "x".repeat(1000);
    let site = Site::new(|layer| layer).await;
    expect_order(&site.send(&post("abc", &body).chunked()).await, 1, false);
    expect_order(&site.send(&post("abc", &body)).await, 1, true);
}

#[tokio::test]
async fn a_handler_gets_the_body_as_it_was_sent() {
    let echo = |request: Request| async { request.into_body().into_response() };
    let router = Router::new().fallback(any(echo));
    let site = Site::serving(Desk::default(), |store| router.layer(layer(store))).await;
    let body: Vec<u8> = (0..=255).cycle().take(5000).collect();
    for call in [post("abc", "").body(&body), post("def", "").body(&body).chunked()] {
        for _ in 0..2 {
            assert_eq!(site.send(&call).await.body, body);
        }
    }
}

#[tokio::test]
async fn the_limit_of_a_layer_further_out_is_one_too() {
    let desk = Desk::default();
    let router = desk.router();
    let limit = MapRequestLayer::new(|request: Request| {
        request.map(|body| Body::new(Limited::new(body, 25)))
    });
    let site = Site::serving(desk, |store| router.layer(layer(store)).layer(limit)).await;
    let over = post("abc", &"x".repeat(26)).chunked();
    expect_problem(&site.send(&over).await, Problem::BodyTooLarge);
    assert_eq!(site.records(), 0);
}

#[tokio::test]
async fn a_body_that_is_no_body_is_refused() {
    let site = Site::new(|layer| layer).await;
    let call = post("abc", "").header("Transfer-Encoding", "chunked").body("zz\r\n");
    let answer = site.send(&call).await;
    assert_eq!((answer.status, site.desk.runs(), site.records()), (400, 0, 0));
}

/// Streams as many bytes as the request's body says, one hundred at a time, or fails after them.
async fn stream(body: String) -> Response {
    let (len, fails) = body.strip_suffix('!').map_or((&*body, false), |len| (len, true));
    let body = vec![b'x'; len.parse().expect("it is a number")];
    let parts = body.chunks(100).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))));
    let end = fails.then(|| Err(io::Error::other("it ends early")));
    Response::new(Body::new(Frames::of(parts.chain(end))))
}

async fn streaming(
    options: impl FnOnce(idemstore::http::IdempotencyLayer) -> idemstore::http::IdempotencyLayer,
) -> Site {
    let router = Router::new().fallback(any(stream));
    Site::serving(Desk::default(), |store| router.layer(options(layer(store)))).await
}

#[tokio::test]
async fn a_response_up_to_the_limit_is_stored() {
    let site = streaming(|layer| layer.response_len_max(500)).await;
    for replayed in [None, Some("true")] {
        let answer = site.send(&post("abc", "500")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 500));
        assert_eq!(answer.header("idempotent-replayed"), replayed);
    }
}

#[tokio::test]
async fn a_response_over_the_limit_is_sent_whole_and_blocks_a_second_run() {
    // Because of the layer's limit, and of the store's, which is 64 KiB in these tests.
    for (limit, len) in [(500, 501), (500, 30_000), (1024 * 1024, 64 * 1024)] {
        let site = streaming(|layer| layer.response_len_max(limit)).await;
        let call = post("abc", &len.to_string());
        let first = site.send(&call).await;
        assert_eq!((first.status, first.body), (200, vec![b'x'; len]));
        expect_problem(&site.send(&call).await, Problem::ResponseNotKept);
        assert!(matches!(site.begin("abc"), Begin::NotKept(_)));
    }
}

#[tokio::test]
async fn a_response_that_says_its_length_is_over_the_limit_by_that() {
    let router = Router::new().fallback(any(|| async { "x".repeat(501) }));
    let site =
        Site::serving(Desk::default(), |store| router.layer(layer(store).response_len_max(500)))
            .await;
    assert_eq!(site.send(&post("abc", "")).await.body.len(), 501);
    expect_problem(&site.send(&post("abc", "")).await, Problem::ResponseNotKept);
}

#[tokio::test]
async fn a_response_that_ends_early_leaves_the_key_interrupted() {
    let site = streaming(|layer| layer).await;
    expect_problem(&site.send(&post("abc", "100!")).await, Problem::OutcomeUnknown);
    expect_problem(&site.send(&post("abc", "100!")).await, Problem::Interrupted);
}

#[tokio::test]
async fn a_stream_that_was_not_started_is_passed_on_as_it_comes() {
    let (events, receiver) = Frames::new();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let handle = move |Extension(_): Extension<IdempotencyPermit>| {
        let receiver = receiver.lock().expect("nobody panicked").take();
        async move { Response::new(Body::new(receiver.expect("it is the first"))) }
    };
    let router = Router::new().fallback(any(handle));
    let site =
        Site::serving(Desk::default(), |store| router.layer(layer(store).start(Start::ByHandler)))
            .await;
    let mut connection = post("abc", "").start(site.address).await;
    events.send(Ok(Frame::data("first event".into()))).expect("it is received");
    let (mut read, mut part) = (Vec::new(), [0; 1024]);
    // The body has not ended, and its first part has arrived.
    while !String::from_utf8_lossy(&read).contains("first event") {
        let len = connection.read(&mut part).await.expect("it is sent");
        assert_ne!(len, 0, "the response has ended");
        read.extend_from_slice(&part[..len]);
    }
    assert_eq!(site.records(), 0);
}
