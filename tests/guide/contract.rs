//! The contract for clients, compared with the layer's actual answers.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::routing::post;
use idemstore::http::{IdempotencyLayer, Problem, Scope, effect_of_status};
use idemstore::{Effect, Store};
use proptest::strategy::{Strategy, ValueTree};
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::chapter::of_language;

const CONTRACT: &str = include_str!("../../docs/guide/http-contract.md");
const HANDLER: &str = include_str!("../../docs/guide/http-handler.md");
const SOURCE: &str = include_str!("../../src/http/problem.rs");

const PROBLEMS: [Problem; 16] = [
    Problem::KeyMissing,
    Problem::KeyMalformed,
    Problem::KeyTooLong,
    Problem::KeyRepeated,
    Problem::KeyReused,
    Problem::InFlight,
    Problem::Interrupted,
    Problem::ResponseNotKept,
    Problem::BodyTooLarge,
    Problem::BodyUnreadable,
    Problem::BodyTooSlow,
    Problem::BodyNotComparable,
    Problem::NoScope,
    Problem::Unavailable,
    Problem::OutcomeUnknown,
    Problem::StoredUnreadable,
];

fn document() -> Value {
    serde_json::from_str(&of_language(CONTRACT, "json")).expect("it is JSON")
}

/// The target of a reference.
fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value.get("$ref") {
        None => value,
        Some(to) => {
            let to = to.as_str().and_then(|to| to.strip_prefix('#')).expect("it is in here");
            document.pointer(to).unwrap_or_else(|| panic!("{to} is not there"))
        }
    }
}

