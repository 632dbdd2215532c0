//! The service as a process: its flags, and its life from the open of the store to its close.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use idemstore::Store;
use idemstore::http::Start;
use tokio::signal::unix::{SignalKind, signal};

use super::api::Api;
use super::objects::Objects;

/// An HTTP API for customers and vendors whose requests can be sent again.
#[derive(Clone, Debug, Parser)]
pub struct Flags {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The directory of the store. The objects are in `objects.log` beside it.
    #[arg(long, default_value = "customers/store")]
    pub store: PathBuf,
    /// How long an idempotency key stays used: a number with ms, s, m or h.
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub retention: Duration,
    /// When a request counts as run.
    #[arg(long, default_value = "by-handler")]
    pub start: When,
    /// Lets a request whose key is in flight wait for the outcome, in place of a 409.
    #[arg(long)]
    pub wait: bool,
    /// How long a create takes.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    pub delay: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum When {
    BeforeHandler,
    ByHandler,
}

/// The longest that a request waits with `--wait`.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit());
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a number with ms, s, m or h is needed".to_owned()),
    };
    let number = text.trim_end_matches(unit).parse::<u64>().map_err(|error| error.to_string())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or("it is too long".to_owned())
}

/// Serves until a SIGTERM or a SIGINT, then finishes what has started.
pub async fn serve(flags: Flags) -> Result<(), Box<dyn Error>> {
    let beside = flags.store.parent().ok_or("the store needs a directory around it")?;
    std::fs::create_dir_all(beside)?;
    let objects = Objects::open(&beside.join("objects.log"))?;
    let store = Store::builder().retention(flags.retention).open(&flags.store)?;
    let api = Api {
        store: store.clone(),
        objects,
        start: match flags.start {
            When::BeforeHandler => Start::BeforeHandler,
            When::ByHandler => Start::ByHandler,
        },
        wait: flags.wait.then_some(WAIT_MAX),
        delay: flags.delay,
    };
    let listener = tokio::net::TcpListener::bind(flags.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    axum::serve(listener, api.router())
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        })
        .await?;
    // A client may have left before its handler was done.
    while store.stats().in_flight != 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::task::spawn_blocking(move || store.close()).await??;
    Ok(())
}
