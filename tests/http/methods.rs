//! The methods that are covered.

use http::Method;

use super::support::{Call, Site, expect_order};

fn call(method: &str) -> Call {
    Call::new(method, "/orders").header("Idempotency-Key", "abc").body("apples")
}

#[tokio::test]
async fn data_creation_and_update_are_covered() {
    for method in ["POST", "PUT", "PATCH"] {
        let site = Site::new(|layer| layer).await;
        expect_order(&site.send(&call(method)).await, 1, false);
        expect_order(&site.send(&call(method)).await, 1, true);
        assert_eq!((site.desk.runs(), site.records()), (1, 1), "{method}");
    }
}

#[tokio::test]
async fn all_other_methods_pass_untouched_even_with_a_key() {
    let site = Site::new(|layer| layer.require_key(true)).await;
    for (at, method) in ["GET", "DELETE", "OPTIONS", "BREW"].into_iter().enumerate() {
        expect_order(&site.send(&call(method)).await, 2 * at + 1, false);
        expect_order(&site.send(&call(method)).await, 2 * at + 2, false);
        // Even an invalid header doesn't matter to them.
        let bad = Call::new(method, "/orders").header("Idempotency-Key", "\"").body("refused 404");
        assert_eq!(site.send(&bad).await.status, 404, "{method}");
    }
    assert_eq!(site.send(&call("HEAD")).await.status, 201);
    // Its length is known as before.
    let answer = site.send(&call("GET")).await;
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
    assert_eq!(site.records(), 0);
}

#[tokio::test]
async fn other_methods_can_be_covered() {
    let site = Site::new(|layer| layer.only_methods([Method::DELETE])).await;
    expect_order(&site.send(&call("DELETE")).await, 1, false);
    expect_order(&site.send(&call("DELETE")).await, 1, true);
    expect_order(&site.send(&call("POST")).await, 2, false);
    expect_order(&site.send(&call("POST")).await, 3, false);
}
