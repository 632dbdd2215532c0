//! Layers that change a response: its compression, headers or body.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE,
};
use http::{HeaderName, HeaderValue, Method, Response};
use http_body_util::{BodyExt, Full};
use idemstore::Status;
use idemstore::http::{IdempotencyLayer, Problem};
use tower::util::ServiceExt;
use tower::{ServiceBuilder, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::decompression::Decompression;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::set_header::SetResponseHeaderLayer;

use super::super::support::{Answer, Call, Desk, Site, expect_order, expect_problem, layer, post};
use super::{At, BOTH, expect_keys, stored};

/// Compresses short responses too.
pub(super) fn compressing() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().compress_when(SizeAbove::new(0))
}

fn accepting(encoding: &str) -> Call {
    post("abc", "apples").header("Accept-Encoding", encoding)
}

/// The text of this answer for a client that can read gzip.
pub(super) async fn unzipped(answer: &Answer) -> String {
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let body = Full::new(Bytes::from(answer.body.clone()));
    let answering = service_fn(move |_: http::Request<()>| {
        let response = Response::builder().header(CONTENT_ENCODING, "gzip").body(body.clone());
        async { Ok::<_, Infallible>(response.expect("it is a response")) }
    });
    let response = Decompression::new(answering).oneshot(http::Request::new(())).await;
    let body = response.expect("it answers").into_body().collect().await.expect("it is gzip");
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

#[tokio::test]
async fn with_compression_outside_each_client_gets_what_it_can_read() {
    let site = At::Outside.site(compressing()).await;
    let first = site.send(&accepting("gzip")).await;
    assert_eq!((first.status, unzipped(&first).await), (201, "order 1".to_owned()));
    assert_eq!(first.header("vary"), Some("accept-encoding"));
    let plain = site.send(&post("abc", "apples")).await;
    expect_order(&plain, 1, true);
    assert_eq!(plain.header("content-encoding"), None);
    let again = site.send(&accepting("gzip")).await;
    assert_eq!((again.status, unzipped(&again).await), (201, "order 1".to_owned()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    // The store has it as the handler made it.
    assert_eq!(stored(&site, "abc").body(), "order 1");
    assert_eq!(stored(&site, "abc").headers().get(CONTENT_ENCODING), None);
    assert_eq!(site.desk.runs(), 1);
}

#[tokio::test]
async fn with_compression_inside_a_retry_gets_bytes_that_it_cannot_read() {
    let site = At::Inside.site(compressing()).await;
    let first = site.send(&accepting("gzip")).await;
    assert_eq!(unzipped(&first).await, "order 1");
    // This client didn't ask for gzip, and doesn't get it.
    let again = site.send(&post("abc", "apples")).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(unzipped(&again).await, "order 1");
    assert_ne!(again.text(), "order 1");
    assert_eq!(stored(&site, "abc").headers()[CONTENT_ENCODING], "gzip");
    assert_eq!(site.desk.runs(), 1);
}

#[tokio::test]
async fn compression_inside_says_of_a_request_that_ran_that_it_did_not() {
    // What the client accepts is checked after the handler has run.
    for at in BOTH {
        let site = at.site(compressing()).await;
        let first = site.send(&accepting("identity;q=0")).await;
        assert_eq!((first.status, first.text()), (406, "order 1".to_owned()));
        let again = site.send(&post("abc", "apples")).await;
        match at {
            At::Outside => expect_order(&again, 1, true),
            // A 406 frees the key, so the effect happens twice.
            At::Inside => expect_order(&again, 2, false),
        }
    }
}

#[tokio::test]
async fn a_header_that_is_set_outside_is_that_of_each_answer_and_inside_that_of_the_first() {
    const RELEASE: HeaderName = HeaderName::from_static("x-release");
    for at in BOTH {
        let release = Arc::new(AtomicUsize::new(1));
        let now = Arc::clone(&release);
        let theirs = SetResponseHeaderLayer::overriding(RELEASE, move |_: &Response<_>| {
            HeaderValue::try_from(now.load(Ordering::SeqCst).to_string()).ok()
        });
        let site = at.site(theirs).await;
        let first = site.send(&post("abc", "apples")).await;
        expect_order(&first, 1, false);
        assert_eq!(first.header("x-release"), Some("1"));
        release.store(2, Ordering::SeqCst);
        let again = site.send(&post("abc", "apples")).await;
        expect_order(&again, 1, true);
        let problem = site.send(&post("abc", "pears")).await;
        expect_problem(&problem, Problem::KeyReused);
        let headers = (again.header("x-release"), problem.header("x-release"));
        let (wanted, is_stored) = match at {
            At::Outside => ((Some("2"), Some("2")), false),
            At::Inside => ((Some("1"), None), true),
        };
        assert_eq!(headers, wanted, "{at:?}");
        assert_eq!(stored(&site, "abc").headers().contains_key(RELEASE), is_stored);
    }
}

#[tokio::test]
async fn a_no_store_that_is_set_inside_of_all_responses_keeps_none_of_them() {
    for at in BOTH {
        let no_store = HeaderValue::from_static("no-store");
        let site = at.site(SetResponseHeaderLayer::overriding(CACHE_CONTROL, no_store)).await;
        expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        let again = site.send(&post("abc", "apples")).await;
        match at {
            At::Outside => {
                expect_order(&again, 1, true);
                assert_eq!(again.header("cache-control"), Some("no-store"));
                expect_keys(&site, Status::Completed, 1);
            }
            At::Inside => {
                expect_problem(&again, Problem::ResponseNotKept);
                expect_keys(&site, Status::NotKept, 1);
            }
        }
        assert_eq!(site.desk.runs(), 1);
    }
}

#[tokio::test]
async fn a_cookie_that_is_set_inside_is_not_handed_to_the_retry() {
    for (at, cookie) in [(At::Outside, Some("session=7")), (At::Inside, None)] {
        let session = HeaderValue::from_static("session=7");
        let site = at.site(SetResponseHeaderLayer::appending(SET_COOKIE, session)).await;
        let first = site.send(&post("abc", "apples")).await;
        assert_eq!(first.header("set-cookie"), Some("session=7"));
        let again = site.send(&post("abc", "apples")).await;
        expect_order(&again, 1, true);
        assert_eq!(again.header("set-cookie"), cookie, "{at:?}");
    }
}

/// Lets the script of any page send a key, and see whether the answer is a replay.
pub(super) fn sharing() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::POST])
        .allow_headers([CONTENT_TYPE, HeaderName::from_static("idempotency-key")])
        .expose_headers([HeaderName::from_static("idempotent-replayed")])
}

