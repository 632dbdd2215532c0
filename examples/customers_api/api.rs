//! The routes of the service.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json};
use idemstore::Store;
use idemstore::http::{
    Decision, Effect, IdempotencyLayer, IdempotencyPermit, InterruptedRequest, Operation, Scope,
    Start,
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
    let (parts, body) = changed(&line, request.parts().method == Method::POST);
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = parts.0;
    response.headers_mut().extend(parts.1);
    Decision::Resolve(response)
}

/// What names an operation in `objects.log`.
fn operation_of(key: &idemstore::Key) -> String {
    let text = String::from_utf8_lossy;
    format!("{} {}", text(key.scope()), text(key.as_bytes()))
}

/// The answer to a change.
fn changed(line: &Line, is_new: bool) -> ((StatusCode, HeaderMap), serde_json::Value) {
    let mut headers =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    if is_new && let Ok(location) = path_of(line.kind, line.id).parse() {
        headers.insert(LOCATION, location);
    }
    ((status, headers), object(line.id, line.fields.as_ref().unwrap_or(&Fields::default())))
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

type Permit = Option<Extension<IdempotencyPermit>>;
type MaybeOperation = Option<Extension<Operation>>;

async fn create(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
    permit: Permit,
    operation: MaybeOperation,
    body: Bytes,
) -> Response {
    let fields = match validate(&body) {
        Ok(fields) => fields,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
    };
    if let Some(refusal) = start(permit).await {
        return refusal;
    }
    tokio::time::sleep(api.delay / 2).await;
    let id = api.objects.new_id();
    let response = write(
        &api,
        Line { tenant, kind, id, fields: Some(fields), operation: name(operation) },
        true,
    )
    .await;
    tokio::time::sleep(api.delay / 2).await;
    response
}

async fn update(
    State(api): State<Api>,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Extension(kind): Extension<Kind>,
    Path(id): Path<u64>,
    permit: Permit,
    operation: MaybeOperation,
    body: Bytes,
) -> Response {
    let fields = match validate(&body) {
        Ok(fields) => fields,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
    };
    if api.objects.get(&(tenant.clone(), kind, id)).is_none() {
        return problem(StatusCode::NOT_FOUND, "there is no such object");
    }
    if let Some(refusal) = start(permit).await {
        return refusal;
    }
    write(&api, Line { tenant, kind, id, fields: Some(fields), operation: name(operation) }, false)
        .await
}

/// Nothing that this request could be refused for comes after this.
async fn start(permit: Permit) -> Option<Response> {
    let Extension(permit) = permit?;
    let refused = permit.start().await.err()?;
    Some(problem(StatusCode::SERVICE_UNAVAILABLE, &refused.to_string()))
}

fn name(operation: MaybeOperation) -> Option<String> {
    operation.map(|Extension(operation)| operation_of(operation.key()))
}

/// Makes a change, and answers with it.
async fn write(api: &Api, line: Line, is_new: bool) -> Response {
    if api.objects.write(line.clone()).await {
        let (head, body) = changed(&line, is_new);
        return (head.0, head.1, Json(body)).into_response();
    }
    // It may be in the file or not: the layer must not take this for the outcome.
    let mut response = problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown");
    response.extensions_mut().insert(Effect::Unknown);
    response
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
        None => problem(StatusCode::NOT_FOUND, "there is no such object"),
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
        return problem(StatusCode::NOT_FOUND, "there is no such object");
    }
    let line = Line { tenant, kind, id, fields: None, operation: None };
    if api.objects.write(line).await {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::INTERNAL_SERVER_ERROR, "the outcome is unknown")
    }
}
