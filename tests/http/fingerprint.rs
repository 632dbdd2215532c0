//! What distinguishes a request from another one with the same key.

use http::HeaderName;
use idemstore::Fingerprint;
use idemstore::http::Problem;

use super::support::{Call, Site, expect_order, expect_problem};

fn call(method: &str, target: &str, body: &str) -> Call {
    Call::new(method, target).header("Idempotency-Key", "abc").body(body)
}

#[tokio::test]
async fn a_key_that_comes_back_with_another_request_is_refused() {
    let json = |call: Call| call.header("Content-Type", "application/json");
    let site = Site::new(|layer| layer).await;
    let first = json(call("POST", "/orders?a=1", "apples"));
    expect_order(&site.send(&first).await, 1, false);
    let others = [
        json(call("PUT", "/orders?a=1", "apples")),
        json(call("POST", "/orders/?a=1", "apples")),
        json(call("POST", "/orders?a=2", "apples")),
        json(call("POST", "/orders?", "apples")),
        json(call("POST", "/orders", "apples")),
        json(call("POST", "/orders?a=1", "pears")),
        json(call("POST", "/orders?a=1", "")),
        json(call("POST", "/orders?a=", "1apples")),
        call("POST", "/orders?a=1", "apples"),
        call("POST", "/orders?a=1", "apples").header("Content-Type", "text/plain"),
        json(first.clone()),
    ];
    for other in others {
        expect_problem(&site.send(&other).await, Problem::KeyReused);
    }
    // Parts outside the fingerprint may differ.
    expect_order(&site.send(&first.header("X-Trace", "7")).await, 1, true);
    assert_eq!((site.desk.runs(), site.records()), (1, 1));
}

#[tokio::test]
async fn a_missing_query_is_not_an_empty_one() {
    let site = Site::new(|layer| layer).await;
    expect_order(&site.send(&call("POST", "/orders", "apples")).await, 1, false);
    expect_problem(&site.send(&call("POST", "/orders?", "apples")).await, Problem::KeyReused);
}

#[tokio::test]
async fn the_headers_of_a_fingerprint_can_be_chosen() {
    let names = ["x-version", "x-region"].map(HeaderName::from_static);
    let site = Site::new(|layer| layer.fingerprint_only_headers(names)).await;
    let with = |name: &str, value: &str| call("POST", "/orders", "apples").header(name, value);
    expect_order(&site.send(&with("X-Version", "1")).await, 1, false);
    expect_order(&site.send(&with("X-Version", "1").header("Content-Type", "a/b")).await, 1, true);
    for other in [
        with("X-Version", "2"),
        with("X-Region", "1"),
        with("X-Version", "1").header("X-Version", "1"),
        call("POST", "/orders", "apples"),
    ] {
        expect_problem(&site.send(&other).await, Problem::KeyReused);
    }
}

#[tokio::test]
async fn a_function_can_make_the_fingerprint() {
    let site = Site::new(|layer| {
        layer.fingerprint(|parts, body| {
            let path = parts.uri.path().as_bytes();
            Fingerprint::of_parts([path, &body[..3]])
        })
    })
    .await;
    expect_order(&site.send(&call("POST", "/orders", "apples")).await, 1, false);
    expect_order(&site.send(&call("PUT", "/orders?x", "apple pie")).await, 1, true);
    expect_problem(&site.send(&call("POST", "/orders", "pears")).await, Problem::KeyReused);
    expect_problem(&site.send(&call("POST", "/other", "apples")).await, Problem::KeyReused);
}

#[tokio::test]
async fn a_value_never_counts_as_that_of_another_header() {
    let headers = |headers: [(&str, &str); 2]| {
        let call = call("POST", "/orders", "apples");
        headers.iter().fold(call, |call, (name, value)| call.header(name, value))
    };
    // Values that look like other parts of a fingerprint.
    for (first, other) in [
        ([("X-Version", "x-region"), ("X-Region", "x-region")], [("X-Region", "x-region"); 2]),
        (
            [("X-Version", "x-region"), ("X-Version", "")],
            [("X-Region", "x-region"), ("X-Region", "")],
        ),
    ] {
        let names = ["x-version", "x-region"].map(HeaderName::from_static);
        let site = Site::new(|layer| layer.fingerprint_only_headers(names)).await;
        expect_order(&site.send(&headers(first)).await, 1, false);
        expect_problem(&site.send(&headers(other)).await, Problem::KeyReused);
    }
}
