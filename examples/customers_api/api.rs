//! The routes of the service.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use idemstore::http::{
    Decision, IdempotencyLayer, IdempotencyPermit, InterruptedRequest, Operation, Scope, Start,
    StartError, with_effect,
};
use idemstore::{Effect, Store, Timestamp};
use serde_json::json;

use super::answers::{Shown, bad_request, changed, key_missing, not_found, problem};
use super::fields::{BODY_LEN_MAX, Wanted};
use super::objects::{Asked, Change, Kind, Line, Object, Objects};
use super::verification::{Verification, WEBHOOK_PATH, webhook};

/// What the service consists of.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub objects: Objects,
    pub verification: Verification,
    pub start: Start,
    pub require_key: bool,
    /// How long a request waits for one with the same key that is in flight, if it waits at all.
    pub wait: Option<Duration>,
    /// How long a create takes.
    pub delay: Duration,
}

/// The tenant that a request belongs to.
#[derive(Clone)]
struct Tenant(String);

impl AsRef<[u8]> for Tenant {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Api {
    pub fn layer(&self) -> IdempotencyLayer {
        let objects = self.objects.clone();
        let layer = IdempotencyLayer::new(self.store.clone(), Scope::extension::<Tenant>())
            .start(self.start)
            .require_key(self.require_key)
            .request_len_max(BODY_LEN_MAX)
            .on_interrupted(move |request| {
                let objects = objects.clone();
                async move { find_out(&objects, &request) }
            });
        match self.wait {
            Some(at_most) => layer.wait(at_most),
            None => layer,
        }
    }

    pub fn router(self, layer: IdempotencyLayer) -> Router {
        let routes = |path: &str, kind| {
            let all = get(list).post(create);
            let one = get(show).put(update).delete(delete);
            Router::new()
                .route(path, all)
                .route(&format!("{path}/{{id}}"), one)
                .layer(Extension(kind))
        };
        Router::new()
            .route("/health", get(health))
            .merge(routes("/api/v1/customers", Kind::Customer))
            .merge(routes("/api/v1/vendors", Kind::Vendor))
            .layer(layer)
            // The layer needs the tenant, so it is determined first.
            .layer(middleware::from_fn(authenticate))
            // The provider isn't a tenant, and its events have no idempotency key.
            .route(WEBHOOK_PATH, post(webhook))
            .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
            .with_state(self)
    }
}

/// Reads the tenant from the access token. A request without a token belongs to the account
/// `public`.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let tenant = match request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes) {
        None => "public",
        Some(b"Bearer acme") => "acme",
        Some(b"Bearer globex") => "globex",
        Some(_) => return problem(StatusCode::UNAUTHORIZED, "the access token is not known"),
    };
    request.extensions_mut().insert(Tenant(tenant.to_owned()));
    next.run(request).await
}

/// Handles a retry of a request that had started when the process was killed. Either its object is
/// there, or nothing was made. If a provider was asked, it knows the operation, and acts on it
/// once.
fn find_out(objects: &Objects, request: &InterruptedRequest) -> Decision {
    let name = name_of(|label| request.downstream_key(label), request.begun_at());
    let Some(change) = objects.find(&name) else { return Decision::Retry };
    let is_new = request.parts().method == Method::POST;
    Decision::Resolve(changed(&change, is_new).map(Bytes::from))
}

/// Names an operation in `objects.log` and for the provider. The name differs between tenants, and
/// a key that was freed and is used again gets a new one.
fn name_of(downstream_key: impl Fn(&str) -> String, begun_at: Timestamp) -> String {
    downstream_key(&format!("object {}", begun_at.as_unix_ms()))
}

/// The owner of the object that is to change, the operation that changes it, and the request body.
struct Caller {
    tenant: String,
    kind: Kind,
    /// `None` if the layer starts each operation before its handler.
    permit: Option<IdempotencyPermit>,
    /// `None` if the request has no key.
    operation: Option<Operation>,
    body: Bytes,
}

/// An operation that has started.
struct Started {
    operation: Operation,
    name: String,
}

