//! Scopes: which tenant a request belongs to.

use axum::extract::Request;
use axum::response::IntoResponse;
use http::StatusCode;
use http::request::Parts;
use idemstore::http::{IdempotencyLayer, Problem, Refusal, Scope};
use tower::util::MapRequestLayer;

use super::support::{Answer, Call, Desk, Site, expect_order, expect_problem, post};

#[derive(Clone)]
struct Tenant(Vec<u8>);

impl AsRef<[u8]> for Tenant {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Stands for authentication: the request names its tenant.
fn authenticate(mut request: Request) -> Request {
    if let Some(tenant) = request.headers().get("tenant").cloned() {
        request.extensions_mut().insert(Tenant(tenant.as_bytes().to_vec()));
    }
    request
}

async fn site(scope: Scope) -> Site {
    let desk = Desk::default();
    let router = desk.router();
    Site::serving(desk, |store| {
        router.layer(IdempotencyLayer::new(store, scope)).layer(MapRequestLayer::new(authenticate))
    })
    .await
}

fn of(tenant: &str, body: &str) -> Call {
    post("abc", body).header("tenant", tenant)
}

#[tokio::test]
async fn two_tenants_with_the_same_key_never_meet() {
    let by_function = Scope::from_fn(|parts: &Parts| {
        parts.extensions.get::<Tenant>().map(|tenant| tenant.0.clone()).ok_or(Problem::NoScope)
    });
    for scope in [Scope::extension::<Tenant>(), by_function] {
        let site = site(scope).await;
        expect_order(&site.send(&of("ann", "apples")).await, 1, false);
        expect_order(&site.send(&of("bob", "apples")).await, 2, false);
        expect_order(&site.send(&of("bob", "apples")).await, 2, true);
        expect_order(&site.send(&of("ann", "apples")).await, 1, true);
        // Nor can a tenant see that another one has used the key.
        expect_order(&site.send(&of("eve", "pears")).await, 3, false);
        assert_eq!(site.records(), 3);
    }
}

#[tokio::test]
async fn a_shared_scope_is_one_for_all() {
    let site = site(Scope::shared("all")).await;
    expect_order(&site.send(&of("ann", "apples")).await, 1, false);
    expect_order(&site.send(&of("bob", "apples")).await, 1, true);
}

/// A refusal that has a header and a body.
fn refuse() -> axum::response::Response {
    (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], "who are you?").into_response()
}

async fn refused(scope: Scope) -> Answer {
    let site = site(scope).await;
    let answer = site.send(&post("abc", "apples")).await;
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
    answer
}

#[tokio::test]
async fn a_request_without_a_scope_is_refused() {
    expect_problem(&refused(Scope::extension::<Tenant>()).await, Problem::NoScope);
    let answer = refused(Scope::from_fn(|_| Err::<&str, _>(StatusCode::FORBIDDEN))).await;
    assert_eq!((answer.status, answer.text()), (403, String::new()));
    let answer = refused(Scope::from_fn(|_| Err::<&str, _>(Refusal::from(refuse())))).await;
    assert_eq!((answer.status, answer.text()), (401, "who are you?".to_owned()));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn a_scope_that_is_empty_or_too_long_is_refused_and_not_cut() {
    let site = site(Scope::extension::<Tenant>()).await;
    let longest = "t".repeat(255);
    expect_order(&site.send(&of(&longest, "apples")).await, 1, false);
    expect_problem(&site.send(&of(&format!("{longest}t"), "apples")).await, Problem::NoScope);
    expect_problem(&site.send(&of("", "apples")).await, Problem::NoScope);
    expect_order(&site.send(&of(&longest, "apples")).await, 1, true);
}

#[tokio::test]
async fn a_scope_can_have_one_within_it_for_each_path() {
    let site = site(Scope::extension::<Tenant>().with_path()).await;
    let long = format!("/{}", "x".repeat(300));
    let send = async |tenant: &str, path: &str, body: &str| {
        let call = Call::new("POST", path).header("Idempotency-Key", "abc").body(body);
        site.send(&call.header("tenant", tenant)).await
    };
    let all = [("ann", "/orders"), ("bob", "/orders"), ("ann", "/invoices"), ("ann", &long)];
    for (number, (tenant, path)) in (1..).zip(all) {
        expect_order(&send(tenant, path, "apples").await, number, false);
        expect_order(&send(tenant, path, "apples").await, number, true);
        expect_problem(&send(tenant, path, "pears").await, Problem::KeyReused);
    }
    // No two pairs of tenant and path give the same scope when they are joined.
    expect_order(&send("ann/orders", "/", "apples").await, 5, false);
    expect_order(&send("ann", "/orders/", "apples").await, 6, false);
    let longest = "t".repeat(200);
    expect_order(&send(&longest, &long, "apples").await, 7, false);
    expect_order(&send(&longest, &long, "apples").await, 7, true);
    expect_order(&send(&longest, &format!("{long}x"), "apples").await, 8, false);
    expect_problem(&send(&format!("{longest}t"), "/", "apples").await, Problem::NoScope);
}
