//! The fields of a customer or a vendor: which are accepted, and which are refused.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use idemstore::Store;
use serde_json::{Value, json};

use super::example::fields::BODY_LEN_MAX;
use super::inside::{Answer, STARTS, post, router, send};

/// A separate service for each way to start, with its store.
fn services() -> impl Iterator<Item = (tempfile::TempDir, Store, Router)> {
    STARTS.into_iter().map(|start| {
        let directory = tempfile::tempdir().expect("there is room");
        let store = Store::open(directory.path().join("store")).expect("it opens");
        let router = router(directory.path(), &store, start);
        (directory, store, router)
    })
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).expect("it is a request")).await
}

#[tokio::test]
async fn further_fields_are_shown_again_as_they_were_sent() {
    // The server's names are only reserved in the outermost object.
    let sent = concat!(
        r#"{"name":"Ann","email":"ann@example.com","address":{"city":"Köln","lines":["1",null]},"#,
        r#""balance":-1234567.25,"blocked":false,"note":null,"#,
        r#""text":"a \"line\"\nand another \u0000","nested":{"id":7,"status":[],"verify":1}}"#
    );
    let wanted: Value = serde_json::from_str(sent).expect("it is JSON");
    for (directory, store, router) in services() {
        for path in ["/api/v1/customers", "/api/v1/vendors"] {
            let made = post(&router, path, path, sent).await;
            assert_eq!(made.0, StatusCode::CREATED, "{}", made.2);
            assert!(made.2.contains(":-1234567.25,"), "{}", made.2);
            let mut shown: Value = serde_json::from_str(&made.2).expect("it is JSON");
            let id = shown.as_object_mut().and_then(|shown| shown.remove("id"));
            assert_eq!(shown, wanted);
            let one = format!("{path}/{}", id.expect("it has a number"));
            assert_eq!(get(&router, &one).await.2, made.2);
            assert_eq!(get(&router, path).await.2, format!("[{}]", made.2));
            // They are in the file too.
            let start = idemstore::http::Start::ByHandler;
            let again = super::inside::router(directory.path(), &store, start);
            assert_eq!(get(&again, &one).await.2, made.2);

            // A PUT replaces the whole object, so a field that it omits is gone.
            let put = Request::put(&one).body(Body::from(r#"{"email":"bob@example.com","x":[]}"#));
            let put = send(&router, put.expect("it is a request")).await;
            assert_eq!(put.0, StatusCode::OK);
            let (id, of) = (one.rsplit('/').next().expect("it has one"), "bob@example.com");
            assert_eq!(put.2, format!(r#"{{"id":{id},"name":null,"email":"{of}","x":[]}}"#));
        }
    }
}

/// A refused body, and the message that it gets.
fn refused() -> Vec<(String, &'static str)> {
    let with = |field: &str, value: Value| json!({ field: value }).to_string();
    let mut refused = vec![
        ("{".to_owned(), "a JSON object"),
        ("[]".to_owned(), "a JSON object"),
        ("7".to_owned(), "a JSON object"),
        ("null".to_owned(), "a JSON object"),
        (r#"{"name":"Ann"} x"#.to_owned(), "a JSON object"),
        (format!(r#"{{"deep":{}{}}}"#, "[".repeat(1000), "]".repeat(1000)), "a JSON object"),
        (with("id", json!(7)), "`id`"),
        (with("status", json!(null)), "`status`"),
        (with("verify", json!("yes")), "`verify` must be true or false"),
        (with("verify", json!(true)), "`verify` needs an `email`"),
    ];
    let long = "n".repeat(201);
    let names = [json!(7), json!([]), json!(""), json!(" \t"), json!("a\nb"), json!(long)];
    refused.extend(names.map(|name| (with("name", name), "`name` must be")));
    let long = format!("{}@example.com", "l".repeat(243));
    let emails = ["", "@", "ann", "ann@", "@example.com", "a@b@example.com", "ann@example..com"];
    let emails =
        emails.into_iter().chain(["ann@.com", "an n@example.com", "ann@ex\u{7}.com", &long]);
    refused.extend(emails.map(|email| (with("email", json!(email)), "`email` must be")));
    refused.push((with("email", json!({})), "`email` must be"));
    refused
}

#[tokio::test]
async fn a_request_that_was_refused_has_not_used_its_key() {
    for (_directory, store, router) in services() {
        let customers = "/api/v1/customers";
        for (body, why) in refused() {
            let answer = post(&router, customers, "k", body.clone()).await;
            assert_eq!(answer.0, StatusCode::BAD_REQUEST, "{body}");
            let problem: Value = serde_json::from_str(&answer.2).expect("it is JSON");
            assert!(problem["detail"].as_str().is_some_and(|it| it.contains(why)), "{problem}");
        }
        assert_eq!(store.stats().records, 0);
        assert_eq!(get(&router, customers).await.2, "[]");
        let good = post(&router, customers, "k", r#"{"name":"Ann"}"#).await;
        assert_eq!((good.0, good.1), (StatusCode::CREATED, false));
        assert_eq!(store.stats().records, 1);
    }
}

#[tokio::test]
async fn the_longest_name_email_and_body_are_taken_and_no_longer_body() {
    let body = |len: usize| {
        let (name, local) = ("n".repeat(200), "l".repeat(242));
        let known = format!(r#"{{"name":"{name}","email":"{local}@example.com","more":""}}"#);
        let more = "m".repeat(len - known.len());
        known.replace(r#""more":"""#, &format!(r#""more":"{more}""#))
    };
    for (_directory, store, router) in services() {
        let customers = "/api/v1/customers";
        for key in [Some("k"), None] {
            let send = async |body: String| {
                let request = Request::post(customers);
                let request = match key {
                    Some(key) => request.header("Idempotency-Key", key),
                    None => request,
                };
                send(&router, request.body(Body::from(body)).expect("it is a request")).await
            };
            let too_long = send(body(BODY_LEN_MAX + 1)).await;
            assert_eq!(too_long.0, StatusCode::PAYLOAD_TOO_LARGE, "{}", too_long.2);
            assert!(too_long.2.contains(r#""status":413"#), "{}", too_long.2);
            assert_eq!(store.stats().records, 0);
        }
        let longest = post(&router, customers, "k", body(BODY_LEN_MAX)).await;
        assert_eq!((longest.0, longest.1), (StatusCode::CREATED, false), "{}", longest.2);
        assert_eq!(post(&router, customers, "k", body(BODY_LEN_MAX)).await.2, longest.2);
    }
}

#[tokio::test]
async fn a_verification_needs_a_key_and_a_creation() {
    for (_directory, store, router) in services() {
        let body = r#"{"email":"ann@example.com","verify":true}"#;
        let keyless = Request::post("/api/v1/customers").body(Body::from(body));
        let keyless = send(&router, keyless.expect("it is a request")).await;
        assert_eq!(keyless.0, StatusCode::BAD_REQUEST);
        assert!(keyless.2.contains("#variant.KeyMissing"), "{}", keyless.2);
        let made = post(&router, "/api/v1/customers", "k", r#"{"verify":false}"#).await;
        assert_eq!((made.0, made.2), (StatusCode::CREATED, r#"{"id":1,"name":null}"#.to_owned()));
        let put = Request::put("/api/v1/customers/1").header("Idempotency-Key", "l");
        let put = send(&router, put.body(Body::from(body)).expect("it is a request")).await;
        assert_eq!(put.0, StatusCode::BAD_REQUEST);
        assert_eq!(store.stats().records, 1);
    }
}
