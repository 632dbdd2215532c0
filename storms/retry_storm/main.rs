//! A storm of retries over a process that is killed again and again.
//!
//! `cargo run --example retry_storm`
//!
//! This process starts itself again as a child. The child is a server under load: client threads
//! send every order several times, some at the same moment, some with a changed body. Each order
//! has an effect outside the store, a line in `effects.log`. Meanwhile the parent kills the child
//! with SIGKILL at random moments, and starts it again on the same store.
//!
//! At the end the parent checks from outside: each order has had its effect exactly once, and the
//! store replays for it, byte for byte, what any client ever received.

mod child;
mod client;
#[path = "../support/killed.rs"]
mod killed;
mod logs;
mod parent;
mod plan;
#[path = "../support/rng.rs"]
mod rng;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use logs::Place;

/// Any failure. It is only ever printed.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Kills a process that works through orders, and checks that each was executed exactly once.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Orders to work through; each is requested three to five times, and again after kills.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    orders: u32,
    /// Times that the process is killed.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=100_000))]
    kills: u32,
    /// Client threads of the process.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// The seed of all random choices. An odd one makes a small log, which fills up often.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory of the store, new or empty; the logs are put beside it. By default everything is
    /// put into a new directory for temporary files.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// This is the process to be killed, started for the n-th time.
    #[arg(long, value_name = "N", hide = true)]
    child: Option<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let passed = match args.child {
        Some(generation) => child::run(&args, generation).map(|()| true),
        None => storm(&args),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("retry_storm: {error}");
            // Not 1, which is the exit code of a killed process on Windows.
            ExitCode::from(2)
        }
    }
}

/// Whether the store has passed.
fn storm(args: &Args) -> Result<bool> {
    let place = match &args.store {
        Some(store) => Place::new(store)?,
        None => Place::new(&fresh_directory()?.join("store"))?,
    };
    place.claim()?;
    println!("store:        {}", place.store().display());
    println!("effects log:  {}\n", place.effects().display());
    let storm = parent::run(args, &place)?;
    let verdict = verify::verify(args, &place, &storm)?;
    println!("{verdict}");
    println!("seen twice:   cut -d' ' -f1 {} | sort | uniq -d", place.effects().display());
    println!(
        "run it again: cargo run --example retry_storm -- \
         --orders {} --kills {} --threads {} --seed {}",
        args.orders, args.kills, args.threads, args.seed
    );
    Ok(verdict.passed())
}

/// It is kept, so that its contents can be inspected.
fn fresh_directory() -> Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("retry-storm-").tempdir()?.keep())
}
