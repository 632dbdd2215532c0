//! Requests that differ in their bytes and mean the same.

use idemstore::http::{IdempotencyLayer, Problem};

use super::support::{Call, Site, expect_order, expect_problem};

fn call(content_type: &str, body: &str) -> Call {
    Call::new("POST", "/orders")
        .header("Idempotency-Key", "abc")
        .header("Content-Type", content_type)
        .body(body)
}

/// The first of these runs, equal ones are replays, and the others are different requests.
async fn expect(
    options: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer,
    first: (&str, &str),
    alike: &[(&str, &str)],
    others: &[(&str, &str)],
) {
    let site = Site::new(options).await;
    expect_order(&site.send(&call(first.0, first.1)).await, 1, false);
    for (content_type, body) in alike {
        expect_order(&site.send(&call(content_type, body)).await, 1, true);
    }
    for (content_type, body) in others {
        let answer = site.send(&call(content_type, body)).await;
        expect_problem(&answer, Problem::KeyReused);
    }
    assert_eq!(site.desk.runs(), 1);
}

const JSON: &str = "application/json";

#[tokio::test]
async fn json_is_compared_by_its_bytes_unless_the_layer_is_told_otherwise() {
    let same = (JSON, r#"{"b":1,"a":"x"}"#);
    expect(|layer| layer, (JSON, r#"{"a":"x","b":1}"#), &[], &[same]).await;
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_can_be_compared_by_what_it_means() {
    let first = r#"{"cents":100,"to":{"iban":"é","name":null}}"#;
    let alike = [
        (JSON, first),
        ("application/json; charset=utf-8", first),
        ("APPLICATION/JSON", r#" { "to" : {"name":null, "iban":"\u00e9"}, "cents" : 1.00E2 } "#),
    ];
    let others = [
        (JSON, r#"{"cents":100,"to":{"iban":"é"}}"#),
        (JSON, r#"{"cents":"100","to":{"iban":"é","name":null}}"#),
        (JSON, r#"{"cents":1000,"to":{"iban":"é","name":null}}"#),
        ("application/merge-patch+json", first),
        ("text/plain", first),
    ];
    expect(IdempotencyLayer::fingerprint_json, (JSON, first), &alike, &others).await;
    let arrays = [(JSON, "[2,1]"), (JSON, "[1]"), (JSON, "[[1,2]]")];
    expect(IdempotencyLayer::fingerprint_json, (JSON, "[1,2]"), &[(JSON, "[1, 2]")], &arrays).await;
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_that_can_be_read_in_two_ways_is_refused_and_uses_no_key() {
    let site = Site::new(IdempotencyLayer::fingerprint_json).await;
    for body in [r#"{"cents":1,"cents":100}"#, r#"{"id":9007199254740993}"#, "{", "held"] {
        for content_type in [JSON, "application/problem+json;x=y"] {
            expect_problem(&site.send(&call(content_type, body)).await, Problem::BodyNotComparable);
        }
    }
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
    // A body that isn't declared as JSON counts by its bytes, and so does a missing one.
    expect_order(&site.send(&call("text/plain", "{")).await, 1, false);
    let bare = Call::new("POST", "/customers").header("Idempotency-Key", "def");
    let bare = bare.header("Content-Type", JSON);
    expect_order(&site.send(&bare).await, 2, false);
    expect_order(&site.send(&bare).await, 2, true);
}

/// A form as a program builds it, with a random boundary.
fn form(boundary: &str, parts: &[(&str, &str)]) -> (String, String) {
    let part = |(name, value): &(&str, &str)| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
    };
    let body = parts.iter().map(part).chain([format!("--{boundary}--\r\n")]).collect();
    (format!("multipart/form-data; boundary={boundary}"), body)
}

fn text((head, body): &(String, String)) -> (&str, &str) {
    (head, body)
}

#[tokio::test]
async fn multipart_bodies_can_be_compared_by_their_parts() {
    let first = form("----one", &[("file", "a\r\n--b"), ("note", "")]);
    let again = form("----two", &[("file", "a\r\n--b"), ("note", "")]);
    let others = [
        form("----one", &[("file", "a\r\n--c"), ("note", "")]),
        form("----one", &[("note", ""), ("file", "a\r\n--b")]),
        form("----one", &[("file", "a\r\n--b")]),
        form("----one", &[("file", "a\r\n--b"), ("other", "")]),
        ("multipart/mixed; boundary=----one".to_owned(), first.1.clone()),
    ];
    let all: Vec<_> = others.iter().map(text).collect();
    let by_parts = IdempotencyLayer::fingerprint_multipart;
    expect(by_parts, text(&first), &[text(&first), text(&again)], &all).await;
    expect(|layer| layer, text(&first), &[text(&first)], &[text(&again)]).await;

    let site = Site::new(by_parts).await;
    let cut = first.1.trim_end_matches("--\r\n");
    for (content_type, body) in [(&first.0[..], cut), ("multipart/form-data", &first.1)] {
        expect_problem(&site.send(&call(content_type, body)).await, Problem::BodyNotComparable);
    }
    assert_eq!(site.records(), 0);
}

#[tokio::test]
async fn a_media_type_can_count_without_its_parameters() {
    let alike = [("text/plain;charset=utf-8", "apples"), ("Text/Plain", "apples")];
    let others = [("text/html", "apples"), ("text/plain", "pears")];
    let first = ("text/plain", "apples");
    expect(IdempotencyLayer::fingerprint_media_type, first, &alike, &others).await;
    expect(|layer| layer, first, &[], &alike).await;
}
