//! What a handler learns about its operation, and what it reports about its effect.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use idemstore::Effect;
use idemstore::Status;
use idemstore::http::{Decision, IdempotencyPermit, Operation, Start, with_effect};

use super::support::{Desk, SCOPE, Site, layer, post};

/// The handler's report, and what it learned.
#[derive(Clone, Default)]
struct Handler {
    says: Arc<Mutex<Option<Effect>>>,
    told: Arc<Mutex<Vec<Operation>>>,
}

async fn handle(
    State(handler): State<Handler>,
    Extension(operation): Extension<Operation>,
    permit: Option<Extension<IdempotencyPermit>>,
) -> Response {
    handler.told.lock().expect("nobody panics").push(operation);
    if let Some(Extension(permit)) = permit {
        permit.start().await.expect("it starts");
    }
    // By its status alone, the operation is done.
    let response = (StatusCode::NOT_IMPLEMENTED, "no answer").into_response();
    match *handler.says.lock().expect("nobody panics") {
        Some(effect) => with_effect(response, effect),
        None => response,
    }
}

async fn site(start: Start) -> (Site, Handler) {
    let handler = Handler::default();
    let router = Router::new().fallback(any(handle)).with_state(handler.clone());
    let site = Site::serving(Desk::default(), |store| {
        let layer = layer(store).start(start).on_interrupted(async |_| Decision::Retry);
        router.layer(layer)
    });
    (site.await, handler)
}

#[tokio::test]
async fn it_can_say_what_its_status_does_not() {
    for start in [Start::BeforeHandler, Start::ByHandler] {
        let (site, handler) = site(start).await;
        let say = |effect| *handler.says.lock().expect("nobody panics") = effect;
        let interrupted = || site.store.keys().status(Status::Interrupted).count();
        let attempts = || {
            let told = handler.told.lock().expect("nobody panics");
            told.iter().map(Operation::attempt).collect::<Vec<_>>()
        };
        let send = async || {
            let answer = site.send(&post("abc", "apples")).await;
            assert_eq!((answer.status, answer.text()), (501, "no answer".to_owned()));
            answer.header("idempotent-replayed").is_some()
        };

        // Nothing has happened: the key is free.
        say(Some(Effect::DidNotHappen(())));
        assert!(!send().await);
        assert_eq!(site.records(), 0, "{start:?}");
        // It may have happened, and the next attempt can't rule that out.
        for effect in [Effect::Unknown(()), Effect::DidNotHappen(())] {
            say(Some(effect));
            assert!(!send().await);
            assert_eq!((site.records(), interrupted()), (1, 1), "{effect:?}, {start:?}");
        }
        // A response without such a report is stored.
        say(None);
        assert!(!send().await);
        assert!(send().await);
        assert_eq!(interrupted(), 0);
        assert_eq!(attempts(), [1, 1, 2, 3], "{start:?}");
        let told = handler.told.lock().expect("nobody panics");
        assert!(told.iter().all(|operation| operation.key().as_bytes() == b"abc"));
        assert!(told.iter().all(|operation| operation.key().scope() == SCOPE.as_bytes()));
    }
}

#[test]
fn its_operation_shows_no_key() {
    let operation = |name: &str| {
        let (send, receive) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Runtime::new().expect("it starts");
        runtime.block_on(async {
            let (site, handler) = site(Start::BeforeHandler).await;
            site.send(&post(name, "apples")).await;
            let told = handler.told.lock().expect("nobody panics");
            send.send(format!("{:?}", told[0])).expect("somebody waits");
        });
        receive.recv().expect("it was sent")
    };
    assert_eq!(operation("secret"), "Operation { attempt: 1, .. }");
}
