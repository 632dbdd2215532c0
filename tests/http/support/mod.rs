//! What the tests share: a store, a server on the loopback interface, and a client.

mod client;
mod desk;
mod frames;
#[path = "../../it/support/gated.rs"]
mod gated;

pub use client::{Answer, Call};
pub use desk::Desk;
pub use frames::Frames;
pub use gated::{Gate, GatedDisk};

use std::net::SocketAddr;

use axum::Router;
use idemstore::http::{IdempotencyLayer, Problem, Scope};
use idemstore::{Begin, Builder, Fingerprint, Key, Store};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

/// The scope of the usual layer.
pub const SCOPE: &str = "tests";

/// A directory with a store, which is small so that creating it is fast.
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("there is room for a directory") }
    }

    pub fn builder() -> Builder {
        Store::builder().log_bytes(512 * 1024).result_len_max(64 * 1024).background_thread(false)
    }

    pub fn open(&self) -> Store {
        let path = self.directory.path().join("store");
        Self::builder().open(path).expect("the store opens")
    }
}

/// A server, with the state of its handler and its store.
pub struct Site {
    pub store: Store,
    pub desk: Desk,
    pub address: SocketAddr,
    _place: Place,
}

impl Site {
    /// The usual handler behind the layer with these options.
    pub async fn new(options: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer) -> Self {
        Self::of(Desk::default(), |store| options(layer(store))).await
    }

    /// The usual handler behind this layer.
    pub async fn of(desk: Desk, layer: impl FnOnce(Store) -> IdempotencyLayer) -> Self {
        let router = desk.router();
        Self::serving(desk, |store| router.layer(layer(store))).await
    }

    /// Any router.
    pub async fn serving(desk: Desk, router: impl FnOnce(Store) -> Router) -> Self {
        let place = Place::new();
        let store = place.open();
        let address = serve(router(store.clone())).await;
        Self { store, desk, address, _place: place }
    }

    pub async fn send(&self, call: &Call) -> Answer {
        call.send(self.address).await
    }

    /// Records in the store: none while nothing has started.
    pub fn records(&self) -> usize {
        self.store.keys().count()
    }

    /// The answer of the store for this key in the usual scope, to a caller with a different
    /// request.
    pub fn begin(&self, key: &str) -> Begin {
        let key = Key::scoped(SCOPE, key).expect("it is a key");
        self.store.begin(&key, Fingerprint::NONE).expect("the store answers")
    }
}

/// The layer with the default options.
pub fn layer(store: Store) -> IdempotencyLayer {
    IdempotencyLayer::new(store, Scope::shared(SCOPE))
}

/// Serves this router until the runtime ends. A panic is answered with 500, as in most services.
pub async fn serve(router: Router) -> SocketAddr {
    let router = router.layer(CatchPanicLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A POST of this body with this bare key, to the usual path.
pub fn post(key: &str, body: &str) -> Call {
    Call::new("POST", "/orders").header("Idempotency-Key", key).body(body)
}

/// The answer is this problem, in the form that RFC 9457 requires.
#[track_caller]
pub fn expect_problem(answer: &Answer, problem: Problem) {
    assert_eq!(answer.status, problem.status().as_u16(), "of {problem:?}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let json = format!(
        r#"{{"type":"{}","title":"{}","status":{},"detail":"{}"}}"#,
        problem.type_uri(),
        problem.title(),
        answer.status,
        problem.detail()
    );
    assert_eq!(answer.text(), json);
    assert_eq!(answer.header("idempotent-replayed"), None);
}

/// Whether the answer is a replay (true), or came from a handler in this run (false).
#[track_caller]
pub fn expect_order(answer: &Answer, number: usize, replayed: bool) {
    assert_eq!((answer.status, answer.text()), (201, format!("order {number}")));
    assert_eq!(answer.header("idempotent-replayed"), replayed.then_some("true"));
}
