//! The process that kills: it starts the child, watches its progress, and ends it.

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::booking::Step;
use crate::provider;
use crate::rng::Rng;
use crate::{Args, Result};

/// How often the parent looks.
const POLL: Duration = Duration::from_micros(200);
/// A child that isn't done by then hangs.
const STALLED: Duration = Duration::from_secs(120);

pub(crate) struct Storm {
    pub(crate) kills: u32,
    pub(crate) starts: u32,
}

/// Starts children and kills them, until all bookings are made and all kills are delivered.
pub(crate) fn run(args: &Args, place: &Path) -> Result<Storm> {
    let mut rng = Rng::new(args.seed, u64::MAX);
    let mut storm = Storm { kills: 0, starts: 0 };
    // A child may be done before its kill comes, and is then started once more. That is rare: only
    // a store that makes no progress would need this many starts.
    let starts_max = args.kills.saturating_mul(4).saturating_add(50);
    while storm.starts < starts_max {
        storm.starts += 1;
        let mut child = Guarded::start(args, place, storm.starts)?;
        let kill = (storm.kills < args.kills)
            .then(|| Kill::choose(args, place, storm.kills, &mut rng))
            .transpose()?;
        match child.watch(place, kill.as_ref())? {
            End::Killed => storm.kills += 1,
            End::Finished if storm.kills == args.kills => return Ok(storm),
            End::Finished => {}
        }
    }
    Err(format!("not done after {starts_max} starts").into())
}

/// When a child is killed: this long after the journal has this many lines.
struct Kill {
    lines: u64,
    delay: Duration,
}

impl Kill {
    /// Kills are spread evenly over the steps that are left. One in four comes soon after the
    /// start of the child, which opens or recovers the store then.
    fn choose(args: &Args, place: &Path, kills: u32, rng: &mut Rng) -> Result<Self> {
        let lines = provider::lines(place)?;
        let left = (u64::from(args.bookings) * Step::ALL.len() as u64).saturating_sub(lines);
        let share = left / u64::from(args.kills - kills);
        let (more, delay_us) = match share {
            // All is done, and a child that finds it done ends at once too.
            0 => (0, 4_000),
            _ if rng.one_in(4) => (0, 30_000),
            _ => (1 + rng.below(2 * share), 2_000),
        };
        let delay = Duration::from_micros(rng.below(delay_us));
        Ok(Self { lines: lines + more, delay })
    }
}

enum End {
    Killed,
    Finished,
}

/// A child that never outlives its parent, even if the parent fails.
struct Guarded(Child);

impl Guarded {
    /// Its standard input is a pipe that closes when this process ends, see
    /// `booking::end_with_parent`.
    fn start(args: &Args, place: &Path, generation: u32) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .arg(format!("--child={generation}"))
            .arg(format!("--bookings={}", args.bookings))
            .arg(format!("--seed={}", args.seed))
            .arg("--place")
            .arg(place);
        if args.sabotage {
            command.arg("--sabotage");
        }
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?))
    }

    /// Waits until it ends, killed or not.
    fn watch(&mut self, place: &Path, kill: Option<&Kill>) -> Result<End> {
        let started = Instant::now();
        let mut due_since = None;
        loop {
            if self.0.try_wait()?.is_some() {
                break;
            }
            if let Some(kill) = kill
                && kill.lines <= provider::lines(place)?
                && kill.delay <= due_since.get_or_insert_with(Instant::now).elapsed()
            {
                self.0.kill()?;
                break;
            }
            if STALLED <= started.elapsed() {
                return Err(format!("no end after {} seconds", STALLED.as_secs()).into());
            }
            thread::sleep(POLL);
        }
        // Only the operating system's word counts: the child may have been faster. A process that a
        // signal has ended has no exit code, except on Windows.
        let status = self.0.wait()?;
        match status.code() {
            Some(0) => Ok(End::Finished),
            None => Ok(End::Killed),
            Some(1) if cfg!(windows) => Ok(End::Killed),
            Some(_) => Err(format!("the child has ended with {status}").into()),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail if it is already dead, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
