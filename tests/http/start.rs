//! When an operation counts as run.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use idemstore::http::{IdempotencyPermit, Problem, Start, StartError, effect_of_status};
use idemstore::{Effect, Status, Store};
use tokio::sync::mpsc;

use super::support::{Call, Desk, Site, expect_order, expect_problem, layer, post};

const REJECTIONS: [u16; 20] = [
    400, 401, 403, 404, 405, 406, 411, 412, 413, 414, 415, 416, 417, 421, 422, 425, 426, 428, 429,
    431,
];

#[tokio::test]
async fn a_request_that_was_rejected_can_be_mended_and_sent_with_its_key() {
    let site = Site::new(|layer| layer).await;
    for status in REJECTIONS {
        let refused = site.send(&post("abc", &format!("refused {status}"))).await;
        assert_eq!((refused.status, refused.text()), (status, "refused".to_owned()));
        assert_eq!(refused.header("idempotent-replayed"), None);
        assert_eq!(site.records(), 0, "{status} was stored");
    }
    assert_eq!(site.desk.runs(), REJECTIONS.len());
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    expect_order(&site.send(&post("abc", "apples")).await, 1, true);
}

#[tokio::test]
async fn any_other_failure_is_stored() {
    let site = Site::new(|layer| layer).await;
    for status in [402, 409, 500, 501, 204, 302] {
        let (key, body) = (format!("key-{status}"), format!("refused {status}"));
        let first = site.send(&post(&key, &body)).await;
        let again = site.send(&post(&key, &body)).await;
        assert_eq!((first.status, again.status), (status, status));
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{status}");
    }
    assert_eq!((site.desk.runs(), site.records()), (6, 6));
}

#[tokio::test]
async fn what_a_status_says_can_be_chosen() {
    let site = Site::new(|layer| {
        layer.effect_of(|head| match head.status {
            StatusCode::CONFLICT => Effect::DidNotHappen(()),
            StatusCode::UNPROCESSABLE_ENTITY => Effect::Done(()),
            status => effect_of_status(status),
        })
    })
    .await;
    for (status, replayed) in [(409, None), (422, Some("true"))] {
        let call = post(&format!("key-{status}"), &format!("refused {status}"));
        assert_eq!(site.send(&call).await.header("idempotent-replayed"), None);
        assert_eq!(site.send(&call).await.header("idempotent-replayed"), replayed, "{status}");
    }
}

/// A handler that starts what it doesn't refuse: `refused` is refused before the start, and `late`
/// after it.
async fn handle(
    State(desk): State<Desk>,
    Extension(permit): Extension<IdempotencyPermit>,
    request: Request,
) -> Response {
    let protected = request.headers().contains_key("idempotency-key");
    assert_eq!(permit.is_protected(), protected);
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.expect("it has a body");
    if body.starts_with(b"refused") {
        return desk.answer(&body).await;
    }
    permit.start().await.expect("it starts");
    if protected {
        assert!(matches!(permit.clone().start().await, Err(StartError::Taken)));
    }
    if let Some(late) = body.strip_prefix(b"late ") {
        return desk.answer(late).await;
    }
    desk.answer(&body).await
}

async fn by_handler() -> Site {
    let desk = Desk::default();
    let router = Router::new().fallback(any(handle)).with_state(desk.clone());
    Site::serving(desk, |store| router.layer(layer(store).start(Start::ByHandler))).await
}

#[tokio::test]
async fn a_handler_that_never_starts_leaves_no_trace() {
    let site = by_handler().await;
    for status in [400, 422, 500, 200] {
        let refused = site.send(&post("abc", &format!("refused {status}"))).await;
        assert_eq!((refused.status, refused.text()), (status, "refused".to_owned()));
    }
    let stats = site.store.stats();
    assert_eq!((site.records(), stats.unsettled_changes, stats.in_flight), (0, 0, 0));
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    expect_order(&site.send(&post("abc", "apples")).await, 1, true);
}

#[tokio::test]
async fn what_a_handler_answers_after_its_start_is_stored_whatever_it_is() {
    let site = by_handler().await;
    for status in [422, 500, 201] {
        let (key, body) = (format!("key-{status}"), format!("late refused {status}"));
        let first = site.send(&post(&key, &body)).await;
        let again = site.send(&post(&key, &body)).await;
        assert_eq!((first.status, again.status), (status, status));
        assert_eq!(first.header("idempotent-replayed"), None);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    assert_eq!(site.desk.runs(), 3);
}

#[tokio::test]
async fn a_handler_need_not_ask_whether_there_is_a_key() {
    let site = by_handler().await;
    let call = Call::new("POST", "/orders").body("apples");
    expect_order(&site.send(&call).await, 1, false);
    expect_order(&site.send(&call).await, 2, false);
    assert_eq!(site.records(), 0);
}

#[tokio::test]
async fn a_permit_that_outlives_its_request_cannot_start_and_does_not_hold_the_key() {
    let (keep, mut kept) = mpsc::unbounded_channel();
    let keeping = move |Extension(permit): Extension<IdempotencyPermit>| {
        keep.send(permit).expect("somebody keeps it");
        async { StatusCode::BAD_REQUEST.into_response() }
    };
    let router = Router::new().fallback(any(keeping));
    let site =
        Site::serving(Desk::default(), |store| router.layer(layer(store).start(Start::ByHandler)))
            .await;
    let mut permits = Vec::new();
    for _ in 0..2 {
        // The second request would get a conflict if the first permit still held the key.
        assert_eq!(site.send(&post("abc", "apples")).await.status, 400);
        permits.push(kept.recv().await.expect("it was kept"));
    }
    for permit in permits {
        assert!(matches!(permit.start().await, Err(StartError::Taken)));
    }
    assert_eq!(site.store.keys().status(Status::Interrupted).count(), 0);
    assert_eq!(site.records(), 0);
}

/// The handler closes the store right before it starts.
#[tokio::test]
async fn a_handler_that_may_not_start_can_say_so() {
    let slot = Arc::new(OnceLock::<Store>::new());
    let ours = Arc::clone(&slot);
    let handle = move |Extension(permit): Extension<IdempotencyPermit>| async move {
        let store = ours.get().cloned().expect("it is set");
        store.close().expect("it closes");
        match permit.start().await {
            Ok(()) => StatusCode::CREATED.into_response(),
            Err(error) => Problem::from(error).into_response().into_response(),
        }
    };
    let router = Router::new().fallback(any(handle));
    let site = Site::serving(Desk::default(), |store| {
        slot.set(store.clone()).expect("it is set once");
        router.layer(layer(store).start(Start::ByHandler))
    })
    .await;
    expect_problem(&site.send(&post("abc", "apples")).await, Problem::Unavailable);
}
