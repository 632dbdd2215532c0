//! The handler that takes the tests' orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use tokio::sync::Semaphore;

/// Takes orders, and counts them, on any path and with any method. The body says what it does:
/// `held` makes it wait until it is released, `refused 422` makes it refuse with this status,
/// `panic` makes it panic; any other body is an order.
#[derive(Clone, Default)]
pub struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    runs: AtomicUsize,
    orders: AtomicUsize,
    entered: Semaphore,
    gate: Semaphore,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            runs: AtomicUsize::new(0),
            orders: AtomicUsize::new(0),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
        }
    }
}

impl Desk {
    pub fn router(&self) -> Router {
        Router::new().fallback(any(handle)).with_state(self.clone())
    }

    /// How often the handler was called.
    pub fn runs(&self) -> usize {
        self.inner.runs.load(Ordering::SeqCst)
    }

    /// How many orders it has taken.
    pub fn orders(&self) -> usize {
        self.inner.orders.load(Ordering::SeqCst)
    }

    /// Waits until a handler is held.
    pub async fn entered(&self) {
        self.inner.entered.acquire().await.expect("it stays open").forget();
    }

    /// Releases one waiting handler, now or later.
    pub fn let_go(&self) {
        self.inner.gate.add_permits(1);
    }

    /// Waits to be released.
    pub async fn hold(&self) {
        self.inner.entered.add_permits(1);
        self.inner.gate.acquire().await.expect("it stays open").forget();
    }

    pub async fn answer(&self, body: &[u8]) -> Response {
        self.inner.runs.fetch_add(1, Ordering::SeqCst);
        let body = String::from_utf8_lossy(body);
        if let Some(status) = body.strip_prefix("refused ") {
            let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
            return (status.expect("it is a status"), "refused").into_response();
        }
        assert!(!body.starts_with("panic"), "the body asks for this panic");
        if body.starts_with("held") {
            self.hold().await;
        }
        let order = 1 + self.inner.orders.fetch_add(1, Ordering::SeqCst);
        (StatusCode::CREATED, format!("order {order}")).into_response()
    }
}

async fn handle(State(desk): State<Desk>, request: Request) -> Response {
    let body: Bytes = match axum::body::to_bytes(request.into_body(), usize::MAX).await {
        Ok(body) => body,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    desk.answer(&body).await
}