impl FromRequest<Api> for Caller {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Extension(Tenant(tenant)) = part(&mut parts, api).await?;
        let Extension(kind) = part(&mut parts, api).await?;
        let permit = parts.extensions.get().cloned();
        let operation = parts.extensions.get().cloned();
        let body = Bytes::from_request(Request::from_parts(parts, body), api).await;
        let body = body.map_err(|refused| problem(refused.status(), &refused.body_text()))?;
        Ok(Self { tenant, kind, permit, operation, body })
    }
}

async fn part<P: FromRequestParts<Api>>(parts: &mut Parts, api: &Api) -> Result<P, Response> {
    P::from_request_parts(parts, api).await.map_err(IntoResponse::into_response)
}

impl Caller {
    /// Starts the operation. Every check that could refuse the request comes before this. `None` if
    /// it has no key.
    async fn start(&self) -> Result<Option<Started>, Response> {
        let refused =
            |error: StartError| problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        if let Some(permit) = &self.permit {
            permit.start().await.map_err(refused)?;
        }
        let Some(operation) = self.operation.clone() else { return Ok(None) };
        let name = name_of(|label| operation.downstream_key(label), operation.begun_at());
        Ok(Some(Started { operation, name }))
    }

    /// Makes the change, and returns the answer.
    async fn make(
        self,
        api: &Api,
        (id, object): (u64, Object),
        started: Option<Started>,
        is_new: bool,
    ) -> Response {
        let Self { tenant, kind, .. } = self;
        let operation = started.map(|started| started.name);
        let change = Change { tenant, kind, id, object: Some(object), operation };
        if api.objects.write(Line::Change(change.clone())).await {
            return changed(&change, is_new).into_response();
        }
        // It may be in the file or not, so the layer must not take this for the outcome.
        let response = problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown");
        with_effect(response, Effect::Unknown(()))
    }
}

async fn create(State(api): State<Api>, caller: Caller) -> Result<Response, Response> {
    let Wanted { fields, verify } = Wanted::parse(&caller.body).map_err(bad_request)?;
    if verify && caller.operation.is_none() {
        // The webhook would have nothing to identify the operation by.
        return Err(key_missing());
    }
    let started = caller.start().await?;
    if let (true, Some(Started { operation, name })) = (verify, &started) {
        let asked = Asked {
            operation: name.clone(),
            tenant: caller.tenant,
            kind: caller.kind,
            fields,
            key: String::from_utf8_lossy(operation.key().as_bytes()).into_owned(),
            begun_at: operation.begun_at().as_unix_ms(),
        };
        return Ok(api.verify(operation, asked).await);
    }
    tokio::time::sleep(api.delay / 2).await;
    let object = Object { fields, verified: false };
    let id = api.objects.new_id();
    let response = caller.make(&api, (id, object), started, true).await;
    tokio::time::sleep(api.delay / 2).await;
    Ok(response)
}

async fn update(
    State(api): State<Api>,
    Path(id): Path<u64>,
    caller: Caller,
) -> Result<Response, Response> {
    let Wanted { fields, verify } = Wanted::parse(&caller.body).map_err(bad_request)?;
    if verify {
        return Err(bad_request("`verify` is for an object that is created"));
    }
    let Some(before) = api.objects.get(&(caller.tenant.clone(), caller.kind, id)) else {
        return Err(not_found());
    };
    let started = caller.start().await?;
    let verified = before.verified && before.fields.email == fields.email;
    Ok(caller.make(&api, (id, Object { fields, verified }), started, false).await)
}

/// How many requests with a key are under way.
async fn health(State(api): State<Api>) -> Response {
    Json(json!({ "in_flight": api.store.stats().in_flight })).into_response()
}

async fn list(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
) -> Response {
    let objects = api.objects.list(&tenant, kind);
    let objects: Vec<_> = objects.iter().map(|(id, object)| Shown::new(*id, object)).collect();
    Json(objects).into_response()
}

async fn show(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
    Path(id): Path<u64>,
) -> Response {
    match api.objects.get(&(tenant, kind, id)) {
        Some(object) => Json(Shown::new(id, &object)).into_response(),
        None => not_found(),
    }
}

/// Deleting twice is the same as deleting once, so it needs no key.
async fn delete(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
    Path(id): Path<u64>,
) -> Response {
    if api.objects.get(&(tenant.clone(), kind, id)).is_none() {
        return not_found();
    }
    let change = Change { tenant, kind, id, object: None, operation: None };
    if api.objects.write(Line::Change(change)).await {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown")
    }
}
