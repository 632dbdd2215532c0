//! Requests over a socket, as plain text.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub const ACME: &str = "token-of-acme";
pub const BOLT: &str = "token-of-bolt";

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn is_replayed(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// The name of the problem that this is.
    pub fn problem(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let (_, name) = self.body.split_once("#variant.").expect("its type has a name");
        name.split_once('"').expect("it ends").0
    }

    /// The same without what tells a replay from the first answer.
    pub fn like_the_first(mut self) -> Self {
        self.headers.remove("idempotent-replayed");
        self.headers.remove("date");
        self
    }
}

/// `POST /payments` for so many cents.
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

/// Sends a request, and waits for nothing.
pub fn begin(server: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.write_all(request.as_bytes()).expect("the server reads");
    stream
}

/// The answer to a request that was sent; `None` if the server went away before.
pub fn end(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).expect("it answers with text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("it is a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Answer { status, headers, body: body.to_owned() })
}
