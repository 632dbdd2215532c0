//! A consumer of a queue that is killed again and again.
//!
//! `cargo run --example consumer`
//!
//! A queue that loses nothing delivers some messages twice: it can't know whether an unacknowledged
//! message was consumed. Here a file is the queue, and a fifth of its messages are redeliveries,
//! some of them right behind the original. A child process consumes it in batches, with one fsync
//! for all starts of a batch and one for all completions: `begin_many`, `start_many`, the effects,
//! `complete_many`. The effect of a message is a line in `effects.log`, and the answer that
//! acknowledges it, a line in `acks.log`, names that line.
//!
//! Meanwhile the parent kills the child with SIGKILL at random moments, and starts it again on the
//! same store. The new child continues after the last acknowledged message, so it gets everything
//! again that the old one had not acknowledged. Messages that the old one had started are
//! interrupted, and the new one looks in the effects log to find out what became of them.
//!
//! At the end the parent checks from outside: each message has had its effect exactly once, and
//! each position of the queue was answered with that effect.
//!
//! `--sabotage` shows that this check can fail: the child then runs interrupted messages again
//! without asking, as a consumer without a store would, and the exit code is 1.

mod consumer;
#[path = "../support/killed.rs"]
mod killed;
mod killer;
mod logs;
mod queue;
#[path = "../support/rng.rs"]
#[expect(dead_code, reason = "the other examples choose in more ways")]
mod rng;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use logs::Place;
use verdict::Verdict;

/// Any failure. It is only ever printed.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Kills a process that consumes a queue, and checks that each message had its effect exactly once.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Messages in the queue; a fifth of them are redeliveries.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: u32,
    /// Messages that are consumed together.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Times that the process is killed.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(..=100_000))]
    kills: u32,
    /// The seed of all random choices. An odd one makes a small log, which fills up often.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs interrupted messages again, without asking whether their effects happened. Some effects
    /// then happen twice, and the exit code must be 1.
    #[arg(long)]
    sabotage: bool,
    /// New or empty directory for the store, the queue and the logs; by default one for temporary
    /// files.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// This is the process to be killed, started for the n-th time.
    #[arg(long, value_name = "N", hide = true)]
    child: Option<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let passed = match args.child {
        Some(generation) => consumer::run(&args, generation).map(|()| true),
        None => consume_under_kills(&args),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("consumer: {error}");
            // Not 1, which is the exit code of a killed process on Windows.
            ExitCode::from(2)
        }
    }
}

/// Whether the store has passed.
fn consume_under_kills(args: &Args) -> Result<bool> {
    let place = match &args.directory {
        Some(directory) => Place::new(directory),
        None => Place::new(&fresh_directory()?),
    };
    place.claim()?;
    queue::generate(&place, args.seed, args.messages)?;
    println!("queue:        {}", place.queue().display());
    println!("effects log:  {}", place.effects().display());
    println!("acks log:     {}\n", place.acks().display());
    let killed = killer::run(args, &place)?;
    let verdict = Verdict::reach(args, &place, &killed)?;
    println!("{verdict}");
    println!("seen twice:   cut -d' ' -f1 {} | sort | uniq -d", place.effects().display());
    println!(
        "run it again: cargo run --example consumer -- \
         --messages {} --batch {} --kills {} --seed {}{}",
        args.messages,
        args.batch,
        args.kills,
        args.seed,
        if args.sabotage { " --sabotage" } else { "" }
    );
    Ok(verdict.passed())
}

/// It is kept, so that its contents can be inspected.
fn fresh_directory() -> Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("consumer-").tempdir()?.keep())
}
