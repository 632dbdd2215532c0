//! A stored response is sent again unchanged.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::any;
use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use idemstore::http::Problem;
use idemstore::{Begin, Fingerprint, Key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{
    Answer, Desk, Frames, SCOPE, Site, expect_order, expect_problem, layer, post,
};

/// Every possible byte, so that treating it as text would damage it.
fn body() -> Vec<u8> {
    (0..=255).cycle().take(1000).collect()
}

async fn answer() -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("location", "/orders/1"),
        ("x-many", "1"),
        ("x-many", "2"),
        ("set-cookie", "session=secret"),
        ("date", "Tue, 24 Nov 2026 00:00:00 GMT"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("idempotent-replayed", "perhaps"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    (StatusCode::ACCEPTED, headers, body())
}

/// The values of this header, in their order.
fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| &value[..]).collect()
}

async fn first_and_replay(
    options: impl FnOnce(idemstore::http::IdempotencyLayer) -> idemstore::http::IdempotencyLayer,
) -> (Answer, Answer) {
    let router = Router::new().fallback(any(answer));
    let site = Site::serving(Desk::default(), |store| router.layer(options(layer(store)))).await;
    (site.send(&post("abc", "apples")).await, site.send(&post("abc", "apples")).await)
}

#[tokio::test]
async fn status_headers_and_body_are_the_same() {
    let (first, replay) = first_and_replay(|layer| layer).await;
    assert_eq!((first.status, replay.status), (202, 202));
    assert_eq!((&first.body, &replay.body), (&body(), &body()));
    for name in ["content-type", "location", "x-many", "content-length"] {
        assert_eq!(values(&first, name), values(&replay, name), "{name}");
        assert!(!values(&first, name).is_empty(), "{name} was never there");
    }
    assert_eq!(values(&replay, "x-many"), ["1", "2"]);
}

#[tokio::test]
async fn headers_of_the_moment_and_of_the_connection_are_not_replayed() {
    let (first, replay) = first_and_replay(|layer| layer).await;
    assert_eq!(values(&first, "set-cookie"), ["session=secret"]);
    for name in ["set-cookie", "x-hop", "keep-alive"] {
        assert_eq!(values(&replay, name), [""; 0], "{name}");
        assert!(!values(&first, name).is_empty(), "{name} was never there");
    }
    // The server puts its own date there.
    assert_ne!(values(&replay, "date"), values(&first, "date"));
    assert_eq!(values(&replay, "idempotent-replayed"), ["true"]);
}

#[tokio::test]
async fn other_headers_can_be_left_out() {
    let (_, replay) =
        first_and_replay(|layer| layer.leave_out_headers([HeaderName::from_static("x-many")]))
            .await;
    for left_out in ["x-many", "set-cookie", "x-hop"] {
        assert_eq!(values(&replay, left_out), [""; 0], "{left_out}");
    }
}

#[tokio::test]
async fn what_is_left_out_by_default_is_stored_only_by_its_name() {
    let (_, replay) = first_and_replay(|layer| layer.store_headers([SET_COOKIE])).await;
    assert_eq!(values(&replay, "set-cookie"), ["session=secret"]);
    assert_eq!(values(&replay, "x-hop"), [""; 0]);
}

#[tokio::test]
async fn a_replay_survives_a_restart_of_the_store() {
    let place = super::support::Place::new();
    let desk = Desk::default();
    for replayed in [false, true, true] {
        let store = place.open();
        let address = super::support::serve(desk.router().layer(layer(store.clone()))).await;
        expect_order(&post("abc", "apples").send(address).await, 1, replayed);
        store.close().expect("it closes");
    }
}

#[tokio::test]
async fn what_is_stored_and_is_no_response_is_an_error_and_runs_nothing() {
    let site = Site::new(|layer| layer.fingerprint(|_, _| Fingerprint::NONE)).await;
    for (key, result) in
        [("empty", &b""[..]), ("text", b"receipt 17"), ("cut", b"\x01\xc8\x00\x01\0\0\0")]
    {
        let name = Key::scoped(SCOPE, key).expect("it is a key");
        let begin = site.store.begin(&name, Fingerprint::NONE).expect("it answers");
        let Begin::Fresh(permit) = begin else { panic!("it is new") };
        permit.complete(result).expect("it completes");
        expect_problem(&site.send(&post(key, "apples")).await, Problem::StoredUnreadable);
    }
    assert_eq!(site.desk.runs(), 0);
}

/// Over HTTP/1.1 trailers need a body in chunks, so nothing may claim to know its length.
#[tokio::test]
async fn trailers_reach_a_client_of_http_1_in_the_first_answer_and_in_each_replay() {
    let handle = async || {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", HeaderValue::from_static("17"));
        let frames = [Frame::data(Bytes::from("apples")), Frame::trailers(trailers)];
        ([("trailer", "x-check")], axum::body::Body::new(Frames::of(frames.map(Ok))))
    };
    let router = Router::new().fallback(any(handle));
    let site = Site::serving(Desk::default(), |store| router.layer(layer(store))).await;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(site.address).await.expect("somebody listens");
        let request =
            b"POST /orders HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: close\r\n\
                        Idempotency-Key: abc\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(request).await.expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is text");
        assert!(answer.ends_with("6\r\napples\r\n0\r\nx-check: 17\r\n\r\n"), "{answer}");
    }
    assert_eq!(site.records(), 1);
}
