//! What happens to a request whose response reports a failure, temporary or final.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderName, StatusCode};
use idemstore::http::{
    Decision, IdempotencyLayer, IdempotencyPermit, InterruptedRequest, Operation, Problem, Scope,
    Start, decode_response, without_keeping,
};
use idemstore::{Status, Store};
use tower::util::ServiceExt;
use tower_http::timeout::TimeoutLayer;

use super::support::{Call, Desk, Place, Site, expect_order, expect_problem, layer, post, serve};

const PASSING: [u16; 4] = [408, 502, 503, 504];

#[tokio::test]
async fn a_failure_that_may_pass_is_interrupted_and_the_hook_decides() {
    for start in [Start::BeforeHandler, Start::ByHandler] {
        for status in PASSING {
            let site = Site::serving(Desk::default(), |store| {
                let layer = layer(store).start(start);
                starting(status).layer(layer.on_interrupted(async |_| Decision::Retry))
            })
            .await;
            for attempt in 1..=3 {
                let answer = site.send(&post("abc", "apples")).await;
                let answered = (answer.status, answer.text());
                assert_eq!(answered, (status, format!("attempt {attempt}")), "{start:?}");
                assert_eq!(answer.header("idempotent-replayed"), None);
                assert_eq!(site.store.keys().status(Status::Interrupted).count(), 1);
            }
        }
    }
}

/// A handler that starts its operation if it should, and answers with this status.
fn starting(status: u16) -> Router {
    let status = StatusCode::from_u16(status).expect("it is a status");
    let handle = async move |permit: Option<Extension<IdempotencyPermit>>,
                             Extension(operation): Extension<Operation>| {
        if let Some(Extension(permit)) = permit {
            permit.start().await.expect("it starts");
        }
        (status, format!("attempt {}", operation.attempt()))
    };
    Router::new().fallback(any(handle))
}

#[tokio::test]
async fn a_handler_that_is_cut_in_the_middle_by_a_time_limit_is_interrupted() {
    let desk = Desk::default();
    let router = desk.router();
    let limit =
        TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(50));
    let site = Site::serving(desk, |store| router.layer(limit).layer(layer(store))).await;
    assert_eq!(site.send(&post("abc", "held")).await.status, 408);
    expect_problem(&site.send(&post("abc", "held")).await, Problem::Interrupted);
    assert_eq!(site.desk.runs(), 1);
}

#[tokio::test]
async fn after_the_effect_has_begun_no_status_frees_the_key() {
    for (begins, runs) in [(false, 2), (true, 1)] {
        for status in [404, 429, 422] {
            let counted = Arc::new(Mutex::new(0));
            let counting = Arc::clone(&counted);
            let handle = async move |Extension(operation): Extension<Operation>| {
                if begins {
                    operation.effect_begins();
                }
                *counting.lock().expect("nobody panics") += 1;
                // The answer of its second step.
                StatusCode::from_u16(status).expect("it is a status")
            };
            let router = Router::new().fallback(any(handle));
            let site = Site::serving(Desk::default(), |store| router.layer(layer(store))).await;
            for _ in 0..2 {
                assert_eq!(site.send(&post("abc", "apples")).await.status, status);
            }
            assert_eq!(*counted.lock().expect("nobody panics"), runs, "{status}");
        }
    }
}

#[tokio::test]
async fn a_second_layer_of_the_same_store_passes_on_what_the_first_has_in_hand() {
    for outer in [Start::BeforeHandler, Start::ByHandler] {
        for inner in [Start::BeforeHandler, Start::ByHandler] {
            let desk = Desk::default();
            let router = Router::new().fallback(any(started)).with_state(desk.clone());
            let site = Site::serving(desk, |store| {
                router
                    .layer(layer(store.clone()).start(inner).require_key(true))
                    .layer(layer(store).start(outer))
            })
            .await;
            for replayed in [false, true, true] {
                expect_order(&site.send(&post("abc", "apples")).await, 1, replayed);
            }
            assert_eq!((site.desk.runs(), site.records()), (1, 1));
        }
    }
}

