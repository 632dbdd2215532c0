//! The process that kills: it starts the child, watches its progress, and ends it.

use std::env;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::killed::is_killed;
use crate::logs::{Acks, Effects, Place};
use crate::queue;
use crate::rng::Rng;
use crate::{Args, Result};

/// How often the parent looks.
const POLL: Duration = Duration::from_micros(200);
/// A child that does nothing for this long hangs.
const STALLED: Duration = Duration::from_secs(60);
/// How soon an early kill comes after a start, and a late one after an effect.
const EARLY: Duration = Duration::from_millis(30);
const LATE: Duration = Duration::from_millis(8);

/// What has happened so far.
pub(crate) struct Killed {
    pub(crate) kills: u32,
    pub(crate) starts: u32,
    pub(crate) took: Duration,
}

/// When a child is killed.
#[derive(Clone, Copy, Debug)]
struct Kill {
    /// Effects of all children that have happened.
    effects: u64,
    /// How much later.
    delay: Duration,
}

/// How a child ended.
enum End {
    Killed,
    Finished,
}

/// Runs children until all messages are acknowledged and all kills are delivered.
pub(crate) fn run(args: &Args, place: &Place) -> Result<Killed> {
    let started = Instant::now();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {msg}, {elapsed}")?;
    let mut watch = Watch {
        args,
        effects: Effects::watch(place)?,
        acks: Acks::open(place)?,
        rng: Rng::new(args.seed, u64::MAX - 1),
        kills: 0,
        early: EARLY,
        bar: ProgressBar::new(args.messages.into()).with_style(style),
    };
    // A child may be done before its kill comes, and is then started once more. That is rare: only
    // a store that makes no progress would need this many starts.
    let starts_max = args.kills.saturating_mul(4).saturating_add(50);
    for start in 1..=starts_max {
        watch.bar.set_message(format!("{} of {} kills", watch.kills, args.kills));
        let child_started = Instant::now();
        let child = Guarded::start(args, place, start)?;
        match watch.watch(child)? {
            End::Killed => watch.kills += 1,
            End::Finished if watch.is_done()? => {
                watch.bar.finish_and_clear();
                return Ok(Killed { kills: watch.kills, starts: start, took: started.elapsed() });
            }
            // It was faster than its kill, and the next child won't be slower.
            End::Finished => watch.early = watch.early.min(child_started.elapsed()),
        }
    }
    Err(format!("not done after {starts_max} starts").into())
}

struct Watch<'a, E> {
    args: &'a Args,
    effects: E,
    acks: Acks,
    rng: Rng,
    kills: u32,
    /// The latest time of an early kill.
    early: Duration,
    bar: ProgressBar,
}

impl<E: Fn() -> io::Result<u64>> Watch<'_, E> {
    fn is_done(&self) -> Result<bool> {
        let are_answered = self.acks.count()? == u64::from(self.args.messages);
        Ok(are_answered && self.kills == self.args.kills)
    }

    /// Watches a child until it ends, killed or not.
    fn watch(&mut self, mut child: Guarded) -> Result<End> {
        let kill = self.next_kill()?;
        let mut due_since = None;
        let mut progress = ((0, 0), Instant::now());
        loop {
            let now = ((self.effects)()?, self.acks.count()?);
            if progress.0 != now {
                progress = (now, Instant::now());
                self.bar.set_position(now.1);
            }
            if STALLED <= progress.1.elapsed() {
                return Err(format!("nothing was done for {} seconds", STALLED.as_secs()).into());
            }
            if let Some(status) = child.0.try_wait()? {
                return ended(child, status);
            }
            if let Some(kill) = kill
                && kill.effects <= now.0
                && kill.delay <= due_since.get_or_insert_with(Instant::now).elapsed()
            {
                child.0.kill()?;
                let status = child.0.wait()?;
                return ended(child, status);
            }
            thread::sleep(POLL);
        }
    }

    /// Each kill has its share of the effects, and comes at a random one of them, or shortly after,
    /// while the store is being written. Some kills come right after a start, while the store is
    /// created or recovered, and interrupted messages are settled.
    fn next_kill(&mut self) -> Result<Option<Kill>> {
        if self.args.kills <= self.kills {
            return Ok(None);
        }
        let all = u64::from(queue::distinct(self.args.messages));
        let done = (self.effects)()?;
        let is_early = self.kills == 0 || all <= done || self.rng.below(5) == 0;
        let (effects, latest) = if is_early {
            (0, self.early)
        } else {
            let share = self.rng.below(1_000) + 1_000 * u64::from(self.kills);
            let effects = all * share / (1_000 * u64::from(self.args.kills));
            // Half of the kills should come amid the effects, which take only a part of the time.
            let latest = if self.rng.below(2) == 0 { Duration::ZERO } else { LATE };
            // Whatever the share, this child must have done something.
            (effects.max(done + 1), latest)
        };
        let delay = latest * u32::try_from(self.rng.below(1_000))? / 1_000;
        Ok(Some(Kill { effects, delay }))
    }
}

/// Only the operating system's word counts as a kill: the child may have been faster.
fn ended(child: Guarded, status: ExitStatus) -> Result<End> {
    let said = child.said()?;
    // It prints only complaints, and after one it doesn't matter how it ended.
    match (is_killed(status), status.success()) {
        (true, _) if said.is_empty() => Ok(End::Killed),
        (_, true) if said.is_empty() => Ok(End::Finished),
        _ => Err(format!("the child has ended with {status}: {}", said.trim_end()).into()),
    }
}

/// A child that never outlives its parent, even if the parent fails.
struct Guarded(Child);

impl Guarded {
    /// Its standard input is a pipe that closes when this process ends, see
    /// `consumer::end_with_parent`.
    fn start(args: &Args, place: &Place, generation: u32) -> Result<Self> {
        let child = Command::new(env::current_exe()?)
            .arg(format!("--child={generation}"))
            .arg(format!("--batch={}", args.batch))
            .arg(format!("--seed={}", args.seed))
            .args(args.sabotage.then_some("--sabotage"))
            .arg("--directory")
            .arg(place.directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    /// What it has written to its standard error. It is dead, so this ends.
    fn said(mut self) -> Result<String> {
        let mut said = Vec::new();
        if let Some(stderr) = &mut self.0.stderr {
            stderr.read_to_end(&mut said)?;
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail if it is already dead, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
