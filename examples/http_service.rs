//! An HTTP service with the layer, and a client that sends a request again.
//!
//! `cargo run --features tower --example http_service`

use std::net::SocketAddr;

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::{Router, routing::post};
use idemstore::Store;
use idemstore::http::{IdempotencyLayer, Operation, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    // `Scope::shared` is for a service with one tenant.
    let layer = IdempotencyLayer::new(store, Scope::shared("orders")).require_key(true);
    let app = Router::new().route("/orders", post(order)).layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let first = send(address, "Idempotency-Key: order-1\r\n", "2 apples").await?;
    let again = send(address, "Idempotency-Key: order-1\r\n", "2 apples").await?;
    let other = send(address, "Idempotency-Key: order-1\r\n", "9 apples").await?;
    let without = send(address, "", "2 apples").await?;
    for (what, answer) in
        [("first", &first), ("again", &again), ("other body", &other), ("no key", &without)]
    {
        println!("{what}: {}", answer.lines().next().unwrap_or_default());
    }
    assert!(again.contains("idempotent-replayed: true"), "it was not run again");
    assert_eq!(first.lines().last(), again.lines().last());
    Ok(())
}

async fn order(Extension(operation): Extension<Operation>, body: String) -> (StatusCode, String) {
    // The key for a service that this handler calls: the same in each attempt.
    println!("  (taking an order, {}..)", &operation.downstream_key("charge")[..8]);
    (StatusCode::CREATED, format!("{body} are on their way"))
}

/// Sends a request, and gives the answer as text.
async fn send(address: SocketAddr, header: &str, body: &str) -> Result<String, Error> {
    let mut stream = TcpStream::connect(address).await?;
    let len = body.len();
    let request = format!(
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}Content-Length: {len}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
