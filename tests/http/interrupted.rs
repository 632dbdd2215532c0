//! A request that was started, and whose handler is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use http::Response;
use idemstore::http::{Decision, IdempotencyLayer, InterruptedRequest, Problem, Start};
use idemstore::{Status, Store};

use super::support::{
    Answer, Call, Desk, Place, SCOPE, expect_order, expect_problem, layer, post, serve,
};

fn call() -> Call {
    post("abc", "held apples")
}

/// A store whose process was killed in the middle of the handler, as far as the store can tell.
fn killed(start: Start) -> (Place, Store) {
    let place = Place::new();
    let store = place.open();
    let before = tokio::runtime::Runtime::new().expect("it starts");
    let ours = store.clone();
    before.block_on(async move {
        let desk = Desk::default();
        let router = starting(&desk, start).layer(layer(ours).start(start));
        let _connection = call().start(serve(router).await).await;
        desk.entered().await;
    });
    drop(before);
    store.close().expect("it closes");
    let store = place.open();
    assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
    (place, store)
}

/// The desk, with a layer that starts the operation if that is needed.
fn starting(desk: &Desk, start: Start) -> axum::Router {
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    use idemstore::http::IdempotencyPermit;

    let router = desk.router();
    if start == Start::BeforeHandler {
        return router;
    }
    router.layer(from_fn(|request: Request, next: Next| async move {
        let permit = request.extensions().get::<IdempotencyPermit>().cloned();
        permit.expect("there is one").start().await.expect("it starts");
        next.run(request).await
    }))
}

/// A server on the store after the kill, whose hook decides like this; returns its desk, and its
/// answers to these requests.
async fn after(
    store: &Store,
    start: Start,
    decide: impl Fn(InterruptedRequest) -> Decision + Send + Sync + 'static,
    calls: &[Call],
) -> (Desk, Vec<Answer>) {
    let desk = Desk::default();
    let layer: IdempotencyLayer =
        layer(store.clone()).start(start).on_interrupted(move |request| {
            let decision = decide(request);
            async move { decision }
        });
    let address = serve(starting(&desk, start).layer(layer)).await;
    let mut answers = Vec::new();
    for call in calls {
        // A handler that waits is released at once.
        desk.let_go();
        answers.push(call.send(address).await);
    }
    (desk, answers)
}

const STARTS: [Start; 2] = [Start::BeforeHandler, Start::ByHandler];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("it starts").block_on(future)
}

#[test]
fn without_a_hook_it_is_refused_and_runs_nothing() {
    for start in STARTS {
        let (_place, store) = killed(start);
        block_on(async {
            let desk = Desk::default();
            let router = starting(&desk, start).layer(layer(store.clone()).start(start));
            let address = serve(router).await;
            for _ in 0..2 {
                expect_problem(&call().send(address).await, Problem::Interrupted);
            }
            // Another body is a different request, as always.
            expect_problem(&post("abc", "pears").send(address).await, Problem::KeyReused);
            assert_eq!(desk.runs(), 0);
        });
        assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
    }
}

#[test]
fn a_hook_can_refuse_it_and_is_told_what_is_known() {
    let (_place, store) = killed(Start::BeforeHandler);
    let asked = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&asked);
    let decide = move |request: InterruptedRequest| {
        assert_eq!(request.key().as_bytes(), b"abc");
        assert_eq!(request.key().scope(), SCOPE.as_bytes());
        assert_eq!(request.attempt(), 1);
        assert_eq!(request.parts().uri.path(), "/orders");
        assert_eq!(&request.body()[..], b"held apples");
        assert_ne!(request.begun_at().as_unix_ms(), 0);
        assert!(!format!("{request:?}").contains("apples"));
        ours.fetch_add(1, Ordering::SeqCst);
        Decision::Refuse
    };
    let (desk, answers) = block_on(after(&store, Start::BeforeHandler, decide, &[call(), call()]));
    for answer in &answers {
        expect_problem(answer, Problem::Interrupted);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!((desk.runs(), asked.load(Ordering::SeqCst)), (0, 1), "it was asked a moment ago");
}

