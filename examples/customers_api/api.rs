//! The routes of the service.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json};
use idemstore::Effect;
use idemstore::Store;
use idemstore::http::{
    Decision, IdempotencyLayer, IdempotencyPermit, InterruptedRequest, Operation, Scope, Start,
    StartError, with_effect,
};
use serde_json::json;

use super::objects::{Fields, Kind, Line, Objects};

const NAME_LEN_MAX: usize = 200;

/// What the service is made of.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub objects: Objects,
    pub start: Start,
    /// How long a request of a key in flight waits, if it does.
    pub wait: Option<Duration>,
    /// How long a create takes.
    pub delay: Duration,
}

/// Whose request it is.
#[derive(Clone)]
struct Tenant(String);

impl AsRef<[u8]> for Tenant {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Api {
    pub fn router(self) -> Router {
        let objects = self.objects.clone();
        let mut layer = IdempotencyLayer::new(self.store.clone(), Scope::extension::<Tenant>())
            .start(self.start)
            .on_interrupted(move |request| {
                let objects = objects.clone();
                async move { find_out(&objects, &request) }
            });
        if let Some(at_most) = self.wait {
            layer = layer.wait(at_most);
        }
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
            .with_state(self)
            .layer(layer)
            // The layer asks whose request it is, so that is found out before.
            .layer(middleware::from_fn(authenticate))
    }
}

/// Takes the tenant from the access token. A request without one is that of the account `public`.
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

/// A request that was started when the process was killed, and that is sent again: its object is
/// there, or the effect did not happen.
fn find_out(objects: &Objects, request: &InterruptedRequest) -> Decision {
    let Some(line) = objects.find(&operation_of(request.key())) else { return Decision::Retry };
    let is_new = request.parts().method == Method::POST;
    Decision::Resolve(changed(&line, is_new).map(Bytes::from))
}

/// What names an operation in `objects.log`.
fn operation_of(key: &idemstore::Key) -> String {
    let text = String::from_utf8_lossy;
    format!("{} {}", text(key.scope()), text(key.as_bytes()))
}

/// The answer to a change.
fn changed(line: &Line, is_new: bool) -> Response<String> {
    let fields = line.fields.clone().unwrap_or_default();
    let mut response = Response::new(object(line.id, &fields).to_string());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(location) = path_of(line.kind, line.id).parse() {
            response.headers_mut().insert(LOCATION, location);
        }
    }
    response
}

fn path_of(kind: Kind, id: u64) -> String {
    let kind = match kind {
        Kind::Customer => "customers",
        Kind::Vendor => "vendors",
    };
    format!("/api/v1/{kind}/{id}")
}

fn object(id: u64, fields: &Fields) -> serde_json::Value {
    json!({ "id": id, "name": fields.name })
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body =
        json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn bad_request(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, detail)
}

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such object")
}

/// What the body says of an object. One without a body has no fields, as in the documentation of
/// the API.
fn validate(body: &[u8]) -> Result<Fields, &'static str> {
    if body.is_empty() {
        return Ok(Fields::default());
    }
    let Ok(fields) = serde_json::from_slice::<Fields>(body) else {
        return Err("the body must be a JSON object with no other field than `name`, a string");
    };
    match &fields.name {
        Some(name) if name.is_empty() || NAME_LEN_MAX < name.len() => {
            Err("`name` must have 1 to 200 bytes")
        }
        _ => Ok(fields),
    }
}

/// Whose object is to be changed, and the operation that does it.
struct Change {
    tenant: String,
    kind: Kind,
    /// There is none if the layer starts each operation before its handler.
    permit: Option<IdempotencyPermit>,
    /// There is none if the request has no key.
    operation: Option<Operation>,
}

impl FromRequestParts<Api> for Change {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let Extension(Tenant(tenant)) = part(parts, api).await?;
        let Extension(kind) = part(parts, api).await?;
        let permit = parts.extensions.get().cloned();
        let operation = parts.extensions.get().cloned();
        Ok(Self { tenant, kind, permit, operation })
    }
}

async fn part<P: FromRequestParts<Api>>(parts: &mut Parts, api: &Api) -> Result<P, Response> {
    P::from_request_parts(parts, api).await.map_err(IntoResponse::into_response)
}

impl Change {
    /// Nothing that this request could be refused for comes after this.
    async fn start(&self) -> Result<(), Response> {
        let Some(permit) = &self.permit else { return Ok(()) };
        let refused =
            |error: StartError| problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        permit.start().await.map_err(refused)
    }

    /// Makes the change, and answers with it.
    async fn make(self, api: &Api, id: u64, fields: Fields, is_new: bool) -> Response {
        let Self { tenant, kind, operation, .. } = self;
        let operation = operation.map(|operation| operation_of(operation.key()));
        let line = Line { tenant, kind, id, fields: Some(fields), operation };
        if api.objects.write(line.clone()).await {
            return changed(&line, is_new).into_response();
        }
        // It may be in the file or not: the layer must not take this for the outcome.
        let response = problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown");
        with_effect(response, Effect::Unknown(()))
    }
}

async fn create(State(api): State<Api>, change: Change, body: Bytes) -> Result<Response, Response> {
    let fields = validate(&body).map_err(bad_request)?;
    change.start().await?;
    tokio::time::sleep(api.delay / 2).await;
    let id = api.objects.new_id();
    let response = change.make(&api, id, fields, true).await;
    tokio::time::sleep(api.delay / 2).await;
    Ok(response)
}

async fn update(
    State(api): State<Api>,
    Path(id): Path<u64>,
    change: Change,
    body: Bytes,
) -> Result<Response, Response> {
    let fields = validate(&body).map_err(bad_request)?;
    if api.objects.get(&(change.tenant.clone(), change.kind, id)).is_none() {
        return Err(not_found());
    }
    change.start().await?;
    Ok(change.make(&api, id, fields, false).await)
}

/// How many requests are under way that have a key.
async fn health(State(api): State<Api>) -> Response {
    Json(json!({ "in_flight": api.store.stats().in_flight })).into_response()
}

async fn list(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
) -> Response {
    let objects = api.objects.list(&tenant, kind);
    let objects: Vec<_> = objects.iter().map(|(id, fields)| object(*id, fields)).collect();
    Json(objects).into_response()
}

async fn show(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
    Path(id): Path<u64>,
) -> Response {
    match api.objects.get(&(tenant, kind, id)) {
        Some(fields) => Json(object(id, &fields)).into_response(),
        None => not_found(),
    }
}

/// Deleting twice is deleting once, so it needs no key.
async fn delete(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
    Path(id): Path<u64>,
) -> Response {
    if api.objects.get(&(tenant.clone(), kind, id)).is_none() {
        return not_found();
    }
    let line = Line { tenant, kind, id, fields: None, operation: None };
    if api.objects.write(line).await {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown")
    }
}
