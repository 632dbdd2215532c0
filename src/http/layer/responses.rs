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
    /// Leaves these headers of a response out of what is stored, beside `Date`, `Set-Cookie` and those
    /// of a connection.
    pub fn leave_out_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.options().unstored_headers.extend(names);
        self
    }

    /// Stores these headers of a response, of those that are left out by default: a retry gets them as
    /// they were. `Set-Cookie` hands the session of the first client to the one that retries.
    pub fn store_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let stored: Vec<_> = names.into_iter().collect();
        self.options().unstored_headers.retain(|name| !stored.contains(name));
        self
    }

    /// The longest body of a response that is kept, in bytes; 1 MiB by default, and no more than
    /// what the [store takes](crate::Builder::result_len_max), which counts the head too: with both
    /// defaults the body and its head have 1 MiB together. A longer one is sent to the client that asked first, and a retry gets [`Problem::ResponseNotKept`].
    pub fn response_len_max(mut self, bytes: usize) -> Self {
        self.options().response_len_max = bytes;
        self
    }

    /// Which responses are streams, from their heads; those of the type `text/event-stream` by default.
    ///
    /// A stream is sent as it comes, and kept as other responses are, if it ends within the
    /// [limit](Self::response_len_max). Its end is not told before it is stored. If its client leaves
    /// before, or it fails, the key is interrupted. One that has a `Content-Length` is no stream.
    pub fn streams(
        mut self,
        tell: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.options().streams = Arc::new(tell);
        self
    }

    /// Whether a response with `Cache-Control: no-store` is stored; by default only its length and
    /// digest are, and a retry gets [`Problem::ResponseNotKept`]: it may have a secret in it.
    /// [`without_keeping`](crate::http::without_keeping) says the same of any response.
    pub fn keep_no_store(mut self, keep: bool) -> Self {
        self.options().keep_no_store = keep;
        self
    }

    /// Whether each response to a request with a key has that key in the same header, as the client has
    /// sent it; by default it has not. Replays and problems have it too.
    pub fn echo_key(mut self, echo: bool) -> Self {
        self.options().echo_key = echo;
        self
    }

    /// What `Retry-After` says, in whole seconds; 1 by default, and at least.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.options().retry_after_secs = whole_seconds(after).max(1);
        self
    }

    /// Answers problems in another form than `application/problem+json`, from the problem and the head of
    /// the request. The problem stays in the extensions of the response, and `Retry-After` is added
    /// where it has none and the problem may pass.
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

    /// The base of each problem's `type`, such as `https://api.example.com/problems/`: the name of the
    /// [`Problem`] follows it. By default it is the page of that problem in this documentation. It takes
    /// the place of [`on_problem`](Self::on_problem).
    pub fn problem_base(mut self, base: impl Into<String>) -> Self {
        let base = uri(&base.into());
        self.options().on_problem = Some(Arc::new(move |problem, _, _| problem.response(&base)));
        self
    }
}

/// The same with all percent-encoded that no URI has, so that JSON needs no more.
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
