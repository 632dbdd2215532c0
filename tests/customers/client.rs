//! Requests over a socket, as plain text.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;

pub use super::answer::Answer;

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A POST of this body, in one piece.
pub fn post(path: &str, key: &str, body: &str) -> String {
    request("POST", path, &[("Idempotency-Key", key)], body)
}

/// A request with these headers and a JSON body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let len = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n\
         Content-Type: application/json\r\n{headers}\r\n{body}"
    )
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Sends a request and waits for its answer; `None` if the server went away first.
pub fn send(server: SocketAddr, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    Answer::read(stream)
}

/// Sends the same request this many times at once.
pub fn send_at_once(server: SocketAddr, request: &str, times: usize) -> Vec<Answer> {
    thread::scope(|scope| {
        let senders: Vec<_> = (0..times).map(|_| scope.spawn(|| send(server, request))).collect();
        let answers = senders.into_iter().map(|sender| sender.join().expect("it does not panic"));
        answers.map(|answer| answer.expect("the server answers")).collect()
    })
}