#[tokio::test]
async fn a_request_that_a_handler_sends_with_another_key_is_protected_by_itself() {
    let desk = Desk::default();
    let orders = desk.router();
    let site = Site::serving(desk, |store| {
        let orders = orders.layer(layer(store.clone()));
        // It takes one order for each word of the body, in the name of the request.
        let batch = async move |request: Request| {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 100).await.expect("it is short");
            let mut taken = Vec::new();
            for order in String::from_utf8_lossy(&body).split(' ') {
                let mut head = head.clone();
                let key = order.parse().expect("it is a header");
                head.headers.insert("idempotency-key", key);
                let request = Request::from_parts(head, axum::body::Body::from(order.to_owned()));
                let response = orders.clone().oneshot(request).await.expect("it cannot fail");
                let text = axum::body::to_bytes(response.into_body(), 100).await.expect("short");
                taken.push(String::from_utf8_lossy(&text).into_owned());
            }
            taken.join(", ")
        };
        Router::new().fallback(any(batch)).layer(layer(store))
    })
    .await;
    for key in ["first", "second"] {
        let answer = site.send(&post(key, "apples pears apples")).await;
        assert_eq!(answer.text(), "order 1, order 2, order 1");
    }
    assert_eq!((site.desk.runs(), site.records()), (2, 4));
}

/// Starts, if there's anything to start, and takes the order.
async fn started(
    State(desk): State<Desk>,
    permit: Option<Extension<IdempotencyPermit>>,
    request: Request,
) -> Response {
    if let Some(Extension(permit)) = permit {
        assert!(permit.is_protected());
        permit.start().await.expect("it starts");
    }
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.expect("it has a body");
    desk.answer(&body).await
}

#[tokio::test]
async fn a_problem_of_a_layer_further_in_is_never_stored() {
    // A separate store, as in a service behind a gateway: the outer layer doesn't know it.
    let place = Place::new();
    let within = place.open();
    let desk = Desk::default();
    let router = desk.router().layer(layer(within.clone()));
    let site = Site::serving(desk, |store| router.layer(layer(store))).await;
    let key = idemstore::Key::scoped("tests", "abc").expect("it is a key");
    let held = within.begin(&key, idemstore::Fingerprint::NONE).expect("it answers");
    for _ in 0..2 {
        expect_problem(&site.send(&post("abc", "apples")).await, Problem::InFlight);
        assert_eq!(site.records(), 0);
    }
    drop(held);
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    expect_order(&site.send(&post("abc", "apples")).await, 1, true);
}

#[tokio::test]
async fn a_problem_from_behind_a_network_is_never_stored_either() {
    let says = Arc::new(Mutex::new(Problem::InFlight));
    let said = Arc::clone(&says);
    // A gateway: it passes on the status, the headers and the body of the service's answer.
    let handle = move || {
        let problem = *said.lock().expect("nobody panics");
        async move {
            let (mut head, body) = problem.into_response().into_parts();
            head.extensions.clear();
            let bytes = axum::body::to_bytes(axum::body::Body::new(body), 4096).await;
            Response::from_parts(head, axum::body::Body::from(bytes.expect("it is whole")))
        }
    };
    let router = Router::new().fallback(any(handle));
    let site = Site::serving(Desk::default(), |store| router.layer(layer(store))).await;
    for (problem, records) in [
        (Problem::InFlight, 0),
        (Problem::KeyReused, 0),
        (Problem::Unavailable, 1),
        (Problem::Interrupted, 2),
        (Problem::ResponseNotKept, 3),
    ] {
        *says.lock().expect("nobody panics") = problem;
        let key = format!("{problem:?}");
        let answer = site.send(&post(&key, "apples")).await;
        assert_eq!(answer.status, problem.status().as_u16());
        let completed = site.store.keys().status(Status::Completed).count();
        assert_eq!((completed, site.records()), (0, records), "{problem:?}");
    }
}

