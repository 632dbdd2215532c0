//! The answers of the service.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use idemstore::http::Problem;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::objects::{Change, Kind, Object};

/// An object, as clients see it.
#[derive(Serialize)]
pub struct Shown<'o> {
    id: u64,
    name: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(flatten)]
    further: &'o Map<String, Value>,
}

impl<'o> Shown<'o> {
    pub fn new(id: u64, object: &'o Object) -> Self {
        let fields = &object.fields;
        Self {
            id,
            name: fields.name.as_deref(),
            email: fields.email.as_deref(),
            status: object.verified.then_some("verified"),
            further: &fields.further,
        }
    }
}

/// The answer to a change.
pub fn changed(change: &Change, is_new: bool) -> Response<String> {
    let object = change.object.clone().unwrap_or_default();
    let body = serde_json::to_string(&Shown::new(change.id, &object));
    let mut response = Response::new(body.expect("names of fields are text"));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(location) = path_of(change.kind, change.id).parse() {
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

pub fn problem(status: StatusCode, detail: &str) -> Response {
    let body =
        json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

pub fn bad_request(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, detail)
}

pub fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such object")
}

/// The layer's answer where it requires a key and there is none.
pub fn key_missing() -> Response {
    http::Response::from(Problem::KeyMissing).map(Body::new)
}
