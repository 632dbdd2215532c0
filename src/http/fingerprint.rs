//! What tells a request from another one with the same key.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use http::request::Parts;

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
    let mut all: Vec<Vec<u8>> = vec![
        parts.method.as_str().into(),
        parts.uri.path().into(),
        vec![u8::from(query.is_some())],
        query.unwrap_or_default().into(),
    ];
    for name in names {
        let values = parts.headers.get_all(name);
        all.push(name.as_str().into());
        all.push(values.iter().count().to_string().into());
        all.extend(values.iter().map(|value| value.as_bytes().to_vec()));
    }
    Fingerprint::of_parts(all.iter().map(Vec::as_slice).chain([&body[..]]))
}
