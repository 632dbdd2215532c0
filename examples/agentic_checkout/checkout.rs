//! Checkout sessions, and a payment provider that accepts keys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use idemstore::http::Operation;
use serde_json::{Value, json};

/// A merchant. Clones share it.
#[derive(Clone, Default)]
pub struct Merchant(Arc<Mutex<Books>>);

#[derive(Default)]
pub struct Books {
    /// The items of each session, and whether the session was completed.
    sessions: BTreeMap<u64, (Value, bool)>,
    /// What the payment provider has captured, by key.
    pub captures: BTreeMap<String, String>,
    /// Whether the payment provider fails to answer.
    pub is_provider_down: bool,
}

impl Merchant {
    /// A handler that panics leaves no half-made change.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// The provider captures once per key.
    fn capture(&mut self, key: String, token: &str) -> Result<String, ()> {
        if self.is_provider_down {
            return Err(());
        }
        Ok(self.captures.entry(key).or_insert_with(|| token.to_owned()).clone())
    }

    fn show(&self, id: u64) -> Option<Value> {
        let (items, is_completed) = self.sessions.get(&id)?;
        let status = if *is_completed { "completed" } else { "ready_for_payment" };
        Some(json!({ "id": id.to_string(), "status": status, "items": items }))
    }
}

/// The routes, without any idempotency.
pub fn routes(merchant: Merchant) -> Router {
    Router::new()
        .route("/checkout_sessions", post(create))
        .route("/checkout_sessions/{id}", post(update).get(show))
        .route("/checkout_sessions/{id}/complete", post(complete))
        .with_state(merchant)
}

fn error(status: StatusCode, kind: &str, code: &str, message: &str) -> Response {
    (status, Json(json!({ "type": kind, "code": code, "message": message }))).into_response()
}

fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request", "invalid", message)
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "invalid_request", "not_found", "There is no such session")
}

async fn create(State(merchant): State<Merchant>, Json(body): Json<Value>) -> Response {
    let Some(items) = body.get("items").filter(|items| items.is_array()) else {
        return invalid("A session needs items");
    };
    let mut books = merchant.books();
    let id = 1 + books.sessions.keys().next_back().copied().unwrap_or(0);
    books.sessions.insert(id, (items.clone(), false));
    (StatusCode::CREATED, Json(books.show(id))).into_response()
}

async fn update(
    State(merchant): State<Merchant>,
    Path(id): Path<u64>,
    Json(body): Json<Value>,
) -> Response {
    let mut books = merchant.books();
    let Some((items, _)) = books.sessions.get_mut(&id) else { return not_found() };
    if let Some(new) = body.get("items") {
        *items = new.clone();
    }
    Json(books.show(id)).into_response()
}

async fn show(State(merchant): State<Merchant>, Path(id): Path<u64>) -> Response {
    let shown = merchant.books().show(id);
    shown.map_or_else(not_found, |shown| Json(shown).into_response())
}

async fn complete(
    State(merchant): State<Merchant>,
    Path(id): Path<u64>,
    Extension(operation): Extension<Operation>,
    Json(body): Json<Value>,
) -> Response {
    let Some(token) = body.pointer("/payment_data/token").and_then(Value::as_str) else {
        return invalid("A payment needs a token");
    };
    let mut books = merchant.books();
    match books.sessions.get(&id) {
        None => return not_found(),
        Some((_, true)) => {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return error(status, "invalid_request", "invalid", "The session was completed");
        }
        Some((_, false)) => {}
    }
    // The same key in each attempt, and never another agent's.
    let Ok(receipt) = books.capture(operation.downstream_key("capture"), token) else {
        let status = StatusCode::BAD_GATEWAY;
        return error(status, "processing_error", "no_answer", "The provider gives no answer");
    };
    if let Some((_, is_completed)) = books.sessions.get_mut(&id) {
        *is_completed = true;
    }
    let mut session = books.show(id);
    if let Some(Value::Object(session)) = &mut session {
        session
            .insert("order".to_owned(), json!({ "checkout_session_id": id, "receipt": receipt }));
    }
    Json(session).into_response()
}
