//! The contract of the Agentic Commerce Protocol, clause by clause, tested on the example that
//! implements it.

#[path = "../../examples/agentic_checkout"]
mod example {
    pub mod checkout;
    pub mod contract;
}

use std::net::SocketAddr;

use idemstore::{Begin, Fingerprint, Key, Store};
use serde_json::Value;

use super::support::{Answer, Call, Place, serve};
use example::checkout::Merchant;
use example::contract;

struct Shop {
    merchant: Merchant,
    store: Store,
    address: SocketAddr,
    _place: Place,
}

impl Shop {
    async fn new() -> Self {
        let (place, merchant) = (Place::new(), Merchant::default());
        let store = place.open();
        let layer = contract::layer(store.clone());
        let address = serve(contract::service(merchant.clone(), layer)).await;
        Self { merchant, store, address, _place: place }
    }

    async fn send(&self, agent: &str, path: &str, key: &str, body: &str) -> Answer {
        let mut call = Call::new("POST", path)
            .header("Authorization", format!("Bearer agent-{agent}"))
            .header("Content-Type", "application/json")
            .body(body);
        if !key.is_empty() {
            call = call.header("Idempotency-Key", key);
        }
        call.send(self.address).await
    }

    async fn create(&self, key: &str, body: &str) -> Answer {
        self.send("ann", "/checkout_sessions", key, body).await
    }
}

const ITEMS: &str = r#"{"items":[{"id":"item_1","quantity":1}],"note":null}"#;
const PAYMENT: &str = r#"{"payment_data":{"token":"tok_1"}}"#;

/// A flat error with this status and code; its type is one of the protocol's.
#[track_caller]
fn expect_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")));
    let error: Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    let error = error.as_object().expect("it is an object");
    assert_eq!(error["code"], code);
    assert_eq!(error["type"], "invalid_request");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(error.len(), 3, "it is flat");
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

#[tokio::test]
async fn every_post_needs_a_key_and_gets_it_back() {
    let shop = Shop::new().await;
    let refused = shop.create("", ITEMS).await;
    expect_error(&refused, 400, "idempotency_key_required");
    let first = shop.create("abc", ITEMS).await;
    assert_eq!((first.status, first.header("idempotency-key")), (201, Some("abc")));
    let again = shop.create("abc", ITEMS).await;
    assert!(is_replay(&again) && again.body == first.body);
    assert_eq!(again.header("idempotency-key"), Some("abc"));
    // A GET needs no key.
    let read = Call::new("GET", "/checkout_sessions/1").header("Authorization", "Bearer agent-ann");
    assert_eq!(read.send(shop.address).await.status, 200);
}

#[tokio::test]
async fn a_key_is_of_one_identity_and_one_path() {
    let shop = Shop::new().await;
    let first = shop.create("abc", ITEMS).await;
    let other = shop.send("bob", "/checkout_sessions", "abc", ITEMS).await;
    assert!(first.status == 201 && other.status == 201 && other.body != first.body);
    for path in ["/checkout_sessions/1", "/checkout_sessions/2"] {
        let updated = shop.send("ann", path, "abc", ITEMS).await;
        assert_eq!((updated.status, is_replay(&updated)), (200, false), "{path}");
        assert!(is_replay(&shop.send("ann", path, "abc", ITEMS).await), "{path}");
    }
}

#[tokio::test]
async fn bodies_are_equal_if_their_json_is() {
    let shop = Shop::new().await;
    let first = shop.create("abc", ITEMS).await;
    let alike = r#" {"note": null, "items": [{"quantity": 1.0, "id": "item_1"}]} "#;
    let again = shop.create("abc", alike).await;
    assert!(is_replay(&again) && again.body == first.body && again.status == 201);
    for other in [
        r#"{"items":[{"id":"item_1","quantity":1}]}"#,
        r#"{"items":[{"id":"item_1","quantity":2}],"note":null}"#,
        r#"{"items":[{"id":"item_1","quantity":1}],"note":null,"x_extension":1}"#,
        r#"{"items":[{"id":"item_1","quantity":1},{"id":"item_2","quantity":1}],"note":null}"#,
    ] {
        expect_error(&shop.create("abc", other).await, 422, "idempotency_conflict");
    }
    let order = r#"{"items":[{"id":"item_2"},{"id":"item_1"}]}"#;
    assert_eq!(
        shop.create("def", r#"{"items":[{"id":"item_1"},{"id":"item_2"}]}"#).await.status,
        201
    );
    expect_error(&shop.create("def", order).await, 422, "idempotency_conflict");
    expect_error(&shop.create("ghi", r#"{"items":[],"items":[]}"#).await, 400, "invalid");
}

#[tokio::test]
async fn one_that_is_under_way_is_told_when_to_come_back() {
    let shop = Shop::new().await;
    let path = "/checkout_sessions";
    let scope = [&[3, 0], &b"ann"[..], path.as_bytes()].concat();
    let key = Key::scoped(scope, "abc").expect("it is a key");
    let Begin::Fresh(permit) = shop.store.begin(&key, Fingerprint::NONE).expect("it answers")
    else {
        panic!("it is new")
    };
    let refused = shop.create("abc", ITEMS).await;
    expect_error(&refused, 409, "idempotency_in_flight");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(permit);
    assert_eq!(shop.create("abc", ITEMS).await.status, 201);
}

#[tokio::test]
async fn a_failure_of_the_server_is_run_again_and_captures_once() {
    let shop = Shop::new().await;
    assert_eq!(shop.create("abc", ITEMS).await.status, 201);
    let complete = "/checkout_sessions/1/complete";
    shop.merchant.books().is_provider_down = true;
    for _ in 0..2 {
        let failed = shop.send("ann", complete, "pay", PAYMENT).await;
        assert_eq!((failed.status, is_replay(&failed)), (502, false));
    }
    shop.merchant.books().is_provider_down = false;
    let paid = shop.send("ann", complete, "pay", PAYMENT).await;
    assert_eq!((paid.status, is_replay(&paid)), (200, false));
    let again = shop.send("ann", complete, "pay", PAYMENT).await;
    assert!(is_replay(&again) && again.body == paid.body);
    assert_eq!(shop.merchant.books().captures.len(), 1);
}

#[tokio::test]
async fn an_answer_that_refuses_is_the_answer_too() {
    let shop = Shop::new().await;
    shop.create("abc", ITEMS).await;
    let complete = "/checkout_sessions/1/complete";
    assert_eq!(shop.send("ann", complete, "pay", PAYMENT).await.status, 200);
    for is_again in [false, true] {
        let refused = shop.send("ann", complete, "pay-2", PAYMENT).await;
        assert_eq!((refused.status, is_replay(&refused)), (405, is_again));
    }
    assert_eq!(shop.merchant.books().captures.len(), 1);
}

#[tokio::test]
async fn a_checkout_that_was_interrupted_runs_again() {
    let shop = Shop::new().await;
    let scope = [&[3, 0], &b"ann"[..], b"/checkout_sessions"].concat();
    let key = Key::scoped(scope, "abc").expect("it is a key");
    let Begin::Fresh(permit) = shop.store.begin(&key, Fingerprint::NONE).expect("it answers")
    else {
        panic!("it is new")
    };
    drop(permit.start().expect("it starts"));
    assert_eq!(shop.create("abc", ITEMS).await.status, 201);
    assert!(is_replay(&shop.create("abc", ITEMS).await));
}
