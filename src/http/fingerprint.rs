//! What distinguishes a request from another one with the same key.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use super::{Problem, media_type, multipart};
use crate::key::Fingerprint;

type Compute = dyn Fn(&Parts, &Bytes) -> Fingerprint + Send + Sync;

/// How to compute the fingerprint of a request: from method, path, query, headers and body, or by a
/// function.
#[derive(Clone)]
pub(super) struct FingerprintOf {
    pub(super) headers: Vec<HeaderName>,
    /// Media types are compared without their parameters.
    pub(super) only_media_type: bool,
    /// Multipart bodies are compared by their parts.
    pub(super) multipart: bool,
    /// JSON bodies are compared by what they mean.
    #[cfg(feature = "json")]
    pub(super) json: bool,
    pub(super) function: Option<Arc<Compute>>,
}

impl Default for FingerprintOf {
    fn default() -> Self {
        Self {
            headers: vec![CONTENT_TYPE],
            only_media_type: false,
            multipart: false,
            #[cfg(feature = "json")]
            json: false,
            function: None,
        }
    }
}

/// The form in which the body of a request is compared.
enum Form<'b> {
    Bytes,
    Parts(Vec<&'b [u8]>),
    #[cfg(feature = "json")]
    Canonical(Vec<u8>),
}

impl FingerprintOf {
    pub(super) fn compute(&self, head: &Parts, body: &Bytes) -> Result<Fingerprint, Problem> {
        match &self.function {
            Some(compute) => Ok(compute(head, body)),
            None => Ok(self.of_request(head, body, self.form(head, body)?)),
        }
    }

    /// A body that is empty, or whose media type isn't known, is compared by its bytes.
    fn form<'b>(&self, head: &Parts, body: &'b Bytes) -> Result<Form<'b>, Problem> {
        let value = head.headers.get(CONTENT_TYPE);
        let Some(value) = value.filter(|_| self.looks_at_media_types() && !body.is_empty()) else {
            return Ok(Form::Bytes);
        };
        let essence = media_type::essence(value);
        if self.multipart && essence.starts_with(b"multipart/") {
            let boundary = media_type::parameter(value, "boundary");
            let parts = boundary.and_then(|boundary| multipart::parts(body, &boundary));
            return parts.map(Form::Parts).ok_or(Problem::BodyNotComparable);
        }
        #[cfg(feature = "json")]
        if self.json && media_type::is_json(&essence) {
            let canonical = super::json::canonical(body);
            return canonical.map(Form::Canonical).ok_or(Problem::BodyNotComparable);
        }
        Ok(Form::Bytes)
    }

    /// Whether any option depends on the media type of a request.
    fn looks_at_media_types(&self) -> bool {
        #[cfg(feature = "json")]
        if self.json {
            return true;
        }
        self.only_media_type || self.multipart
    }

    /// Whether the parameters of this media type are ignored.
    fn is_without_parameters(&self, essence: &[u8]) -> bool {
        #[cfg(feature = "json")]
        if self.json && media_type::is_json(essence) {
            return true;
        }
        self.only_media_type || self.multipart && essence.starts_with(b"multipart/")
    }

    /// The form in which a header is compared.
    fn value<'v>(&self, name: &HeaderName, value: &'v HeaderValue) -> Cow<'v, [u8]> {
        if self.looks_at_media_types() && name == CONTENT_TYPE {
            let essence = media_type::essence(value);
            if self.is_without_parameters(&essence) {
                return Cow::Owned(essence);
            }
        }
        Cow::Borrowed(value.as_bytes())
    }

    /// Each part is framed, and so is the number of values of each header. So requests that differ
    /// in any of these parts have different fingerprints.
    fn of_request(&self, head: &Parts, body: &[u8], form: Form<'_>) -> Fingerprint {
        let query = head.uri.query();
        let mut parts: Vec<Cow<'_, [u8]>> = Vec::with_capacity(5 + 3 * self.headers.len());
        parts.push(Cow::Borrowed(head.method.as_str().as_bytes()));
        parts.push(Cow::Borrowed(head.uri.path().as_bytes()));
        parts.push(Cow::Borrowed(if query.is_some() { &[1] } else { &[0] }));
        parts.push(Cow::Borrowed(query.unwrap_or_default().as_bytes()));
        for name in &self.headers {
            let values = head.headers.get_all(name);
            parts.push(Cow::Borrowed(name.as_str().as_bytes()));
            parts.push(Cow::Owned(values.iter().count().to_string().into_bytes()));
            parts.extend(values.iter().map(|value| self.value(name, value)));
        }
        match form {
            Form::Bytes => parts.push(Cow::Borrowed(body)),
            Form::Parts(of_body) => {
                // The other forms have just one part here.
                parts.push(Cow::Borrowed(b"multipart"));
                parts.extend(of_body.into_iter().map(Cow::Borrowed));
            }
            #[cfg(feature = "json")]
            Form::Canonical(canonical) => parts.push(Cow::Owned(canonical)),
        }
        Fingerprint::of_parts(parts)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(content_type: &'static str) -> Parts {
        let request = Request::post("/orders?a=b").header(CONTENT_TYPE, content_type);
        request.body(()).expect("it is a request").into_parts().0
    }

    /// Changing the default would make each retry across an upgrade a mismatch.
    #[test]
    fn the_default_stays_as_it_is() {
        let body = Bytes::from_static(b"{ }");
        let by_default = FingerprintOf::default();
        let computed = by_default.compute(&head("application/json"), &body).expect("it counts");
        let parts: [&[u8]; 8] =
            [b"POST", b"/orders", &[1], b"a=b", b"content-type", b"1", b"application/json", b"{ }"];
        assert!(computed.matches(&Fingerprint::of_parts(parts)));
    }
}
