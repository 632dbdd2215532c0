//! A merchant of the Agentic Commerce Protocol, limited to its section on idempotency.
//!
//! ```text
//! cargo run --features json --example agentic_checkout -- --listen 127.0.0.1:8080
//! ```

#![expect(unreachable_pub, reason = "it has no users")]

mod checkout;
mod contract;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use idemstore::Store;

#[derive(Parser)]
struct Flags {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The directory of the store.
    #[arg(long, default_value = "checkout/store")]
    store: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    if let Some(beside) = flags.store.parent() {
        std::fs::create_dir_all(beside)?;
    }
    let store = Store::open(&flags.store)?;
    let layer = contract::layer(store.clone());
    let merchant = checkout::Merchant::default();
    let listener = tokio::net::TcpListener::bind(flags.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, contract::service(merchant, layer.clone()))
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    let left = layer.drain(Duration::from_secs(30)).await;
    println!("{left} checkouts are interrupted");
    tokio::task::spawn_blocking(move || store.close()).await??;
    Ok(())
}