#[tokio::test]
async fn cors_outside_lets_each_page_read_its_answer_and_inside_only_the_first() {
    let from = |origin: &str, body: &str| post("abc", body).header("Origin", origin);
    let readable =
        |answer: &Answer| answer.header(ACCESS_CONTROL_ALLOW_ORIGIN.as_str()).map(str::to_owned);
    for at in BOTH {
        let site = at.site(sharing()).await;
        let first = site.send(&from("https://a.example", "apples")).await;
        expect_order(&first, 1, false);
        assert_eq!(readable(&first).as_deref(), Some("https://a.example"));
        let again = site.send(&from("https://b.example", "apples")).await;
        expect_order(&again, 1, true);
        let exposed = again.header("access-control-expose-headers");
        assert_eq!(exposed, Some("idempotent-replayed"));
        let problem = site.send(&from("https://b.example", "pears")).await;
        expect_problem(&problem, Problem::KeyReused);
        let origins = (readable(&again), readable(&problem));
        let (theirs, other) = (Some("https://b.example".to_owned()), "https://a.example");
        match at {
            At::Outside => assert_eq!(origins, (theirs.clone(), theirs)),
            // A browser keeps both from the page that asked.
            At::Inside => assert_eq!(origins, (Some(other.to_owned()), None)),
        }
        assert_eq!(site.desk.runs(), 1);
    }
}

