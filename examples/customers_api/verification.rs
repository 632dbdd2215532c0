//! Objects that are created once a provider has verified their email address: the question to the
//! provider, and the webhook that receives its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use idemstore::http::{Operation, with_effect};
use idemstore::{Effect, Error, FinishError, Key};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use super::answers::{bad_request, changed, problem};
use super::api::Api;
use super::exchange::{Peer, SECRET};
use super::objects::{Asked, Change, Line, Object};

/// The path at which a provider accepts questions.
pub const PROVIDER_PATH: &str = "/provider/verifications";
/// The path at which the service receives its events.
pub const WEBHOOK_PATH: &str = "/webhooks/verification";

/// How long the service waits before it repeats a question that the provider hasn't answered.
const AGAIN: Duration = Duration::from_secs(1);

/// The question to the provider. It acts on each operation once, however often it is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    pub operation: String,
    pub email: String,
}

/// The provider's verdict. It is sent until it is answered with a 2xx, so it may arrive more than
/// once, and before the provider's answer to the question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    pub operation: String,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Verified,
    Failed,
}

/// The provider, and the events that it sends. Clones share them.
#[derive(Clone)]
pub struct Verification {
    provider: Peer,
    /// Events are handled one at a time, so two for the same operation can't collide.
    turn: Arc<Mutex<()>>,
}

impl Verification {
    pub fn new(provider: Peer) -> Self {
        Self { provider, turn: Arc::default() }
    }
}

/// The outcome of a question.
#[derive(PartialEq, Eq)]
enum Answer {
    Accepted,
    /// The provider won't verify this, and won't send an event.
    Refused,
    /// The question may have arrived or not.
    None,
}

impl Api {
    /// Leaves the creation of an object to the webhook, then asks the provider.
    pub async fn verify(self, operation: &Operation, asked: Asked) -> Response {
        // The event finds its operation by this line, so it must be there before the provider is
        // asked.
        let is_known = self.objects.write(Line::Asked(asked.clone())).await;
        // The event may be faster than the provider's answer, so the key isn't held while waiting
        // for that answer.
        if !is_known || !operation.leave() {
            let response = problem(StatusCode::SERVICE_UNAVAILABLE, "nobody was asked");
            return with_effect(response, Effect::DidNotHappen(()));
        }
        match self.ask(&asked).await {
            Answer::Accepted => {}
            Answer::Refused => return self.refused(&asked).await,
            Answer::None => drop(tokio::spawn(self.ask_again(asked))),
        }
        (StatusCode::ACCEPTED, Json(json!({ "status": "verifying" }))).into_response()
    }

    async fn ask(&self, asked: &Asked) -> Answer {
        let email = asked.fields.email.clone().unwrap_or_default();
        let question = Question { operation: asked.operation.clone(), email };
        let question = serde_json::to_string(&question).expect("it is text");
        match self.verification.provider.post(PROVIDER_PATH, &question).await {
            Some(status) if status.is_success() => Answer::Accepted,
            Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => Answer::Refused,
            _ => Answer::None,
        }
    }

    /// Asks until the provider has received the question, or there is nothing left to ask.
    async fn ask_again(self, asked: Asked) {
        while matches!(self.is_open(&asked), Ok(true)) {
            tokio::time::sleep(AGAIN).await;
            match self.ask(&asked).await {
                Answer::Accepted => return,
                Answer::Refused => drop(self.refused(&asked).await),
                Answer::None => {}
            }
        }
    }

    async fn refused(&self, asked: &Asked) -> Response {
        match self.settle(&asked.operation, Outcome::Failed).await {
            Ok(()) => problem(StatusCode::UNPROCESSABLE_ENTITY, "`email` cannot be verified"),
            Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
        }
    }

    /// Whether the operation is still waiting for its event. Once its key was freed, the key's next
    /// operation is a different one.
    fn is_open(&self, asked: &Asked) -> Result<bool, Error> {
        let Some(key) = key_of(asked) else { return Ok(false) };
        let known = self.store.get(&key)?;
        let is_open = known.is_some_and(|known| {
            known.begun_at().as_unix_ms() == asked.begun_at
                && known.completed().is_none()
                && known.not_kept().is_none()
        });
        Ok(is_open)
    }

    /// Ends an operation with the provider's verdict. If it has already ended, nothing changes.
    async fn settle(&self, operation: &str, outcome: Outcome) -> Result<(), String> {
        let _alone = self.verification.turn.lock().await;
        let Some(asked) = self.objects.find_asked(operation) else { return Ok(()) };
        let Some(key) = key_of(&asked) else { return Ok(()) };
        if !self.is_open(&asked).map_err(|error| error.to_string())? {
            return Ok(());
        }
        tokio::time::sleep(self.delay / 2).await;
        // A kill, or another caller that held the key, may have kept an earlier event from
        // finishing it.
        let made = match (self.objects.find(operation), outcome) {
            (None, Outcome::Verified) => Some(self.make(asked).await?),
            (made, _) => made,
        };
        tokio::time::sleep(self.delay / 2).await;
        let ended = match made {
            Some(made) => {
                let response = changed(&made, true).map(Bytes::from);
                self.store.complete_response(&key, &response).await.map(drop)
            }
            None => self.store.abandon_async(&key).await,
        };
        match ended {
            Ok(()) | Err(FinishError::NotExecuting) => Ok(()),
            // A retry may hold the key for a moment. The provider should send the event again.
            Err(error) => Err(error.to_string()),
        }
    }

    /// Creates the object of an operation.
    async fn make(&self, asked: Asked) -> Result<Change, String> {
        let Asked { operation, tenant, kind, fields, .. } = asked;
        let (id, object) = (self.objects.new_id(), Some(Object { fields, verified: true }));
        let made = Change { tenant, kind, id, object, operation: Some(operation) };
        let is_made = self.objects.write(Line::Change(made.clone())).await;
        if is_made { Ok(made) } else { Err("the outcome is unknown".to_owned()) }
    }
}

fn key_of(asked: &Asked) -> Option<Key> {
    Key::scoped(&asked.tenant, &asked.key).ok()
}

/// Handles an event from the provider.
pub async fn webhook(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_secret(&headers, &api.verification.provider.secret) {
        return problem(StatusCode::UNAUTHORIZED, "the secret is not known");
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return bad_request("the body must have an `operation` and an `outcome`");
    };
    // A provider that hangs up must not stop this halfway: the next event couldn't see what is
    // still being written.
    let settle = async move { api.settle(&event.operation, event.outcome).await };
    match tokio::spawn(settle).await {
        // Unknown operations get this answer too: sending the event again wouldn't help.
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(why)) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown"),
    }
}

/// Whether a request carries the shared secret. Digests are compared, in constant time.
pub fn is_secret(headers: &HeaderMap, secret: &str) -> bool {
    let sent = headers.get(SECRET);
    sent.is_some_and(|sent| blake3::hash(sent.as_bytes()) == blake3::hash(secret.as_bytes()))
}
