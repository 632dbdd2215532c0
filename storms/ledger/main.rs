//! Money moves between accounts, exactly once, in a process that is killed again and again.
//!
//! `cargo run --features transaction --example ledger`
//!
//! Balances and results live in the store's one redb file, so a transfer and its record are one
//! transaction: [`Permit::complete_with`](idemstore::Permit::complete_with). After a crash nothing
//! is in doubt, unlike with an effect in another system (`retry_storm` shows that).
//!
//! This process starts itself again as a child, the server. Client threads of this process send it
//! each transfer at least twice, over loopback, and resend whenever the answer doesn't come, while
//! the server is killed with SIGKILL at random moments.
//!
//! At the end the server is stopped, and this process opens the store itself. From the answers that
//! the clients received it recomputes every balance, and compares: each transfer was applied once
//! or, if it was refused, never; and the store replays, byte for byte, what any client ever
//! received.
//!
//! `--sabotage split` shows that the checks would notice: the server then moves the money in one
//! transaction and completes the key in another call, as a program without `complete_with` would.

mod audit;
mod bank;
mod child;
mod client;
#[path = "../support/killed.rs"]
mod killed;
mod notes;
#[path = "../support/rng.rs"]
mod rng;
mod server;
mod storm;
mod transfer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Any failure. It is only ever printed.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Kills a server that moves money, and checks that each transfer was applied exactly once.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Transfers; each is sent at least twice, and again when an answer is lost.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    transfers: u32,
    /// Times that the server is killed.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=100_000))]
    kills: u32,
    /// Accounts. The fewer there are, the more transfers collide.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    accounts: u32,
    /// Client threads.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// The seed of all random choices. An odd one makes a small log, which fills up often.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory of the store, new or empty. By default it is a new one for temporary files.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Breaks the server on purpose, to show that the checks notice.
    #[arg(long, value_name = "HOW")]
    sabotage: Option<Sabotage>,
    /// This is the server, which the parent process has started.
    #[arg(long, hide = true)]
    child: bool,
}

/// How the server is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// The money moves in one transaction, and the key is completed in a second call: a kill in
    /// between leaves the key free, and the transfer is applied again.
    Split,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let passed = if args.child { server::run(&args).map(|()| true) } else { storm(&args) };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ledger: {error}");
            // Not 1, which is the exit code of a killed process on Windows.
            ExitCode::from(2)
        }
    }
}

/// Whether the store has passed.
fn storm(args: &Args) -> Result<bool> {
    let store = match &args.store {
        Some(store) => claim(store)?,
        None => fresh_directory()?.join("store"),
    };
    println!("store:        {}\n", store.display());
    let outcome = storm::run(args, &store)?;
    let verdict = audit::audit(args, &store, &outcome)?;
    println!("{verdict}");
    println!("run it again: {}", command(args));
    Ok(verdict.passed())
}

/// Claims this directory, unless an older run has left something in it: runs are never mixed.
fn claim(store: &Path) -> Result<PathBuf> {
    if store.exists() && std::fs::read_dir(store)?.next().is_some() {
        let store = store.display();
        return Err(format!("{store} is not empty: choose a new directory, or delete it").into());
    }
    Ok(store.to_owned())
}

/// It is kept, so that its contents can be inspected.
fn fresh_directory() -> Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("ledger-").tempdir()?.keep())
}

fn command(args: &Args) -> String {
    let sabotage = if args.sabotage.is_some() { " --sabotage split" } else { "" };
    format!(
        "cargo run --features transaction --example ledger -- \
         --transfers {} --kills {} --accounts {} --threads {} --seed {}{sabotage}",
        args.transfers, args.kills, args.accounts, args.threads, args.seed
    )
}
