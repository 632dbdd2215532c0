//! Options: what is stored of a response, and what is sent.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Response, response};

use super::IdempotencyLayer;
use crate::http::config::whole_seconds;
use crate::http::{Body, Problem};
use crate::sync::Arc;

impl IdempotencyLayer {
    /// Leaves these headers of a response out of what is stored, in addition to `Date`,
    /// `Set-Cookie` and the headers of a connection.
    pub fn leave_out_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.options().unstored_headers.extend(names);
        self
    }

    /// Stores these headers of a response although they are left out by default: a retry gets them
    /// as they were. Storing `Set-Cookie` hands the first client's session to the client that
    /// retries.
    pub fn store_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let stored: Vec<_> = names.into_iter().collect();
        self.options().unstored_headers.retain(|name| !stored.contains(name));
        self
    }

    /// The longest body of a response that is kept, in bytes; 1 MiB by default. The [limit of the
    /// store](crate::Builder::result_len_max) applies too, and counts the head: with both defaults,
    /// body and head have 1 MiB together. A longer response is sent to the client that asked first,
    /// and a retry gets [`Problem::ResponseNotKept`].
    pub fn response_len_max(mut self, bytes: usize) -> Self {
        self.options().response_len_max = bytes;
        self
    }

    /// Which responses are streams, by their heads; by default those of type `text/event-stream`.
    ///
    /// A stream is sent as it comes, and kept like any other response if it ends within the
    /// [limit](Self::response_len_max). Its end is held back until it is stored. If the client
    /// disconnects before that, or the stream fails, the key is interrupted. A response with a
    /// `Content-Length` is never a stream.
    pub fn streams(
        mut self,
        tell: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.options().streams = Arc::new(tell);
        self
    }

    /// Whether a response with `Cache-Control: no-store` is stored. By default only its length and
    /// digest are, since it may have a secret in it, and a retry gets [`Problem::ResponseNotKept`].
    /// [`without_keeping`](crate::http::without_keeping) does the same for any response.
    pub fn keep_no_store(mut self, keep: bool) -> Self {
        self.options().keep_no_store = keep;
        self
    }

    /// Whether each response to a request with a key repeats the key in the same header, as the
    /// client sent it; by default it doesn't. This includes replays and problems.
    pub fn echo_key(mut self, echo: bool) -> Self {
        self.options().echo_key = echo;
        self
    }

    /// The value of `Retry-After`, rounded up to whole seconds; 1 by default, and at least 1.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.options().retry_after_secs = whole_seconds(after).max(1);
        self
    }

    /// Answers problems in another form than `application/problem+json`, made from the problem and
    /// the head of the request. The problem stays in the extensions of the response. `Retry-After`
    /// is added if a retry may succeed and the response doesn't have it.
    ///
    /// ```
    /// use http::Response;
    /// use idemstore::http::{IdempotencyLayer, Problem, Scope};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).on_problem(|problem, _| {
    ///     let code = match problem {
    ///         Problem::KeyReused => "idempotency_conflict",
    ///         Problem::InFlight => "idempotency_in_flight",
    ///         _ => "idempotency_error",
    ///     };
    ///     let mut response = Response::new(format!(r#"{{"code":"{code}"}}"#));
    ///     *response.status_mut() = problem.status();
    ///     response
    /// })
    /// # }
    /// ```
    pub fn on_problem<B>(
        mut self,
        restate: impl Fn(Problem, &Parts) -> Response<B> + Send + Sync + 'static,
    ) -> Self
    where
        B: Into<Bytes>,
    {
        let restate = move |problem, _: &Response<Body>, head: &Parts| {
            restate(problem, head).map(|body| Body::from(body.into()))
        };
        self.options().on_problem = Some(Arc::new(restate));
        self
    }

    /// The base of each problem's `type`, such as `https://api.example.com/problems/`; the name of
    /// the [`Problem`] follows it. By default the `type` is the page of the problem in this
    /// documentation. This option and [`on_problem`](Self::on_problem) replace each other.
    pub fn problem_base(mut self, base: impl Into<String>) -> Self {
        let base = uri(&base.into());
        self.options().on_problem = Some(Arc::new(move |problem, _, _| problem.response(&base)));
        self
    }
}

/// Percent-encodes everything that can't appear in a URI, so JSON needs no further escaping.
fn uri(text: &str) -> String {
    let mut uri = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\') {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_uri_has_is_percent_encoded() {
        assert_eq!(uri("https://example.com/problems#"), "https://example.com/problems#");
        assert_eq!(uri("a\"b\\c d\n\u{e9}"), "a%22b%5Cc%20d%0A%C3%A9");
    }
}
