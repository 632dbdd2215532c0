//! What tells a request from another one with the same key.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use crate::key::Fingerprint;

type Compute = dyn Fn(&Parts, &Bytes) -> Fingerprint + Send + Sync;

/// How the fingerprint of a request is made.
#[derive(Clone)]
pub(super) enum FingerprintOf {
    /// Method, path, query, these headers, body.
    Headers(Vec<HeaderName>),
    Function(Arc<Compute>),
}

impl FingerprintOf {
    pub(super) fn compute(&self, parts: &Parts, body: &Bytes) -> Fingerprint {
        match self {
            Self::Headers(names) => of_request(names, parts, body),
            Self::Function(compute) => compute(parts, body),
        }
    }
}

/// Each part is framed, and so is the number of values that a header has, so that no two requests
/// that differ in these parts are alike.
fn of_request(names: &[HeaderName], parts: &Parts, body: &Bytes) -> Fingerprint {
    let query = parts.uri.query();
    let has_query: &[u8] = if query.is_some() { &[1] } else { &[0] };
    let counts: Vec<_> =
        names.iter().map(|name| parts.headers.get_all(name).iter().count().to_string()).collect();
    let headers = names.iter().zip(&counts).flat_map(|(name, count)| {
        let values = parts.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        [name.as_str().as_bytes(), count.as_bytes()].into_iter().chain(values)
    });
    let head = [
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        has_query,
        query.unwrap_or_default().as_bytes(),
    ];
    Fingerprint::of_parts(head.into_iter().chain(headers).chain([&body[..]]))
}
