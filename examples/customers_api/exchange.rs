//! A POST to another service, and the status of its answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long to wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A longer answer isn't read to its end.
const ANSWER_LEN_MAX: u64 = 64 * 1024;

/// The header with the secret that the service and the provider of verifications share.
pub const SECRET: &str = "verification-secret";

/// Where another service listens, and the secret to send it.
#[derive(Clone)]
pub struct Peer {
    pub address: SocketAddr,
    pub secret: String,
}

impl Peer {
    /// Sends a JSON body. `None` if there is no answer: the request may have arrived or not.
    pub async fn post(&self, path: &str, body: &str) -> Option<StatusCode> {
        let answer =
            tokio::time::timeout(ANSWER_MAX, self.exchange(path, body)).await.ok()?.ok()?;
        let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        StatusCode::from_bytes(status).ok()
    }

    async fn exchange(&self, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let Self { address, secret } = self;
        let len = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {len}\r\n{SECRET}: {secret}\r\n\r\n\
             {body}"
        );
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer).await?;
        Ok(answer)
    }
}
