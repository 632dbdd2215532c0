//! Layers that change or refuse a request: its sender, its target, its body.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::post as post_to;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use idemstore::Status;
use idemstore::http::{IdempotencyLayer, Problem, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::util::{MapRequestLayer, ServiceExt};
use tower::{Layer, service_fn};
use tower_http::CompressionLevel;
use tower_http::auth::{AsyncAuthorizeRequest, AsyncRequireAuthorizationLayer};
use tower_http::compression::Compression;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::super::support::{Answer, Call, Desk, Site, expect_order, expect_problem, layer, post};
use super::{At, BOTH, expect_keys};

/// This text in gzip.
pub(super) async fn zipped(text: &str, level: CompressionLevel) -> Vec<u8> {
    let text = Bytes::from(text.to_owned());
    let answering = service_fn(move |_: Request| {
        let text = text.clone();
        async { Ok::<_, std::convert::Infallible>(Response::new(Body::from(text))) }
    });
    let asking = Request::get("/").header("Accept-Encoding", "gzip").body(Body::empty());
    let zipping = Compression::new(answering).quality(level);
    let response = zipping.oneshot(asking.expect("it is a request")).await.expect("it answers");
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    response.into_body().collect().await.expect("it is whole").to_bytes().to_vec()
}

/// An order that is longer uncompressed.
pub(super) const LONG: &str =
    "apples apples apples apples apples apples apples apples apples apples";

fn gzip(key: &str, body: &[u8]) -> Call {
    post(key, "").header("Content-Encoding", "gzip").body(body)
}

#[tokio::test]
async fn with_decompression_outside_a_request_is_the_same_however_it_was_compressed() {
    let site = At::Outside.site(RequestDecompressionLayer::new()).await;
    let (one, other) =
        (zipped(LONG, CompressionLevel::Best).await, zipped(LONG, CompressionLevel::Fastest).await);
    assert_ne!(one, other);
    expect_order(&site.send(&gzip("abc", &one)).await, 1, false);
    expect_order(&site.send(&gzip("abc", &other)).await, 1, true);
    expect_order(&site.send(&post("abc", LONG)).await, 1, true);
    // An unreadable body leaves no trace.
    expect_problem(&site.send(&gzip("def", b"no gzip")).await, Problem::BodyUnreadable);
    let unknown = post("def", LONG).header("Content-Encoding", "br");
    assert_eq!(site.send(&unknown).await.status, 415);
    assert_eq!(site.desk.runs(), 1);
    expect_keys(&site, Status::Completed, 1);
}

#[tokio::test]
async fn with_decompression_inside_the_fingerprint_is_that_of_the_compressed_bytes() {
    for is_told in [false, true] {
        let desk = Desk::default();
        let router = desk.router();
        let site = Site::serving(desk, |store| {
            let ours = layer(store);
            let ours = if is_told {
                ours.fingerprint_only_headers([CONTENT_TYPE, CONTENT_ENCODING])
            } else {
                ours
            };
            At::Inside.wrap(router, ours, RequestDecompressionLayer::new())
        })
        .await;
        let (one, other) = (
            zipped(LONG, CompressionLevel::Best).await,
            zipped(LONG, CompressionLevel::Fastest).await,
        );
        expect_order(&site.send(&gzip("abc", &one)).await, 1, false);
        // An honest retry from a client that has compressed its body again.
        expect_problem(&site.send(&gzip("abc", &other)).await, Problem::KeyReused);
        // The same bytes with a different meaning.
        let bytes = site.send(&post("abc", "").body(&one)).await;
        if is_told {
            expect_problem(&bytes, Problem::KeyReused);
        } else {
            expect_order(&bytes, 1, true);
        }
        // It is refused, and the key is free, although the operation had already been started.
        let changes = site.store.stats().changes;
        let unknown = post("def", LONG).header("Content-Encoding", "br");
        assert_eq!(site.send(&unknown).await.status, 415);
        assert_eq!(site.store.stats().changes, changes + 2);
        assert_eq!(site.desk.runs(), 1);
        expect_keys(&site, Status::Completed, 1);
    }
}

#[tokio::test]
async fn the_limit_of_a_body_counts_what_it_has_where_the_layer_reads_it() {
    let bomb = zipped(&"0".repeat(10_000), CompressionLevel::Best).await;
    assert!(bomb.len() < 100);
    for at in BOTH {
        let desk = Desk::default();
        let router = desk.router();
        let site = Site::serving(desk, |store| {
            let ours = layer(store).request_len_max(100);
            at.wrap(router, ours, RequestDecompressionLayer::new())
        })
        .await;
        let answer = site.send(&gzip("abc", &bomb)).await;
        match at {
            At::Outside => expect_problem(&answer, Problem::BodyTooLarge),
            // The handler got a hundred times as much.
            At::Inside => expect_order(&answer, 1, false),
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_outside_and_inside_after_a_start() {
    let long = "apples and pears";
    for at in BOTH {
        for is_chunked in [false, true] {
            let site = at.site(RequestBodyLimitLayer::new(10)).await;
            let changes = site.store.stats().changes;
            let call = post("abc", long);
            let call = if is_chunked { call.chunked() } else { call };
            let answer = site.send(&call).await;
            let (status, started) = match (at, is_chunked) {
                (At::Outside, false) => (413, 0),
                (At::Outside, true) => {
                    expect_problem(&answer, Problem::BodyTooLarge);
                    (413, 0)
                }
                (At::Inside, false) => (413, 2),
                // This is the handler's answer to a body that it can't read.
                (At::Inside, true) => (400, 2),
            };
            assert_eq!(answer.status, status, "{at:?}");
            assert_eq!(site.store.stats().changes, changes + started, "{at:?}");
            assert_eq!((site.desk.runs(), site.records()), (0, 0));
            // The key is free for a body that fits.
            expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        }
    }
}

#[tokio::test]
async fn a_time_limit_for_the_body_of_a_request_is_of_use_outside_alone() {
    let limit = Duration::from_millis(100);
    for at in BOTH {
        let site = at.site(RequestBodyTimeoutLayer::new(limit)).await;
        let mut connection = TcpStream::connect(site.address).await.expect("the server is there");
        let beginning = "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                         Idempotency-Key: abc\r\nContent-Length: 6\r\n\r\napp";
        connection.write_all(beginning.as_bytes()).await.expect("it is taken");
        // Outside the layer the limit cuts the body off, and the rest never comes.
        if at == At::Inside {
            tokio::time::sleep(3 * limit).await;
            connection.write_all(b"les").await.expect("it is taken");
        }
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        match at {
            At::Outside => assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}"),
            // The layer has waited for all of it, and the limit has seen the whole body.
            At::Inside => assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}"),
        }
        assert_eq!(
            (site.desk.runs(), site.records()),
            if at == At::Inside { (1, 1) } else { (0, 0) }
        );
    }
}

#[tokio::test]
async fn a_path_is_the_same_with_a_slash_at_its_end_if_it_is_normalized_outside() {
    for at in BOTH {
        let desk = Desk::default();
        let orders = desk.clone();
        let handle = async move |body: Bytes| orders.answer(&body).await;
        let router = Router::new().route("/orders", post_to(handle));
        let normal = NormalizePathLayer::trim_trailing_slash();
        let site = Site::serving(desk, |store| {
            let ours = layer(store);
            // It has to be outside the router, which otherwise has already chosen its route.
            match at {
                At::Outside => Router::new().fallback_service(normal.layer(router.layer(ours))),
                At::Inside => Router::new().fallback_service(normal.layer(router)).layer(ours),
            }
        })
        .await;
        expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        let slash = Call::new("POST", "/orders/").header("Idempotency-Key", "abc").body("apples");
        let again = site.send(&slash).await;
        match at {
            At::Outside => expect_order(&again, 1, true),
            At::Inside => expect_problem(&again, Problem::KeyReused),
        }
        assert_eq!(site.desk.runs(), 1);
    }
}

/// Takes the method from a header, if the request has that header.
fn override_method(mut request: Request) -> Request {
    let method = request.headers().get("x-http-method-override");
    if let Some(method) = method.and_then(|name| Method::from_bytes(name.as_bytes()).ok()) {
        *request.method_mut() = method;
    }
    request
}

fn overridden(sent: &str, meant: &str) -> Call {
    Call::new(sent, "/orders")
        .header("Idempotency-Key", "abc")
        .header("X-HTTP-Method-Override", meant)
        .body("apples")
}

#[tokio::test]
async fn what_is_turned_into_a_post_is_protected_if_that_happens_outside() {
    for at in BOTH {
        let site = at.site(MapRequestLayer::new(override_method)).await;
        expect_order(&site.send(&overridden("GET", "POST")).await, 1, false);
        let again = site.send(&overridden("GET", "POST")).await;
        match at {
            At::Outside => expect_order(&again, 1, true),
            // The layer has seen two GETs, and the handler two POSTs.
            At::Inside => expect_order(&again, 2, false),
        }
    }
}

#[tokio::test]
async fn what_a_post_is_turned_into_is_told_apart_if_that_happens_outside() {
    for at in BOTH {
        let site = at.site(MapRequestLayer::new(override_method)).await;
        expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        let put = site.send(&overridden("POST", "PUT")).await;
        let delete = site.send(&overridden("POST", "DELETE")).await;
        match at {
            At::Outside => {
                expect_problem(&put, Problem::KeyReused);
                // A method that isn't covered.
                expect_order(&delete, 2, false);
            }
            // They have never run, and get the answer to the POST.
            At::Inside => {
                expect_order(&put, 1, true);
                expect_order(&delete, 1, true);
            }
        }
    }
}

/// The owner of each token.
#[derive(Clone, Default)]
pub(super) struct Tokens(Arc<Mutex<HashMap<String, Tenant>>>);

#[derive(Clone)]
pub(super) struct Tenant(&'static str);

impl AsRef<[u8]> for Tenant {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Tokens {
    pub(super) fn of(tenants: impl IntoIterator<Item = &'static str>) -> Self {
        let tokens = tenants.into_iter().map(|name| (format!("Bearer {name}"), Tenant(name)));
        Self(Arc::new(Mutex::new(tokens.collect())))
    }

    fn revoke(&self, name: &str) {
        self.0.lock().expect("nobody panics").remove(&format!("Bearer {name}"));
    }
}

impl<B> AsyncAuthorizeRequest<B> for Tokens {
    type RequestBody = B;
    type ResponseBody = Body;
    type Future = Ready<Result<http::Request<B>, Response>>;

    fn authorize(&mut self, mut request: http::Request<B>) -> Self::Future {
        let token = request.headers().get(AUTHORIZATION).and_then(|token| token.to_str().ok());
        let tokens = self.0.lock().expect("nobody panics");
        let Some(tenant) = token.and_then(|token| tokens.get(token)).cloned() else {
            return ready(Err(StatusCode::UNAUTHORIZED.into_response()));
        };
        request.extensions_mut().insert(tenant);
        ready(Ok(request))
    }
}

async fn authorizing(at: At, scope: Scope, tokens: &Tokens) -> Site {
    let desk = Desk::default();
    let router = desk.router();
    let theirs = AsyncRequireAuthorizationLayer::new(tokens.clone());
    Site::serving(desk, |store| at.wrap(router, IdempotencyLayer::new(store, scope), theirs)).await
}

async fn ask(site: &Site, tenant: &str) -> Answer {
    let token = format!("Bearer {tenant}");
    site.send(&post("abc", "apples").header("Authorization", token)).await
}

#[tokio::test]
async fn who_is_authorized_outside_gets_what_is_his_and_nobody_else_gets_anything() {
    let tokens = Tokens::of(["ann", "bob"]);
    let site = authorizing(At::Outside, Scope::extension::<Tenant>(), &tokens).await;
    assert_eq!(ask(&site, "nobody").await.status, 401);
    assert_eq!(site.records(), 0);
    expect_order(&ask(&site, "ann").await, 1, false);
    expect_order(&ask(&site, "bob").await, 2, false);
    expect_order(&ask(&site, "ann").await, 1, true);
    tokens.revoke("ann");
    assert_eq!(ask(&site, "ann").await.status, 401);
    expect_order(&ask(&site, "bob").await, 2, true);
    assert_eq!(site.desk.runs(), 2);
}

#[tokio::test]
async fn who_is_authorized_inside_is_not_asked_when_an_answer_is_replayed() {
    let tokens = Tokens::of(["ann", "bob"]);
    let site = authorizing(At::Inside, Scope::shared("tests"), &tokens).await;
    assert_eq!(ask(&site, "nobody").await.status, 401);
    expect_order(&ask(&site, "ann").await, 1, false);
    tokens.revoke("ann");
    for tenant in ["ann", "bob", "nobody"] {
        expect_order(&ask(&site, tenant).await, 1, true);
    }
    assert_eq!(site.desk.runs(), 1);
}

#[tokio::test]
async fn a_scope_that_is_set_inside_comes_too_late() {
    let tokens = Tokens::of(["ann"]);
    let site = authorizing(At::Inside, Scope::extension::<Tenant>(), &tokens).await;
    expect_problem(&ask(&site, "ann").await, Problem::NoScope);
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
}
