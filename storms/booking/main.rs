//! Books trips in three steps, in a process that is killed again and again.
//!
//! `cargo run --example booking`
//!
//! A booking reserves a seat, charges a card and sends a ticket. Each step is an effect in another
//! system, which sometimes refuses a step, and sometimes does it and never answers. After each step
//! the booking stores a checkpoint. This process starts itself again as a child, which works
//! through all bookings, and kills it with SIGKILL at random moments. An interrupted booking
//! resumes from its last checkpoint. For the one step that no checkpoint covers, it asks the other
//! system whether that step has happened.
//!
//! At the end, everything is checked from outside: in the other system's journal each step of each
//! booking has happened exactly once and in order, and the store replays every ticket.
//!
//! No booking is given up. A refused step did not happen, and is tried again, so every booking ends
//! in the same state. That is simpler than undoing a seat and a charge, which would be further
//! steps with their own checkpoints: `docs/guide/saga.md` shows them.
//!
//! `--sabotage` shows that the check can fail: each attempt then starts from the first step, and
//! asks nothing.

mod booking;
mod parent;
mod provider;
#[path = "../support/rng.rs"]
mod rng;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Any failure. It is only ever printed.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Kills a process that books trips in steps, and checks that each step has happened exactly once.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Trips to book.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bookings: u32,
    /// Times that the process is killed.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=100_000))]
    kills: u32,
    /// The seed of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ignore all checkpoints, start from the first step and ask nothing: the check must fail.
    #[arg(long)]
    sabotage: bool,
    /// This is the process to be killed, started for the n-th time.
    #[arg(long, value_name = "N", hide = true, requires = "place")]
    child: Option<u32>,
    /// Directory of the store and of the journal.
    #[arg(long, hide = true)]
    place: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let passed = match (args.child, &args.place) {
        (Some(generation), Some(place)) => booking::child(&args, place, generation).map(|()| true),
        _ => run(&args),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("booking: {error}");
            // Not 1, which is the exit code of a killed process on Windows.
            ExitCode::from(2)
        }
    }
}

/// Whether everything is as it should be.
fn run(args: &Args) -> Result<bool> {
    let began = Instant::now();
    let directory = tempfile::Builder::new().prefix("booking-").tempdir()?;
    let place = directory.path();
    provider::create(place)?;
    let storm = parent::run(args, place)?;
    let verdict = verify::verify(args, place)?;
    let word = if verdict.passed() { "PASSED" } else { "FAILED" };
    println!("{} kills, {} starts of the process; {verdict}", storm.kills, storm.starts);
    println!("{word} in {:.1} s", began.elapsed().as_secs_f64());
    Ok(verdict.passed())
}
