//! The service as a process: its flags, and its life from opening the store to closing it.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use idemstore::Store;
use idemstore::http::Start;
use tokio::signal::unix::{SignalKind, signal};

use super::api::Api;
use super::exchange::Peer;
use super::objects::Objects;
use super::provider;
use super::verification::Verification;

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
    /// Lets a request whose key is in flight wait for the outcome, instead of a 409.
    #[arg(long)]
    pub wait: bool,
    /// Refuses a POST or PUT without an idempotency key.
    #[arg(long)]
    pub require_key: bool,
    /// How long a create takes.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    pub delay: Duration,
    /// Where the provider of verifications listens. Without one, the service verifies by itself.
    #[arg(long, requires = "secret_file")]
    pub provider: Option<SocketAddr>,
    /// The file with the secret that the service and the provider send each other. Without one, the
    /// secret is random.
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum When {
    BeforeHandler,
    ByHandler,
}

/// The longest that a request waits with `--wait`, and that the shutdown waits for a handler.
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

/// The secret that the service and the provider share.
fn secret(file: Option<&Path>) -> Result<String, Box<dyn Error>> {
    let Some(file) = file else {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        return Ok(blake3::Hash::from(secret).to_string());
    };
    let secret = std::fs::read_to_string(file)?.trim().to_owned();
    // It is sent as a header.
    let is_sendable = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sendable { Ok(secret) } else { Err("the secret must be of visible ASCII".into()) }
}

/// Serves until a SIGTERM or a SIGINT, then finishes what has started.
pub async fn serve(flags: Flags) -> Result<(), Box<dyn Error>> {
    let beside = flags.store.parent().ok_or("the store needs a directory around it")?;
    std::fs::create_dir_all(beside)?;
    let secret = secret(flags.secret_file.as_deref())?;
    let objects = Objects::open(&beside.join("objects.log"))?;
    let store = Store::builder().retention(flags.retention).open(&flags.store)?;
    let listener = tokio::net::TcpListener::bind(flags.listen).await?;
    let service = Peer { address: listener.local_addr()?, secret: secret.clone() };
    let provider = Peer { address: flags.provider.unwrap_or(service.address), secret };
    let api = Api {
        store: store.clone(),
        objects,
        verification: Verification::new(provider),
        start: match flags.start {
            When::BeforeHandler => Start::BeforeHandler,
            When::ByHandler => Start::ByHandler,
        },
        require_key: flags.require_key,
        wait: flags.wait.then_some(WAIT_MAX),
        delay: flags.delay,
    };
    println!("listening on http://{}", service.address);
    let layer = api.layer();
    let mut router = api.router(layer.clone());
    if flags.provider.is_none() {
        router = router.merge(provider::router(service));
    }
    axum::serve(listener, router).with_graceful_shutdown(told_to_end()?).await?;
    // A client may have left before its handler was done. Operations that wait for an event are
    // interrupted, and the event finds them after the next start.
    layer.drain(WAIT_MAX).await;
    tokio::task::spawn_blocking(move || store.close()).await??;
    Ok(())
}

/// Waits for a SIGTERM or a SIGINT.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}
