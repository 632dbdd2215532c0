//! The protocol's idempotency contract, as options of the layer: section 6 of its RFC "Agentic
//! Checkout",
//! <https://github.com/agentic-commerce-protocol/agentic-commerce-protocol/blob/main/rfcs/rfc.agentic_checkout.md>.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Response, StatusCode, response};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use idemstore::http::{Decision, IdempotencyLayer, Problem, Scope};
use idemstore::{Effect, Store};
use serde_json::json;

use super::checkout::{Merchant, routes};

/// The identity that an access token stands for.
#[derive(Clone)]
pub struct Agent(String);

impl AsRef<[u8]> for Agent {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The routes of a merchant, inside the layer, which is inside what identifies the caller.
pub fn service(merchant: Merchant, layer: IdempotencyLayer) -> Router {
    routes(merchant).layer(layer).layer(middleware::from_fn(authenticate))
}

async fn authenticate(mut request: Request, next: Next) -> axum::response::Response {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(agent) = token.and_then(|token| token.strip_prefix("Bearer agent-")) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let agent = Agent(agent.to_owned());
    request.extensions_mut().insert(agent);
    next.run(request).await
}

pub fn layer(store: Store) -> IdempotencyLayer {
    // 6.1: every POST has a key, and its scope is the identity and the path.
    IdempotencyLayer::new(store, Scope::extension::<Agent>().with_path())
        .only_methods([Method::POST])
        .require_key(true)
        // 6.2: bodies are equal if their JSON means the same; headers don't count.
        .fingerprint_only_headers([])
        .fingerprint_json()
        // 6.3: a retry gets the first answer again; 6.5: unless that was a server error.
        .effect_of(effect_of)
        // The payment provider keeps keys too, so an interrupted checkout may run again.
        .on_interrupted(|_| async { Decision::Retry })
        // 3.1: each response carries the key.
        .echo_key(true)
        // 6.4: errors are flat.
        .on_problem(|problem, _| flat(problem))
}

fn effect_of(head: &response::Parts) -> Effect {
    if head.status.is_server_error() { Effect::DidNotHappen(()) } else { Effect::Done(()) }
}

fn flat(problem: Problem) -> Response<String> {
    let (kind, code) = match problem {
        Problem::KeyMissing => ("invalid_request", "idempotency_key_required"),
        Problem::KeyReused => ("invalid_request", "idempotency_conflict"),
        Problem::InFlight => ("invalid_request", "idempotency_in_flight"),
        problem if problem.status().is_server_error() => {
            ("service_unavailable", "idempotency_unavailable")
        }
        _ => ("invalid_request", "invalid"),
    };
    let body = json!({ "type": kind, "code": code, "message": problem.detail() });
    let mut response = Response::new(body.to_string());
    *response.status_mut() = problem.status();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
