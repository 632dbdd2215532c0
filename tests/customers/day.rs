//! A key and the day for which it is used, on a clock that is moved by hand.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use idemstore::http::Start;
use idemstore::{ManualClock, Store, Timestamp};
use tower::util::ServiceExt;

use super::example::api::Api;
use super::example::objects::Objects;

/// Status, whether it was replayed, and the body.
type Answer = (StatusCode, bool, String);

async fn post(router: &Router, path: &str, key: &str, body: &'static str) -> Answer {
    let request = Request::post(path).header("Idempotency-Key", key).body(Body::from(body));
    let response = router.clone().oneshot(request.expect("it is a request")).await;
    let (parts, body) = response.expect("it answers").into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("it is short");
    let body = String::from_utf8(body.to_vec()).expect("it is text");
    (parts.status, parts.headers.contains_key("idempotent-replayed"), body)
}

#[tokio::test]
async fn a_key_is_used_for_a_day_and_free_after_it() {
    for start in [Start::BeforeHandler, Start::ByHandler] {
        let directory = tempfile::tempdir().expect("there is room");
        // Ten o'clock on the first of May.
        let clock = ManualClock::new(Timestamp::from_unix_ms(1_777_629_600_000));
        let builder = Store::builder().clock(clock.clone());
        let api = Api {
            store: builder.open(directory.path().join("store")).expect("it opens"),
            objects: Objects::open(&directory.path().join("objects.log")).expect("it opens"),
            start,
            wait: None,
            delay: Duration::ZERO,
        };
        let router = api.router();
        let vendor = || post(&router, "/api/v1/vendors", "1234", r#"{"name":"Ann"}"#);
        let hours = |hours: u64| clock.advance(Duration::from_secs(hours * 3600));

        let first = vendor().await;
        assert_eq!((first.0, first.1), (StatusCode::CREATED, false));
        hours(4);
        assert_eq!(vendor().await, (first.0, true, first.2.clone()), "two o'clock: the same");
        hours(21);
        let next = vendor().await;
        assert_eq!((next.0, next.1), (StatusCode::CREATED, false), "eleven o'clock, the next day");
        assert_ne!(next.2, first.2);
    }
}

#[tokio::test]
async fn a_request_that_was_refused_has_not_used_its_key() {
    for start in [Start::BeforeHandler, Start::ByHandler] {
        let directory = tempfile::tempdir().expect("there is room");
        let store = Store::open(directory.path().join("store")).expect("it opens");
        let objects = Objects::open(&directory.path().join("objects.log")).expect("it opens");
        let (wait, delay) = (None, Duration::ZERO);
        let router = Api { store: store.clone(), objects, start, wait, delay }.router();
        let customers = "/api/v1/customers";
        for bad in ["{", "[]", r#"{"name":7}"#, r#"{"name":""}"#, r#"{"nom":"Ann"}"#] {
            assert_eq!(
                post(&router, customers, "k", bad).await.0,
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
        assert_eq!(store.stats().records, 0);
        let good = post(&router, customers, "k", r#"{"name":"Ann"}"#).await;
        assert_eq!((good.0, good.1), (StatusCode::CREATED, false));
        assert_eq!(store.stats().records, 1);
    }
}
