//! Looks for what a crash could do to a store, based on the system calls that the store makes.
//!
//! See the README for what it models.

mod campaign;
mod check;
mod client;
mod disk;
mod future;
mod history;
mod image;
mod look;
mod process;
mod replay;
mod tell;
mod teller;
mod trace;
mod truth;
mod workload;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Parser, Subcommand};

use campaign::Campaign;
use disk::Ignored;

#[derive(Debug, Parser)]
#[command(
    about = "Rebuilds a store's files as crashes leave them, from traces of its system calls"
)]
struct Arguments {
    #[command(flatten)]
    campaign: CampaignArguments,
    #[command(subcommand)]
    command: Option<Work>,
}

#[derive(Debug, Args)]
struct CampaignArguments {
    /// Images to look at
    #[arg(long, default_value_t = 20_000)]
    images: u64,
    /// The first history's seed; those after it have the next ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Histories that are checked at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The kind of sync that counts for nothing, to see that this is found
    #[arg(long)]
    ignore_sync: Option<Ignored>,
    /// Fail if nothing is found
    #[arg(long)]
    must_fail: bool,
    /// Check a history that was kept, instead of new ones
    #[arg(long)]
    history: Option<PathBuf>,
    /// Check only the cut with this number, in each history
    #[arg(long)]
    cut: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// The traced program: one life of a process that uses a store
    #[command(hide = true)]
    Work { root: PathBuf, seed: u64, life: u64 },
}

fn main() -> ExitCode {
    let Arguments { campaign, command } = Arguments::parse();
    if let Some(Work::Work { root, seed, life }) = command {
        workload::run(&root, seed, life);
        return ExitCode::SUCCESS;
    }
    if campaign.history.is_none() && !has_strace() {
        eprintln!("`strace` is missing (it is the Debian package of that name), or may not trace");
        return ExitCode::from(2);
    }
    let must_fail = campaign.must_fail;
    let summary = Campaign::new(campaign).run();
    println!("{summary}");
    // A broken history proves nothing: neither that all is well, nor that something has failed
    // which must fail.
    let is_as_told = summary.broken == 0 && must_fail == (0 < summary.failures);
    if is_as_told { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether a program can be traced here.
fn has_strace() -> bool {
    let mut strace = Command::new("strace");
    let traced = strace.args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    traced.is_ok_and(|status| status.success())
}