#[tokio::test]
async fn a_problem_that_is_answered_after_the_effect_has_begun_frees_no_key() {
    for start in [Start::BeforeHandler, Start::ByHandler] {
        for is_told in [true, false] {
            let handle =
                async move |permit: Option<Extension<IdempotencyPermit>>,
                            Extension(operation): Extension<Operation>| {
                    match permit {
                        Some(Extension(permit)) => permit.start().await.expect("it starts"),
                        None => operation.effect_begins(),
                    }
                    // The problem comes from another service that it calls, and is known as such or
                    // only by its bytes.
                    let mut response = Problem::Unavailable.into_response();
                    if !is_told {
                        response.extensions_mut().clear();
                        *response.status_mut() = StatusCode::OK;
                    }
                    response.map(axum::body::Body::new)
                };
            let router = Router::new().fallback(any(handle));
            let site =
                Site::serving(Desk::default(), |store| router.layer(layer(store).start(start)))
                    .await;
            site.send(&post("abc", "apples")).await;
            assert_eq!(site.store.keys().status(Status::Interrupted).count(), 1, "{start:?}");
            expect_problem(&site.send(&post("abc", "apples")).await, Problem::Interrupted);
        }
    }
}

#[tokio::test]
async fn a_second_start_in_one_handler_is_no_answer_for_a_day() {
    let handle = async |Extension(permit): Extension<IdempotencyPermit>| {
        permit.start().await.expect("it starts");
        match permit.start().await {
            Ok(()) => "it starts twice".into_response(),
            Err(error) => Problem::from(error).into_response().map(axum::body::Body::new),
        }
    };
    let router = Router::new().fallback(any(handle));
    let site =
        Site::serving(Desk::default(), |store| router.layer(layer(store).start(Start::ByHandler)))
            .await;
    expect_problem(&site.send(&post("abc", "apples")).await, Problem::OutcomeUnknown);
    expect_problem(&site.send(&post("abc", "apples")).await, Problem::Interrupted);
}

