//! Layers that observe: what they see of a replay, of a problem, and of a secret.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use http::{HeaderName, HeaderValue, Response};
use idemstore::http::Problem;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::sensitive_headers::SetSensitiveResponseHeadersLayer;
use tower_http::trace::{OnResponse, TraceLayer};
use tracing::Span;

use super::super::support::{Desk, Site, expect_order, expect_problem, layer, post};
use super::limits::{leave, leaving, past};
use super::{At, BOTH, stored};

const SECRET: HeaderName = HeaderName::from_static("x-secret");

/// What they reported about the responses.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) status: u16,
    pub(super) is_replay: bool,
    /// Whether its secret is marked as sensitive.
    is_sensitive: bool,
}

impl Told {
    pub(super) fn lines(&self) -> Vec<Line> {
        self.0.lock().expect("nobody panics").clone()
    }

    pub(super) fn statuses(&self) -> Vec<(u16, bool)> {
        self.lines().iter().map(|line| (line.status, line.is_replay)).collect()
    }
}

impl<B> OnResponse<B> for Told {
    fn on_response(self, response: &Response<B>, _: Duration, _: &Span) {
        let line = Line {
            status: response.status().as_u16(),
            is_replay: response.headers().contains_key("idempotent-replayed"),
            is_sensitive: response.headers().get(SECRET).is_some_and(HeaderValue::is_sensitive),
        };
        self.0.lock().expect("nobody panics").push(line);
    }
}

#[tokio::test]
async fn a_trace_outside_has_each_answer_and_inside_what_the_handler_has_made() {
    for at in BOTH {
        let told = Told::default();
        let site = at.site(TraceLayer::new_for_http().on_response(told.clone())).await;
        expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        expect_order(&site.send(&post("abc", "apples")).await, 1, true);
        expect_problem(&site.send(&post("abc", "pears")).await, Problem::KeyReused);
        match at {
            At::Outside => {
                assert_eq!(told.statuses(), [(201, false), (201, true), (422, false)]);
            }
            At::Inside => assert_eq!(told.statuses(), [(201, false)]),
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_outside_and_not_inside_where_the_handler_goes_on() {
    let (desk, outside, inside) =
        (Desk::default(), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let router = desk.router();
    let site = Site::serving(desk, |store| {
        router.layer(leaving(&inside)).layer(layer(store)).layer(leaving(&outside))
    })
    .await;
    leave(&site, &outside).await;
    site.desk.let_go();
    expect_order(&past(&site, 409, "abc", "held").await, 1, true);
    assert_eq!((inside.available_permits(), site.desk.runs()), (0, 1));
}

#[tokio::test]
async fn a_header_that_is_marked_sensitive_inside_is_shown_when_it_is_replayed() {
    for at in BOTH {
        let told = Told::default();
        let trace = TraceLayer::new_for_http().on_response(told.clone());
        let hiding = SetSensitiveResponseHeadersLayer::new([SECRET]);
        let router = Router::new().fallback(any(async || ([(SECRET, "4711")], "taken")));
        let site =
            Site::serving(Desk::default(), |store| match at {
                At::Outside => router
                    .layer(ServiceBuilder::new().layer(trace).layer(hiding).layer(layer(store))),
                At::Inside => router
                    .layer(ServiceBuilder::new().layer(trace).layer(layer(store)).layer(hiding)),
            })
            .await;
        for _ in 0..2 {
            assert_eq!(site.send(&post("abc", "apples")).await.header("x-secret"), Some("4711"));
        }
        let hidden: Vec<_> = told.lines().iter().map(|line| line.is_sensitive).collect();
        assert_eq!(hidden, [true, at == At::Outside]);
        // The mark doesn't keep the header out of the store.
        assert_eq!(stored(&site, "abc").headers()[SECRET], "4711");
    }
}