#[test]
fn many_retries_of_one_key_do_not_ask_as_often() {
    for (pause, times) in [(Duration::from_secs(3600), 1), (Duration::ZERO, 100)] {
        let (_place, store) = killed(Start::BeforeHandler);
        let asked = Arc::new(AtomicUsize::new(0));
        let ours = Arc::clone(&asked);
        let layer = layer(store).ask_again_after(pause).on_interrupted(move |_| {
            ours.fetch_add(1, Ordering::SeqCst);
            async { Decision::Refuse }
        });
        block_on(async {
            let desk = Desk::default();
            let address = serve(desk.router().layer(layer)).await;
            for _ in 0..100 {
                let answer = call().send(address).await;
                expect_problem(&answer, Problem::Interrupted);
                let retry_after = (!pause.is_zero()).then_some("3600");
                assert_eq!(answer.header("retry-after"), retry_after);
            }
            assert_eq!(desk.runs(), 0);
        });
        assert_eq!(asked.load(Ordering::SeqCst), times);
    }
}

#[test]
fn a_hook_can_have_it_run_again() {
    for start in STARTS {
        let (_place, store) = killed(start);
        let (desk, answers) =
            block_on(after(&store, start, |_| Decision::Retry, &[call(), call()]));
        expect_order(&answers[0], 1, false);
        expect_order(&answers[1], 1, true);
        assert_eq!(desk.runs(), 1);
        let attempts: Vec<_> =
            store.keys().map(|info| info.expect("it is read").attempts()).collect();
        assert_eq!(attempts, [2]);
    }
}

#[test]
fn a_hook_can_say_what_the_outcome_was() {
    let (_place, store) = killed(Start::BeforeHandler);
    let decide = |_| {
        let response = Response::builder().status(201).header("x-found", "yes");
        Decision::Resolve(response.body(Bytes::from("order 7")).expect("it is a response"))
    };
    let (desk, answers) = block_on(after(&store, Start::BeforeHandler, decide, &[call(), call()]));
    for answer in answers {
        expect_order(&answer, 7, true);
        assert_eq!(answer.header("x-found"), Some("yes"));
    }
    assert_eq!(desk.runs(), 0);
}

/// Over the layer's limit, or only over the store's.
#[test]
fn an_outcome_that_is_too_long_to_be_stored_is_answered_once_and_blocks_a_second_run() {
    for len in [2 * 1024 * 1024, 100_000] {
        let (_place, store) = killed(Start::BeforeHandler);
        let decide = move |_| Decision::Resolve(Response::new(Bytes::from(vec![b'.'; len])));
        let (desk, answers) =
            block_on(after(&store, Start::BeforeHandler, decide, &[call(), call()]));
        assert_eq!((answers[0].status, answers[0].body.len()), (200, len));
        assert_eq!(answers[0].header("idempotent-replayed"), Some("true"));
        expect_problem(&answers[1], Problem::ResponseNotKept);
        assert_eq!(desk.runs(), 0);
        assert_eq!(store.keys().status(Status::NotKept).count(), 1);
    }
}

#[test]
fn a_hook_that_panics_leaves_it_as_it_is() {
    let (_place, store) = killed(Start::BeforeHandler);
    let decide = |_| panic!("this hook panics");
    let (desk, answers) = block_on(after(&store, Start::BeforeHandler, decide, &[call()]));
    assert_eq!((answers[0].status, answers[0].header("content-type")), (500, TEXT));
    assert_eq!(desk.runs(), 0);
    assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
}

/// From the answer to a panic: it doesn't come from the layer.
const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

/// A later attempt's refusal says nothing about the first attempt.
#[test]
fn a_rejection_of_a_later_attempt_does_not_free_the_key() {
    let place = Place::new();
    let store = place.open();
    block_on(async {
        let desk = Desk::default();
        let refuses = Arc::new(AtomicUsize::new(0));
        let ours = Arc::clone(&refuses);
        let handle = move || {
            let run = ours.fetch_add(1, Ordering::SeqCst);
            assert_ne!(run, 0, "the first run panics");
            async { http::StatusCode::TOO_MANY_REQUESTS }
        };
        let layer = layer(store.clone()).on_interrupted(|_| async { Decision::Retry });
        let router = axum::Router::new().fallback(axum::routing::any(handle)).layer(layer);
        let address = serve(router).await;
        let panicked = call().send(address).await;
        assert_eq!((panicked.status, panicked.header("content-type")), (500, TEXT));
        assert_eq!(call().send(address).await.status, 429);
        assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
        assert_eq!(call().send(address).await.status, 429);
        assert_eq!((refuses.load(Ordering::SeqCst), desk.runs()), (3, 0));
    });
}