#[tokio::test]
async fn a_replay_asks_for_no_retry_and_says_itself_that_it_is_one() {
    let replayed = HeaderName::from_static("idempotent-replayed");
    // An inner service has replayed, and asks the client to wait.
    let handle = async move || {
        let headers = [(replayed, "true"), (http::header::RETRY_AFTER, "7")];
        (StatusCode::CONFLICT, headers, "taken")
    };
    let router = Router::new().fallback(any(handle));
    let site = Site::serving(Desk::default(), |store| router.layer(layer(store))).await;
    let first = site.send(&post("abc", "apples")).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(first.header("retry-after"), Some("7"));
    let again = site.send(&post("abc", "apples")).await;
    assert_eq!((again.status, again.text()), (409, "taken".to_owned()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("retry-after"), None);
}

/// A bank that two tenants share. It knows a charge by the key that the handler gives it.
#[derive(Clone, Default)]
struct Bank {
    charges: Arc<Mutex<Vec<(String, String)>>>,
}

impl Bank {
    fn charge(&self, key: String, tenant: &str) -> String {
        let mut charges = self.charges.lock().expect("nobody panics");
        if let Some((_, receipt)) = charges.iter().find(|(known, _)| *known == key) {
            return receipt.clone();
        }
        let receipt = format!("receipt {} of {tenant}", charges.len() + 1);
        charges.push((key, receipt));
        charges.last().expect("it was pushed").1.clone()
    }

    fn find(&self, key: &str) -> Option<String> {
        let charges = self.charges.lock().expect("nobody panics");
        charges.iter().find(|(known, _)| known == key).map(|(_, receipt)| receipt.clone())
    }
}

#[tokio::test]
async fn two_tenants_with_one_key_get_their_own_receipts_from_the_hook_too() {
    let bank = Bank::default();
    let place = Place::new();
    let address = serve(pay(place.open(), bank.clone())).await;
    let call = |tenant: &str, body: &str| post("order-1", body).header("X-Tenant", tenant);
    let first = call("ann", "pay").send(address).await;
    assert_eq!(first.text(), "receipt 1 of ann");
    // The other tenant's handler dies before its charge, under the same key.
    assert_eq!(call("bob", "die").send(address).await.status, 503);
    let again = call("bob", "die").send(address).await;
    assert_eq!((again.status, again.text()), (200, "receipt 2 of bob".to_owned()));
    assert_eq!(call("ann", "pay").send(address).await.text(), "receipt 1 of ann");
    // A tenant whose handler dies after the charge gets its own receipt, and is charged once.
    assert_eq!(call("cem", "charge and die").send(address).await.status, 503);
    assert_eq!(call("cem", "charge and die").send(address).await.text(), "receipt 3 of cem");
    assert_eq!(bank.charges.lock().expect("nobody panics").len(), 3);
}

fn pay(store: Store, bank: Bank) -> Router {
    let hook = {
        let bank = bank.clone();
        move |request: InterruptedRequest| {
            let found = bank.find(&request.downstream_key("charge"));
            async move {
                match found {
                    Some(receipt) => Decision::Resolve(http::Response::new(receipt.into())),
                    None => Decision::Retry,
                }
            }
        }
    };
    let handle = async move |Extension(operation): Extension<Operation>, request: Request| {
        let tenant = request.headers()["x-tenant"].to_str().expect("it is text").to_owned();
        let body = axum::body::to_bytes(request.into_body(), 100).await.expect("it has a body");
        let dies = operation.attempt() == 1 && body.ends_with(b"die");
        if !dies || body.starts_with(b"charge") {
            let receipt = bank.charge(operation.downstream_key("charge"), &tenant);
            if !dies {
                return receipt.into_response();
            }
        }
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    };
    let scope = Scope::from_fn(|parts: &http::request::Parts| {
        let tenant = parts.headers.get("x-tenant").ok_or(StatusCode::UNAUTHORIZED)?;
        Ok::<_, StatusCode>(tenant.as_bytes().to_vec())
    });
    let layer = IdempotencyLayer::new(store, scope).on_interrupted(hook);
    Router::new().fallback(any(handle)).layer(layer)
}

#[tokio::test]
async fn a_secret_is_sent_once_and_never_stored() {
    for (header, keeps, is_stored) in [
        (Some("no-store"), false, false),
        (Some("private, No-Store"), false, false),
        (Some("no-cache"), false, true),
        (Some("no-store"), true, true),
        // According to the handler.
        (None, true, false),
    ] {
        let handle = async move || {
            let response = "secret-4711".into_response();
            let Some(header) = header else { return without_keeping(response) };
            ([(http::header::CACHE_CONTROL, header)], response).into_response()
        };
        let router = Router::new().fallback(any(handle));
        let site =
            Site::serving(Desk::default(), |store| router.layer(layer(store).keep_no_store(keeps)))
                .await;
        assert_eq!(site.send(&post("abc", "apples")).await.text(), "secret-4711");
        let again = site.send(&post("abc", "apples")).await;
        if is_stored {
            assert_eq!(again.text(), "secret-4711", "{header:?}");
        } else {
            expect_problem(&again, Problem::ResponseNotKept);
            assert_eq!(site.store.keys().status(Status::NotKept).count(), 1);
        }
    }
}

#[tokio::test]
async fn problems_can_be_answered_in_another_form() {
    let site = Site::new(|layer| {
        layer.require_key(true).on_problem(|problem, head| {
            let flat = format!(r#"{{"code":"{problem:?}","path":"{}"}}"#, head.uri.path());
            let mut response = http::Response::new(flat);
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
        })
    })
    .await;
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    let held = {
        let key = idemstore::Key::scoped("tests", "held").expect("it is a key");
        site.store.begin(&key, idemstore::Fingerprint::NONE).expect("it answers")
    };
    for (call, code, retry_after) in [
        (post("abc", "pears"), "KeyReused", None),
        (post("a b", "apples"), "KeyMalformed", None),
        (post("held", "apples"), "InFlight", Some("1")),
    ] {
        let answer = site.send(&call).await;
        let flat = format!(r#"{{"code":"{code}","path":"/orders"}}"#);
        assert_eq!((answer.status, answer.text()), (418, flat));
        assert_eq!(answer.header("retry-after"), retry_after);
    }
    drop(held);
    expect_order(&site.send(&post("abc", "apples")).await, 1, true);
}

#[tokio::test]
async fn a_request_can_be_skipped_and_can_have_a_retention_of_its_own() {
    let site = Site::new(|layer| {
        layer.skip(|head| head.uri.path() == "/search").retention_of(|head| {
            head.headers.contains_key("x-short").then_some(Duration::from_millis(1))
        })
    })
    .await;
    let search = Call::new("POST", "/search").header("Idempotency-Key", "abc").body("apples");
    for number in [1, 2] {
        expect_order(&site.send(&search).await, number, false);
    }
    assert_eq!(site.records(), 0);
    let short = post("abc", "apples").header("X-Short", "1");
    expect_order(&site.send(&short).await, 3, false);
    tokio::time::sleep(Duration::from_millis(20)).await;
    expect_order(&site.send(&short).await, 4, false);
    expect_order(&site.send(&post("def", "apples")).await, 5, false);
    tokio::time::sleep(Duration::from_millis(20)).await;
    expect_order(&site.send(&post("def", "apples")).await, 5, true);
}

#[tokio::test]
async fn an_operation_that_is_left_is_completed_by_its_webhook_however_fast() {
    for start in [Start::BeforeHandler, Start::ByHandler] {
        let place = Place::new();
        let store = place.open();
        let webhook = store.clone();
        let handle = async move |permit: Option<Extension<IdempotencyPermit>>,
                                 Extension(operation): Extension<Operation>,
                                 request: Request| {
            if let Some(Extension(permit)) = permit {
                assert!(!operation.leave(), "it has not started");
                permit.start().await.expect("it starts");
            }
            assert!(operation.leave() && operation.leave());
            let body = axum::body::to_bytes(request.into_body(), 100).await.expect("it is short");
            if body == "fast" {
                // The webhook arrives before the handler has answered.
                let confirmed = confirmed("17");
                let done = webhook.complete_response(operation.key(), &confirmed).await;
                done.expect("nobody holds it");
            }
            StatusCode::ACCEPTED
        };
        let router = Router::new().fallback(any(handle)).layer(layer(store.clone()).start(start));
        let address = serve(router).await;
        let key = |name: &str| idemstore::Key::scoped("tests", name).expect("it is a key");

        assert_eq!(post("fast", "fast").send(address).await.status, 202);
        assert_eq!(post("slow", "slow").send(address).await.status, 202);
        expect_problem(&post("slow", "slow").send(address).await, Problem::InFlight);
        let done = store.complete_response(&key("slow"), &confirmed("18")).await;
        let stored = decode_response(done.expect("nobody holds it").result());
        assert_eq!(stored.expect("it is one").body(), "receipt 18");
        for (name, receipt) in [("fast", "receipt 17"), ("slow", "receipt 18")] {
            let replay = post(name, name).send(address).await;
            assert_eq!((replay.status, replay.text()), (201, receipt.to_owned()), "{start:?}");
            assert_eq!(replay.header("x-bank"), Some("b"));
            assert_eq!(replay.header("set-cookie"), None);
            assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        }
        // The effect did not happen: the key is free.
        assert_eq!(post("gone", "slow").send(address).await.status, 202);
        store.abandon(&key("gone")).expect("nobody holds it");
        assert_eq!(post("gone", "other").send(address).await.status, 202);
    }
}

/// The webhook's final report.
fn confirmed(number: &str) -> http::Response<bytes::Bytes> {
    http::Response::builder()
        .status(201)
        .header("x-bank", "b")
        .header("set-cookie", "session=the-bank")
        .body(format!("receipt {number}").into())
        .expect("it is a response")
}
