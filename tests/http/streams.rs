//! Responses that are sent while they are produced.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use idemstore::Status;
use idemstore::http::{IdempotencyLayer, Problem};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use super::support::{Desk, Frames, Site, expect_problem, layer, post};

/// Sends the events of a stream.
struct Events(UnboundedSender<io::Result<Frame<Bytes>>>);

impl Events {
    fn send(&self, event: Option<&'static str>) -> Result<(), ()> {
        let failure = || io::Error::other("the source has failed");
        let frame = event.map(|event| Frame::data(Bytes::from_static(event.as_bytes())));
        self.0.send(frame.ok_or_else(failure)).map_err(drop)
    }
}

/// A service with one stream, and the sender of its events. Its responses have these headers.
async fn site(
    options: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer,
    cache: &'static str,
) -> (Site, Events) {
    let (send, body) = Frames::new();
    let body = Arc::new(Mutex::new(Some(body)));
    let handle = move || {
        let events = body.lock().expect("nobody panics").take().expect("it runs once");
        let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, cache)];
        let response: Response = (headers, Body::new(events)).into_response();
        async { response }
    };
    let router = Router::new().fallback(any(handle));
    let site = Site::serving(Desk::default(), |store| router.layer(options(layer(store)))).await;
    (site, Events(send))
}

/// Reads until this has come.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    while !read.contains(end) {
        let mut piece = [0; 1024];
        let len = stream.read(&mut piece).await.expect("it is open");
        assert!(0 < len, "it has ended: {read}");
        read.push_str(str::from_utf8(&piece[..len]).expect("it is text"));
    }
    read
}

async fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn each_event_is_sent_as_it_comes_and_all_of_them_are_replayed() {
    let (site, send) = site(|layer| layer, "no-cache").await;
    let mut stream = post("abc", "apples").start(site.address).await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        send.send(Some(event)).expect("somebody reads");
        until(&mut stream, event).await;
        // It isn't done yet.
        expect_problem(&site.send(&post("abc", "apples")).await, Problem::InFlight);
    }
    drop(send);
    // Its end is sent once all of it is stored.
    until(&mut stream, "0\r\n\r\n").await;
    let replay = site.send(&post("abc", "apples")).await;
    assert_eq!(replay.text(), "data: 1\n\ndata: 2\n\n");
    assert_eq!(replay.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn a_stream_whose_client_leaves_is_interrupted_and_holds_up_no_shutdown() {
    let mut layers = Vec::new();
    let (site, send) = site(
        |layer| {
            layers.push(layer.clone());
            layer
        },
        "no-cache",
    )
    .await;
    let layer = layers.pop().expect("it was made");
    let mut stream = post("abc", "apples").start(site.address).await;
    send.send(Some("data: 1\n\n")).expect("somebody reads");
    until(&mut stream, "data: 1").await;
    // It never ends on its own.
    assert_eq!(layer.drain(Duration::from_millis(20)).await, 1);
    drop(stream);
    eventually(|| site.store.keys().status(Status::Interrupted).count() == 1).await;
    assert!(send.send(Some("data: 2\n\n")).is_err(), "the handler's stream is gone");
    assert_eq!(layer.drain(Duration::from_secs(60)).await, 0);
    expect_problem(&site.send(&post("abc", "apples")).await, Problem::Interrupted);
}

#[tokio::test]
async fn a_stream_that_fails_is_interrupted() {
    let (site, send) = site(|layer| layer, "no-cache").await;
    let mut stream = post("abc", "apples").start(site.address).await;
    send.send(Some("data: 1\n\n")).expect("somebody reads");
    until(&mut stream, "data: 1").await;
    send.send(None).expect("somebody reads");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "no end was told");
    eventually(|| site.store.keys().status(Status::Interrupted).count() == 1).await;
}

#[tokio::test]
async fn a_stream_that_is_too_long_or_has_a_secret_in_it_is_completed_without_it() {
    for (len_max, cache) in [(8, "no-cache"), (1024, "no-store")] {
        let (site, send) = site(|layer| layer.response_len_max(len_max), cache).await;
        let mut stream = post("abc", "apples").start(site.address).await;
        send.send(Some("data: 1\n\n")).expect("somebody reads");
        until(&mut stream, "data: 1").await;
        drop(send);
        until(&mut stream, "0\r\n\r\n").await;
        expect_problem(&site.send(&post("abc", "apples")).await, Problem::ResponseNotKept);
    }
}

#[tokio::test]
async fn what_is_a_stream_can_be_chosen() {
    let (site, send) = site(|layer| layer.streams(|_| false), "no-cache").await;
    let mut stream = post("abc", "apples").start(site.address).await;
    send.send(Some("data: 1\n\n")).expect("somebody reads");
    let early = tokio::time::timeout(Duration::from_millis(30), until(&mut stream, "data")).await;
    assert!(early.is_err(), "it is held until it is stored");
    drop(send);
    until(&mut stream, "data: 1").await;
    assert_eq!(site.store.keys().status(Status::Completed).count(), 1);
}
