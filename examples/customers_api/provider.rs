//! A stand-in for a provider of verifications. It accepts every address except those under
//! `.invalid`, and reports that to the webhook.
//!
//! It stores nothing. A real provider remembers the operations it was asked for, so a repeated
//! question has no further effect, and a kill loses no event.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use super::exchange::Peer;
use super::verification::{Event, Outcome, PROVIDER_PATH, Question, WEBHOOK_PATH, is_secret};

/// How long it waits before it resends an event.
const AGAIN: Duration = Duration::from_millis(200);

/// The route of a provider whose events go to this service.
pub fn router(service: Peer) -> Router {
    Router::new().route(PROVIDER_PATH, post(take)).with_state(service)
}

async fn take(State(service): State<Peer>, headers: HeaderMap, body: String) -> StatusCode {
    if !is_secret(&headers, &service.secret) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(question) = serde_json::from_str::<Question>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let is_verified = !question.email.ends_with(".invalid");
    let outcome = if is_verified { Outcome::Verified } else { Outcome::Failed };
    tokio::spawn(tell(service, Event { operation: question.operation, outcome }));
    StatusCode::ACCEPTED
}

/// Sends an event until it is accepted.
async fn tell(service: Peer, event: Event) {
    let event = serde_json::to_string(&event).expect("it is text");
    while !service.post(WEBHOOK_PATH, &event).await.is_some_and(|status| status.is_success()) {
        tokio::time::sleep(AGAIN).await;
    }
}
