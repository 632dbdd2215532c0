//! More requests at one time than the store has places for: one that has had its effect gets its
//! answer, and so does the neighbour's.

use axum::body::Bytes;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Router, body};
use http::{HeaderMap, Request, StatusCode};
use idemstore::Store;
use idemstore::http::{IdempotencyLayer, Problem, Scope};
use tempfile::tempdir;
use tokio::task::JoinSet;
use tower::ServiceExt;

const LOUD: usize = 200;
const QUIET: usize = 100;
const LEN: usize = 1024 * 1024;

/// The loud tenant gets back what it has sent, the quiet one is refused by the handler.
async fn handle(headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let is_quiet = headers.get("tenant").is_some_and(|tenant| tenant == "quiet");
    let status = if is_quiet { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, body)
}

fn router(store: Store) -> Router {
    let scope = Scope::from_fn(|parts: &http::request::Parts| {
        let tenant = parts.headers.get("tenant").ok_or(Problem::NoScope)?;
        Ok::<_, Problem>(tenant.as_bytes().to_vec())
    });
    let layer = IdempotencyLayer::new(store, scope).request_len_max(2 * LEN);
    Router::new().route("/", post(handle)).layer(layer)
}

async fn send(
    router: Router,
    tenant: &'static str,
    number: usize,
    len: usize,
) -> (StatusCode, Bytes, bool) {
    let request = Request::post("/")
        .header("tenant", tenant)
        .header("idempotency-key", format!("\"{number}\""))
        .body(body::Body::from(vec![number.to_le_bytes()[0]; len]))
        .expect("it is a request");
    let response = router.oneshot(request).await.expect("it never fails");
    let replayed = response.headers().contains_key("idempotent-replayed");
    let status = response.status();
    let body = body::to_bytes(response.into_body(), usize::MAX).await.expect("it is whole");
    (status, body, replayed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_of_one_tenant_costs_nobody_an_outcome() {
    let directory = tempdir().expect("there is room for a directory");
    let builder = Store::builder().log_bytes(8 << 20).result_len_max(2 * LEN);
    let store = builder.open(directory.path().join("store")).expect("the store opens");
    let router = router(store.clone());
    for is_again in [false, true] {
        let mut sent = JoinSet::new();
        for number in 0..LOUD {
            sent.spawn(send(router.clone(), "loud", number, LEN));
        }
        for number in 0..QUIET {
            sent.spawn(send(router.clone(), "quiet", number, 10));
        }
        let mut answers = (0, 0);
        while let Some(answer) = sent.join_next().await {
            let (status, body, replayed) = answer.expect("it does not panic");
            match status {
                StatusCode::OK => {
                    assert!(body.len() == LEN && replayed == is_again);
                    answers.0 += 1;
                }
                // The key of a refused request is free, so the request is sent again.
                StatusCode::BAD_REQUEST => {
                    assert!(body.len() == 10 && !replayed);
                    answers.1 += 1;
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!(answers, (LOUD, QUIET));
    }
    let stats = store.stats();
    assert_eq!((stats.live, stats.interrupted, stats.in_flight), (LOUD, 0, 0));
}
