//! Requests over a socket, as plain text.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

pub use super::answer::Answer;

pub const ACME: &str = "token-of-acme";
pub const BOLT: &str = "token-of-bolt";

impl Answer {
    /// The name of this problem.
    pub fn problem(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let (_, name) = self.body.split_once("#variant.").expect("its type has a name");
        name.split_once('"').expect("it ends").0
    }
}

/// `POST /payments` for this many cents.
pub fn pay(token: &str, key: Option<&str>, cents: u64) -> String {
    let key = key.map(|key| format!("Idempotency-Key: \"{key}\"\r\n")).unwrap_or_default();
    let body = format!(r#"{{"cents":{cents}}}"#);
    let len = body.len();
    format!(
        "POST /payments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer \
         {token}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n{key}\r\n{body}"
    )
}

pub fn get(token: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer \
         {token}\r\n\r\n"
    )
}

/// Sends a request without waiting for anything.
pub fn begin(server: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.write_all(request.as_bytes()).expect("the server reads");
    stream
}

/// The answer to a request that was sent; `None` if the server went away first.
pub fn end(stream: TcpStream) -> Option<Answer> {
    Answer::read(stream)
}