fn references<'d>(value: &'d Value, found: &mut Vec<&'d Value>) {
    match value {
        Value::Object(members) => {
            found.extend(value.get("$ref").map(|_| value));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_has_the_responses_of_each_problem_and_no_others() {
    assert_eq!(SOURCE.matches("=> type_uri!(").count(), PROBLEMS.len(), "each problem is here");
    let document = document();
    let responses = document["paths"]["/payments"]["post"]["responses"].as_object();
    let mut responses = responses.expect("there are some").clone();
    let done = responses.remove("201").expect("it is there");
    let replayed = resolved(&document, &done["headers"]["Idempotent-Replayed"]);
    assert_eq!(replayed["schema"]["const"], "true");

    let mut by_status = BTreeMap::<String, Vec<Problem>>::new();
    for problem in PROBLEMS {
        by_status.entry(problem.status().as_u16().to_string()).or_default().push(problem);
    }
    assert!(responses.keys().eq(by_status.keys()), "{:?}", responses.keys());
    for (status, problems) in by_status {
        let response = resolved(&document, &responses[&status]);
        let content = &response["content"]["application/problem+json"];
        let schema = &content["schema"]["allOf"];
        assert_eq!(schema[1]["properties"]["status"]["const"].to_string(), status);
        let types = schema[1]["properties"]["type"]["enum"].as_array().expect("it is a list");
        let types: BTreeSet<_> = types.iter().filter_map(Value::as_str).collect();
        let expected: BTreeSet<_> = problems.iter().map(|problem| problem.type_uri()).collect();
        assert_eq!(types, expected, "{status}");

        let mut retried = 0;
        for problem in &problems {
            let (head, body) = problem.into_response().into_parts();
            assert_eq!(head.headers["content-type"], "application/problem+json");
            let body = to_bytes(Body::new(body), 1024).await.expect("it is short");
            let body: Value = serde_json::from_slice(&body).expect("it is JSON");
            expect_members(resolved(&document, &schema[0]), &body);
            if body["type"] == content["example"]["type"] {
                assert_eq!(body, content["example"]);
            }
            retried += usize::from(head.headers.contains_key("retry-after"));
        }
        assert!(expected.contains(content["example"]["type"].as_str().expect("it has one")));
        let header = response["headers"].get("Retry-After").map(|it| resolved(&document, it));
        let is_required = header.is_some_and(|header| header["required"] == json!(true));
        assert_eq!(header.is_some(), 0 < retried, "{status}");
        assert_eq!(is_required, retried == problems.len(), "{status}");
    }
}

/// The members of a problem are those in the schema.
fn expect_members(schema: &Value, body: &Value) {
    let properties = schema["properties"].as_object().expect("they are named");
    assert!(body.as_object().expect("it is one").keys().eq(properties.keys()), "{body}");
    assert_eq!(schema["required"].as_array().map(Vec::len), Some(properties.len()));
    for (name, property) in properties {
        match property["type"].as_str() {
            Some("string") => assert!(body[name].is_string()),
            Some("integer") => assert!(body[name].is_u64()),
            other => panic!("{name} is {other:?}"),
        }
    }
}

#[test]
fn each_reference_of_the_document_leads_somewhere() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(10 < found.len());
    for reference in found {
        assert!(resolved(&document, reference).is_object());
    }
}

/// The status of a request with this key, at a service that requires one.
async fn status_with_key(app: &Router, key: &str) -> StatusCode {
    let request = Request::post("/").header("Idempotency-Key", key).body(Body::empty());
    let answer = app.clone().oneshot(request.expect("it is a request")).await;
    answer.expect("a router does not fail").status()
}

fn app() -> Router {
    let store = Store::builder().log_bytes(512 * 1024).background_thread(false).open_in_memory();
    let layer = IdempotencyLayer::new(store.expect("it opens"), Scope::shared("tests"));
    Router::new().route("/", post(async || "run")).layer(layer.require_key(true))
}

#[tokio::test]
async fn each_key_of_the_documents_pattern_is_taken() {
    let (document, app) = (document(), app());
    let parameter = &document["components"]["parameters"]["IdempotencyKey"];
    assert_eq!(
        (&parameter["name"], &parameter["in"]),
        (&json!("Idempotency-Key"), &json!("header"))
    );
    assert_eq!(parameter["required"], true);
    for example in parameter["examples"].as_object().expect("there are some").values() {
        let key = example["value"].as_str().expect("it is text");
        assert_eq!(status_with_key(&app, key).await, 200, "{key}");
    }
    let pattern = parameter["schema"]["pattern"].as_str().expect("it is text");
    let pattern = pattern.strip_prefix('^').and_then(|it| it.strip_suffix('$')).expect("it is all");
    let keys = string_regex(pattern).expect("it is a pattern");
    let mut runner = TestRunner::deterministic();
    for _ in 0..500 {
        let key = keys.new_tree(&mut runner).expect("there is one").current();
        assert_eq!(status_with_key(&app, &key).await, 200, "{key}");
    }
}

/// The policy's limits for keys, at their edges.
#[tokio::test]
async fn no_key_beyond_the_policy_is_taken() {
    let app = app();
    let (longest, too_long) = ("k".repeat(255), "k".repeat(256));
    for key in [longest.clone(), format!("\"{longest}\""), "\"a b,c;d\"".to_owned()] {
        assert_eq!(status_with_key(&app, &key).await, 200, "{key}");
    }
    let quoted_too_long = format!("\"{too_long}\"");
    for key in [&too_long, &quoted_too_long, "", "\"\"", "a b", "a\"b", "a\\b", "a,b", "a;b"] {
        assert_eq!(status_with_key(&app, key).await, 400, "{key}");
    }
}

/// The statuses at the start of a row.
fn statuses(page: &str, row: &str) -> BTreeSet<u16> {
    let rows: Vec<_> = page.lines().filter(|line| line.contains(row)).collect();
    let [row] = rows[..] else { panic!("{rows:?} of {row}") };
    let cell =
        row.trim_start_matches(['>', ' ', '|']).split([':', '|']).next().expect("it has one");
    let mut found = BTreeSet::new();
    for part in cell.split(',').map(str::trim) {
        let (first, last) = part.split_once(" to ").unwrap_or((part, part));
        let [first, last] = [first, last].map(|it| it.parse().expect("it is a status"));
        found.extend::<std::ops::RangeInclusive<u16>>(first..=last);
    }
    found
}

#[test]
fn the_pages_have_the_statuses_of_each_effect() {
    let of = |effect| -> BTreeSet<u16> {
        let all = (100..600).filter_map(|status| StatusCode::from_u16(status).ok());
        let all = all.filter(|status| effect_of_status(*status) == effect);
        all.map(|status| status.as_u16()).collect()
    };
    for page in [CONTRACT, HANDLER] {
        assert_eq!(statuses(page, "| 400, 401, "), of(Effect::DidNotHappen(())));
        assert_eq!(statuses(page, "| 408, 502, "), of(Effect::Unknown(())));
    }
}
