//! Refused calls: each gets a status that a retry policy handles correctly.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use idemstore::http::{IdempotencyLayer, Problem, Scope};
use idemstore::{Begin, Fingerprint, Key, Status as Kept};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::util::ServiceExt;

use super::bank::{Bank, Client, router};
use crate::support::{Desk, Place, SCOPE, serve};

fn expect(
    refused: Result<tonic::Response<String>, Status>,
    problem: Problem,
    code: Code,
) -> Status {
    let status = refused.expect_err("it is refused");
    assert_eq!(status.code(), code, "{problem:?}: {status:?}");
    assert_eq!(status.message(), problem.detail());
    let name = status.metadata().get("idempotency-problem").expect("it is named");
    assert_eq!(name.to_str().expect("it is text"), format!("{problem:?}"));
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let passes = [Problem::InFlight, Problem::Unavailable, Problem::BodyTooSlow].contains(&problem);
    assert_eq!(
        pushback.map(tonic::metadata::MetadataValue::as_bytes),
        passes.then_some(&b"2000"[..])
    );
    status
}

#[tokio::test]
async fn each_refusal_has_a_status_of_its_own() {
    let bank = Bank::new(|layer| {
        layer.require_key(true).request_len_max(64).retry_after(Duration::from_secs(2))
    })
    .await;
    let mut client = bank.client().await;
    client.pay("abc", "apples").await.expect("it is paid");
    expect(client.pay("abc", "pears").await, Problem::KeyReused, Code::InvalidArgument);
    expect(client.pay("", "apples").await, Problem::KeyMissing, Code::InvalidArgument);
    expect(client.pay("a b", "apples").await, Problem::KeyMalformed, Code::InvalidArgument);
    let long = "x".repeat(100);
    expect(client.pay("def", &long).await, Problem::BodyTooLarge, Code::ResourceExhausted);

    let key = Key::scoped(SCOPE, "held").expect("it is a key");
    let begin = bank.store.begin(&key, Fingerprint::NONE).expect("it answers");
    expect(client.pay("held", "apples").await, Problem::InFlight, Code::Aborted);
    let Begin::Fresh(permit) = begin else { panic!("it is new") };
    drop(permit.start().expect("it starts"));
    expect(client.pay("held", "apples").await, Problem::Interrupted, Code::FailedPrecondition);

    bank.store.clone().close().expect("it closes");
    expect(client.pay("abc", "apples").await, Problem::Unavailable, Code::Unavailable);
    assert_eq!(bank.desk.runs(), 1);
}

#[tokio::test]
async fn an_answer_that_was_not_kept_is_told_from_one_that_never_was() {
    let bank = Bank::new(|layer| layer.response_len_max(4)).await;
    let mut client = bank.client().await;
    let first = client.pay("abc", "apples").await.expect("it is sent whole");
    assert_eq!(first.into_inner(), "order 1");
    let again = client.pay("abc", "apples").await;
    expect(again, Problem::ResponseNotKept, Code::AlreadyExists);
    assert_eq!((bank.status("abc"), bank.desk.runs()), (Some(Kept::NotKept), 1));
}

/// A gateway that forwards calls; it drops all keys but one.
fn gateway(inner: SocketAddr) -> Router {
    let pass = move |mut request: Request| async move {
        if request.headers().get("idempotency-key").is_some_and(|key| key != "doubt") {
            request.headers_mut().remove("idempotency-key");
        }
        let channel = Channel::from_shared(format!("http://{inner}")).expect("it is a URI");
        let channel = channel.connect().await.expect("it is there");
        let answer = channel.oneshot(request.map(tonic::body::Body::new)).await;
        answer.expect("it answers").map(axum::body::Body::new)
    };
    Router::new().fallback(axum::routing::any(pass))
}

#[tokio::test]
async fn a_refusal_from_behind_a_network_is_never_an_outcome() {
    let bank = Bank::new(|layer| layer.require_key(true)).await;
    let key = Key::scoped(SCOPE, "doubt").expect("it is a key");
    let begin = bank.store.begin(&key, Fingerprint::NONE).expect("it answers");
    let Begin::Fresh(permit) = begin else { panic!("it is new") };
    drop(permit.start().expect("it starts"));

    let place = Place::new();
    let store = place.open();
    let layer = IdempotencyLayer::grpc(store.clone(), Scope::shared(SCOPE));
    let mut client = Client::connect(serve(gateway(bank.address).layer(layer)).await).await;
    for (key, problem, code, left) in [
        ("abc", "KeyMissing", Code::InvalidArgument, None),
        ("doubt", "Interrupted", Code::FailedPrecondition, Some(Kept::Interrupted)),
    ] {
        for _ in 0..2 {
            let refused = client.pay(key, "apples").await.expect_err("it is refused within");
            let name = refused.metadata().get("idempotency-problem").expect("it is named");
            assert_eq!((refused.code(), name.as_bytes()), (code, problem.as_bytes()));
            let key = Key::scoped(SCOPE, key).expect("it is a key");
            let info = store.get(&key).expect("it answers");
            assert_eq!(info.map(|info| info.status()), left, "a doubt is never taken for nothing");
        }
    }
    assert_eq!(bank.desk.runs(), 0);
}

#[tokio::test]
async fn what_grpc_would_not_say_is_told_by_http_and_is_no_outcome_without_a_status() {
    let desk = Desk::default();
    let (place, other) = (Place::new(), router(&desk));
    let store = place.open();
    // An inner server that doesn't know the method, and one whose answer is cut off.
    let cut = || async { "cut" };
    let router = other.route("/bank.Payments/Cut", axum::routing::any(cut));
    let layer = IdempotencyLayer::grpc(store.clone(), Scope::shared(SCOPE));
    let address = serve(router.layer(layer)).await;
    let send = async |path: &str| {
        let call = crate::support::Call::new("POST", path).header("Idempotency-Key", path);
        call.send(address).await.status
    };
    assert_eq!(send("/nothing").await, 404);
    assert_eq!(send("/bank.Payments/Cut").await, 200);
    let left: Vec<_> = store.keys().map(|info| info.expect("it is read").status()).collect();
    assert_eq!(left, [Kept::Interrupted], "that of the answer without a status");
}
