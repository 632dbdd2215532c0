//! A stand-in for a verification provider. It accepts every address except those under `.invalid`,
//! and reports to the webhook.
//!
//! It stores nothing. A real provider remembers the operations that it was asked about, so asking
//! twice has the effect of asking once, and no event is lost in a kill.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use super::exchange::Peer;
use super::verification::{Event, Outcome, PROVIDER_PATH, Question, WEBHOOK_PATH, is_secret};

/// How long to wait before sending an event again.
const AGAIN: Duration = Duration::from_millis(200);

/// The route of a provider that sends its events to this service.
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

/// Sends an event until it's accepted.
async fn tell(service: Peer, event: Event) {
    let event = serde_json::to_string(&event).expect("it is text");
    while !service.post(WEBHOOK_PATH, &event).await.is_some_and(|status| status.is_success()) {
        tokio::time::sleep(AGAIN).await;
    }
}
