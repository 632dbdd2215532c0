//! An HTTP service with the layer, and a client that sends its order again.
//!
//! `cargo run --features tower --example http_service`

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::{Router, http::StatusCode, routing::post};
use idemstore::Store;
use idemstore::http::{IdempotencyLayer, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    // `Scope::shared` is for a service with one tenant.
    let layer = IdempotencyLayer::new(store.clone(), Scope::shared("orders")).require_key(true);

    let orders = Arc::new(AtomicU32::new(0));
    let taken = Arc::clone(&orders);
    let order = async move || {
        let number = 1 + taken.fetch_add(1, Ordering::Relaxed);
        (StatusCode::CREATED, format!("order {number}"))
    };
    let app = Router::new().route("/orders", post(order)).layer(layer.clone());

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (end, ended) = oneshot::channel::<()>();
    let service = axum::serve(listener, app).with_graceful_shutdown(async { drop(ended.await) });
    let (served, asked) = tokio::join!(service.into_future(), async {
        let asked = client(address).await;
        drop(end);
        asked
    });
    served?;
    asked?;
    // A handler outlives a client that leaves. None is left at this point.
    assert_eq!(layer.drain(Duration::from_secs(5)).await, 0);
    tokio::task::spawn_blocking(move || store.close()).await??;
    assert_eq!(orders.load(Ordering::Relaxed), 1, "one order was taken");
    Ok(())
}

async fn client(address: SocketAddr) -> Result<()> {
    let key = "Idempotency-Key: \"key-1\"\r\n";
    let first = send(address, "the order:", key, "2 apples").await?;
    let again = send(address, "the same again:", key, "2 apples").await?;
    let other = send(address, "another body:", key, "9 apples").await?;
    let without = send(address, "without a key:", "", "2 apples").await?;

    assert!(first.starts_with("HTTP/1.1 201 ") && first.ends_with("\r\n\r\norder 1"));
    assert!(again.starts_with("HTTP/1.1 201 ") && again.ends_with("\r\n\r\norder 1"));
    assert!(again.contains("\r\nidempotent-replayed: true\r\n"));
    assert!(other.starts_with("HTTP/1.1 422 ") && without.starts_with("HTTP/1.1 400 "));
    Ok(())
}

/// Sends a request over a new connection, and returns the response as text.
async fn send(address: SocketAddr, what: &str, key: &str, body: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "POST /orders HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{key}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    println!("{what:15} {}", response.lines().next().unwrap_or_default());
    Ok(response)
}
