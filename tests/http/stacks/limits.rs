//! Layers that give up: because of time, load or a panic.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use idemstore::http::{Decision, Problem, with_effect};
use idemstore::{Effect, Status};
use tokio::sync::Semaphore;
use tower::buffer::BufferLayer;
use tower::limit::{GlobalConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::util::MapRequestLayer;
use tower::{BoxError, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::on_early_drop::OnEarlyDropLayer;
use tower_http::timeout::{ResponseBodyTimeoutLayer, TimeoutLayer};

use super::super::support::{
    Answer, Desk, Frames, Site, expect_order, expect_problem, layer, post,
};
use super::{At, AxumLayer, BOTH, expect_keys, soon};

/// Sends a request that is held, and waits until it is.
pub(super) async fn hold(site: &Site, key: &str) -> tokio::task::JoinHandle<Answer> {
    let (call, address) = (post(key, "held"), site.address);
    let answer = tokio::spawn(async move { call.send(address).await });
    soon(site.desk.entered()).await;
    answer
}

pub(super) async fn ended(answer: tokio::task::JoinHandle<Answer>) -> Answer {
    soon(answer).await.expect("it does not panic")
}

/// Adds a permit for each request that has come.
pub(super) fn arriving(arrived: &Arc<Semaphore>) -> impl AxumLayer + use<> {
    let arrived = Arc::clone(arrived);
    MapRequestLayer::new(move |request: Request| {
        arrived.add_permits(1);
        request
    })
}

/// Adds a permit for each request whose client has left before the answer.
pub(super) fn leaving(gone: &Arc<Semaphore>) -> impl AxumLayer {
    let gone = Arc::clone(gone);
    OnEarlyDropLayer::builder().on_future_drop(move |_: &Request| {
        let gone = Arc::clone(&gone);
        move || gone.add_permits(1)
    })
}

/// Sends a request that is held, and leaves. The server has noticed that on return.
pub(super) async fn leave(site: &Site, gone: &Semaphore) {
    let connection = post("abc", "held").start(site.address).await;
    soon(site.desk.entered()).await;
    drop(connection);
    soon(gone.acquire()).await.expect("it stays open").forget();
}

/// Waits until an operation has started and not ended.
async fn executing(site: &Site) {
    soon(async {
        while site.store.keys().status(Status::Executing).count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Sends a request until it gets an answer with a different status.
pub(super) async fn past(site: &Site, status: u16, key: &str, body: &str) -> Answer {
    soon(async {
        loop {
            let answer = site.send(&post(key, body)).await;
            if answer.status != status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_time_limit_outside_ends_the_wait_and_inside_the_handler() {
    // Long enough for a start on a slow disk.
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(2));
    let [outside, inside] = [At::Outside.site(limit).await, At::Inside.site(limit).await];
    let held = [hold(&outside, "abc").await, hold(&inside, "abc").await];
    for answer in held {
        assert_eq!(ended(answer).await.status, 408);
    }
    expect_keys(&outside, Status::Executing, 1);
    expect_problem(&outside.send(&post("abc", "held")).await, Problem::InFlight);
    outside.desk.let_go();
    expect_order(&past(&outside, 409, "abc", "held").await, 1, true);
    assert_eq!((outside.desk.runs(), outside.desk.orders()), (1, 1));

    // It was dropped where it stood.
    expect_keys(&inside, Status::Interrupted, 1);
    inside.desk.let_go();
    expect_problem(&inside.send(&post("abc", "held")).await, Problem::Interrupted);
    assert_eq!((inside.desk.runs(), inside.desk.orders()), (1, 0));
}

#[tokio::test]
async fn a_time_limit_for_the_body_of_a_response_is_of_use_inside_alone() {
    let limit = Duration::from_millis(50);
    for at in BOTH {
        let (send, frames) = Frames::new();
        let once = Arc::new(Mutex::new(Some(frames)));
        let handle = async move || {
            let frames = once.lock().expect("nobody panics").take().expect("it runs once");
            Body::new(frames)
        };
        let router = Router::new().fallback(any(handle));
        let site = Site::serving(Desk::default(), |store| {
            at.wrap(router, layer(store), ResponseBodyTimeoutLayer::new(limit))
        })
        .await;
        send.send(Ok(Frame::data(Bytes::from("begun ")))).expect("it is read later");
        if at == At::Inside {
            expect_problem(&site.send(&post("abc", "apples")).await, Problem::OutcomeUnknown);
            expect_problem(&site.send(&post("abc", "apples")).await, Problem::Interrupted);
            expect_keys(&site, Status::Interrupted, 1);
            drop(send);
            continue;
        }
        // The layer holds the response until it is complete, and no limit applies to that.
        let (call, address) = (post("abc", "apples"), site.address);
        let answer = tokio::spawn(async move { call.send(address).await });
        executing(&site).await;
        tokio::time::sleep(3 * limit).await;
        expect_keys(&site, Status::Executing, 1);
        send.send(Ok(Frame::data(Bytes::from("and done")))).expect("it is still read");
        drop(send);
        assert_eq!(ended(answer).await.text(), "begun and done");
        let again = site.send(&post("abc", "apples")).await;
        assert_eq!(again.text(), "begun and done");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
}

#[tokio::test]
async fn a_panic_that_is_caught_outside_is_for_the_hook_and_one_inside_is_the_answer_for_good() {
    for (at, status, runs) in
        [(At::Outside, Status::Interrupted, 2), (At::Inside, Status::Completed, 1)]
    {
        let desk = Desk::default();
        let router = desk.router();
        let site = Site::serving(desk, |store| {
            let ours = layer(store).on_interrupted(async |_| Decision::Retry);
            at.wrap(router, ours, CatchPanicLayer::new())
        })
        .await;
        let first = site.send(&post("abc", "panic")).await;
        assert_eq!((first.status, first.text()), (500, "Service panicked".to_owned()));
        expect_keys(&site, status, 1);
        let again = site.send(&post("abc", "panic")).await;
        assert_eq!((again.status, again.text()), (500, "Service panicked".to_owned()));
        let replayed = (at == At::Inside).then_some("true");
        assert_eq!(again.header("idempotent-replayed"), replayed);
        assert_eq!(site.desk.runs(), runs, "{at:?}");
    }
}

/// The answer to a request that isn't let through.
type Shed = fn() -> Response;

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response()
}

/// It also says that nothing was run.
fn busy_and_idle() -> Response {
    with_effect(busy(), Effect::DidNotHappen(()))
}

fn too_many() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, "too many").into_response()
}

/// One request at a time, and no queue.
fn one_at_a_time(shed: Shed) -> impl AxumLayer {
    ServiceBuilder::new()
        .layer(HandleErrorLayer::new(async move |_: BoxError| shed()))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(1))
}

/// One request, and no further one for as long as a test takes. A rate limit can't be cloned, so it
/// needs a buffer around it.
fn one_in_all(shed: Shed) -> impl AxumLayer {
    ServiceBuilder::new()
        .layer(HandleErrorLayer::new(async move |_: BoxError| shed()))
        .layer(BufferLayer::<Request>::new(8))
        .layer(LoadShedLayer::new())
        .layer(RateLimitLayer::new(1, Duration::from_secs(24 * 3600)))
}

#[tokio::test]
async fn what_is_shed_outside_leaves_no_trace_and_a_replay_is_shed_too() {
    let site = At::Outside.site(one_at_a_time(busy)).await;
    expect_order(&site.send(&post("done", "apples")).await, 1, false);
    let held = hold(&site, "abc").await;
    for key in ["new", "done"] {
        let answer = site.send(&post(key, "apples")).await;
        assert_eq!((answer.status, answer.text()), (503, "busy".to_owned()));
    }
    assert_eq!((site.desk.runs(), site.records()), (2, 2));
    site.desk.let_go();
    expect_order(&ended(held).await, 2, false);
    expect_order(&past(&site, 503, "new", "apples").await, 3, false);
    expect_order(&past(&site, 503, "done", "apples").await, 1, true);
}

#[tokio::test]
async fn a_shedder_inside_lets_replays_pass_and_must_say_that_it_has_run_nothing() {
    for (shed, is_free) in [(busy as Shed, false), (busy_and_idle, true), (too_many, true)] {
        let site = At::Inside.site(one_at_a_time(shed)).await;
        expect_order(&site.send(&post("done", "apples")).await, 1, false);
        let held = hold(&site, "abc").await;
        expect_order(&site.send(&post("done", "apples")).await, 1, true);
        let answer = site.send(&post("new", "apples")).await;
        assert_eq!(answer.status, shed().status().as_u16());
        assert_eq!((site.desk.runs(), site.records()), (2, if is_free { 2 } else { 3 }));
        site.desk.let_go();
        expect_order(&ended(held).await, 2, false);
        if is_free {
            let shed = shed().status().as_u16();
            expect_order(&past(&site, shed, "new", "apples").await, 3, false);
        } else {
            // Nothing has run, and nothing will.
            expect_problem(&site.send(&post("new", "apples")).await, Problem::Interrupted);
        }
    }
}

#[tokio::test]
async fn a_limit_outside_does_not_count_a_handler_whose_client_has_left() {
    for at in BOTH {
        let (desk, gone) = (Desk::default(), Arc::new(Semaphore::new(0)));
        let router = desk.router();
        let site = Site::serving(desk, |store| {
            at.wrap(router, layer(store), one_at_a_time(too_many)).layer(leaving(&gone))
        })
        .await;
        leave(&site, &gone).await;
        let new = site.send(&post("new", "apples")).await;
        assert_eq!(site.store.keys().status(Status::Executing).count(), 1);
        match at {
            // Two handlers run, and the limit is one.
            At::Outside => expect_order(&new, 1, false),
            At::Inside => assert_eq!(new.status, 429),
        }
        site.desk.let_go();
        expect_order(
            &past(&site, 409, "abc", "held").await,
            if at == At::Outside { 2 } else { 1 },
            true,
        );
    }
}

#[tokio::test]
async fn the_limit_of_the_layer_counts_a_handler_whose_client_has_left() {
    let (desk, gone) = (Desk::default(), Arc::new(Semaphore::new(0)));
    let router = desk.router();
    let site = Site::serving(desk, |store| {
        let ours = layer(store).handlers_max(1);
        At::Outside.wrap(router, ours, one_at_a_time(too_many)).layer(leaving(&gone))
    })
    .await;
    leave(&site, &gone).await;
    expect_problem(&site.send(&post("new", "apples")).await, Problem::Unavailable);
    assert_eq!((site.desk.runs(), site.records()), (1, 1));
    site.desk.let_go();
    expect_order(&past(&site, 503, "new", "apples").await, 2, false);
}

#[tokio::test]
async fn a_rate_limit_outside_counts_replays_and_inside_only_what_runs() {
    for at in BOTH {
        let site = at.site(one_in_all(too_many)).await;
        expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        let again = site.send(&post("abc", "apples")).await;
        match at {
            At::Outside => assert_eq!((again.status, again.text()), (429, "too many".to_owned())),
            At::Inside => expect_order(&again, 1, true),
        }
        for _ in 0..2 {
            assert_eq!(site.send(&post("new", "apples")).await.status, 429);
        }
        assert_eq!(site.desk.runs(), 1);
        expect_keys(&site, Status::Completed, 1);
    }
}

#[tokio::test]
async fn what_waits_in_a_queue_outside_has_left_no_trace_and_inside_it_has_started() {
    for (at, started) in [(At::Outside, 0), (At::Inside, 1)] {
        let queue = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |_: BoxError| busy()))
            .layer(BufferLayer::<Request>::new(8))
            .layer(RateLimitLayer::new(1, Duration::from_secs(24 * 3600)));
        let (desk, arrived) = (Desk::default(), Arc::new(Semaphore::new(0)));
        let router = desk.router();
        let site = Site::serving(desk, |store| {
            at.wrap(router, layer(store), queue).layer(arriving(&arrived))
        })
        .await;
        expect_order(&site.send(&post("abc", "apples")).await, 1, false);
        let waits = post("new", "apples").start(site.address).await;
        soon(arrived.acquire_many(2)).await.expect("it stays open").forget();
        match at {
            // Enough time to start, if it did.
            At::Outside => tokio::time::sleep(Duration::from_millis(100)).await,
            At::Inside => {
                executing(&site).await;
                expect_problem(&site.send(&post("new", "apples")).await, Problem::InFlight);
                expect_order(&site.send(&post("abc", "apples")).await, 1, true);
            }
        }
        assert_eq!((site.desk.runs(), site.records()), (1, 1 + started), "{at:?}");
        drop(waits);
    }
}