#[tokio::test]
async fn a_preflight_passes_with_cors_outside_and_inside_and_needs_no_key() {
    let preflight = Call::new("OPTIONS", "/orders")
        .header("Origin", "https://a.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "idempotency-key");
    for at in BOTH {
        let desk = Desk::default();
        let router = desk.router();
        let site =
            Site::serving(desk, |store| at.wrap(router, layer(store).require_key(true), sharing()))
                .await;
        let answer = site.send(&preflight).await;
        assert_eq!((answer.status, answer.text()), (200, String::new()));
        assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
        let allowed = answer.header("access-control-allow-headers");
        assert_eq!(allowed, Some("content-type,idempotency-key"));
        assert_eq!((site.desk.runs(), site.records()), (0, 0), "{at:?}");
    }
}

/// The numbers from 1.
#[derive(Clone, Default)]
pub(super) struct Counter(Arc<AtomicUsize>);

impl MakeRequestId for Counter {
    fn make_request_id<B>(&mut self, _: &http::Request<B>) -> Option<RequestId> {
        let number = 1 + self.0.fetch_add(1, Ordering::SeqCst);
        HeaderValue::try_from(number.to_string()).ok().map(RequestId::new)
    }
}

#[tokio::test]
async fn a_replay_has_the_id_of_its_own_request_if_ids_are_set_and_told_outside() {
    let without_ids = |layer: IdempotencyLayer| {
        layer.leave_out_headers([HeaderName::from_static("x-request-id")])
    };
    for (at, is_left_out, replay, problem) in [
        (At::Outside, false, Some("2"), Some("3")),
        (At::Inside, false, Some("1"), None),
        (At::Inside, true, None, None),
    ] {
        let ids = ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(Counter::default()))
            .layer(PropagateRequestIdLayer::x_request_id());
        let desk = Desk::default();
        let router = desk.router();
        let site = Site::serving(desk, |store| {
            let ours = layer(store);
            at.wrap(router, if is_left_out { without_ids(ours) } else { ours }, ids)
        })
        .await;
        let first = site.send(&post("abc", "apples")).await;
        assert_eq!(first.header("x-request-id"), Some("1"));
        let again = site.send(&post("abc", "apples")).await;
        expect_order(&again, 1, true);
        assert_eq!(again.header("x-request-id"), replay, "{at:?}");
        let refused = site.send(&post("abc", "pears")).await;
        expect_problem(&refused, Problem::KeyReused);
        assert_eq!(refused.header("x-request-id"), problem, "{at:?}");
        // An id that the client has chosen is kept, and isn't part of the fingerprint.
        let chosen = site.send(&post("abc", "apples").header("X-Request-Id", "mine")).await;
        expect_order(&chosen, 1, true);
        let mine = if at == At::Outside { Some("mine") } else { replay };
        assert_eq!(chosen.header("x-request-id"), mine, "{at:?}");
    }
}

#[tokio::test]
async fn an_id_that_the_handler_tells_itself_hides_that_of_the_replay_unless_it_is_left_out() {
    const ID: HeaderName = HeaderName::from_static("x-request-id");
    for (is_left_out, replay) in [(false, "1"), (true, "2")] {
        let handle = async |request: Request| ([(ID, request.headers()[ID].clone())], "taken");
        let ids = ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(Counter::default()))
            .layer(PropagateRequestIdLayer::x_request_id());
        let router = Router::new().fallback(any(handle));
        let site = Site::serving(Desk::default(), |store| {
            let left_out = is_left_out.then_some(ID);
            router.layer(layer(store).leave_out_headers(left_out)).layer(ids)
        })
        .await;
        let first = site.send(&post("abc", "apples")).await;
        assert_eq!(first.header("x-request-id"), Some("1"));
        let again = site.send(&post("abc", "apples")).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("x-request-id"), Some(replay));
    }
}

#[tokio::test]
async fn a_body_that_is_mapped_outside_is_mapped_for_each_answer_and_inside_before_it_is_stored() {
    for (at, mapped, kept) in [(At::Outside, 2, "order 1"), (At::Inside, 1, "ORDER 1")] {
        let count = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        let shouting =
            MapResponseBodyLayer::new(move |body: Body| {
                counting.fetch_add(1, Ordering::SeqCst);
                Body::new(body.map_frame(|frame| {
                    frame.map_data(|data| Bytes::from(data.to_ascii_uppercase()))
                }))
            });
        let site = at.site(shouting).await;
        for replayed in [None, Some("true")] {
            let answer = site.send(&post("abc", "apples")).await;
            assert_eq!((answer.status, answer.text()), (201, "ORDER 1".to_owned()));
            assert_eq!(answer.header("idempotent-replayed"), replayed);
        }
        assert_eq!(stored(&site, "abc").body(), kept);
        assert_eq!((count.load(Ordering::SeqCst), site.desk.runs()), (mapped, 1));
    }
}
