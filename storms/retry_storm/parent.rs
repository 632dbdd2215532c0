//! The process that kills: it starts the child, watches its progress, and ends it.

use std::collections::{HashMap, HashSet};
use std::env;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::killed::is_killed;
use crate::logs::{AckTail, Place};
use crate::rng::Rng;
use crate::{Args, Result};

/// How often the parent looks.
const POLL: Duration = Duration::from_micros(500);
/// A child that answers no client for this long hangs.
const STALLED: Duration = Duration::from_secs(60);
/// What has happened so far.
pub(crate) struct Storm {
    pub(crate) kills: u32,
    pub(crate) starts: u32,
    pub(crate) acks: Acked,
    pub(crate) took: Duration,
}

/// What clients received.
#[derive(Default)]
pub(crate) struct Acked {
    /// Digest of the first result that was reported for each order.
    pub(crate) first: HashMap<u32, String>,
    /// Orders for which two different results were reported.
    pub(crate) differing: HashSet<u32>,
    pub(crate) count: u64,
}

impl Acked {
    fn take(&mut self, order: u32, digest: &str) {
        self.count += 1;
        if self.first.entry(order).or_insert_with(|| digest.to_owned()) != digest {
            self.differing.insert(order);
        }
    }

    fn orders(&self) -> u32 {
        u32::try_from(self.first.len()).unwrap_or(u32::MAX)
    }
}

/// When a child is killed.
#[derive(Debug)]
struct Kill {
    after: After,
    delay: Duration,
}

#[derive(Debug)]
enum After {
    /// Its start, when it creates, opens or recovers the store.
    Start,
    /// Its first answer, when it finds out about interrupted orders.
    FirstAnswer,
    /// This many orders are done. The delay is cut short when `latest` are.
    Orders { done: u32, latest: u32 },
}

/// How a child ended.
enum End {
    Killed,
    Finished,
}

/// Runs children until all orders are done and all kills are delivered.
pub(crate) fn run(args: &Args, place: &Place) -> Result<Storm> {
    let started = Instant::now();
    let mut watch = Watch {
        args,
        tail: AckTail::open(place)?,
        acks: Acked::default(),
        rng: Rng::new(args.seed, u64::MAX),
        kills: 0,
        bar: progress_bar(args.orders)?,
    };
    // A child may be done before its kill comes, and is then started once more. That is rare: only
    // a store that makes no progress would need this many starts.
    let starts_max = args.kills.saturating_mul(4).saturating_add(50);
    for start in 1..=starts_max {
        watch.bar.set_message(format!("{} of {} kills", watch.kills, args.kills));
        let child = Guarded::start(args, place, start)?;
        match watch.watch(child)? {
            End::Killed => watch.kills += 1,
            End::Finished if watch.is_done() => {
                watch.bar.finish_and_clear();
                let Watch { kills, acks, .. } = watch;
                return Ok(Storm { kills, starts: start, acks, took: started.elapsed() });
            }
            End::Finished => {}
        }
    }
    Err(format!("not done after {starts_max} starts").into())
}

fn progress_bar(orders: u32) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {msg}, {elapsed}")?;
    Ok(ProgressBar::new(orders.into()).with_style(style))
}

struct Watch<'a> {
    args: &'a Args,
    tail: AckTail,
    acks: Acked,
    rng: Rng,
    kills: u32,
    bar: ProgressBar,
}

impl Watch<'_> {
    fn is_done(&self) -> bool {
        self.acks.orders() == self.args.orders && self.kills == self.args.kills
    }

    /// Watches a child until it ends, killed or not.
    fn watch(&mut self, mut child: Guarded) -> Result<End> {
        let (kill, answers_before) = (self.next_kill(), self.acks.count);
        let mut due_since = None;
        let mut progress = (answers_before, Instant::now());
        loop {
            self.look()?;
            if progress.0 != self.acks.count {
                progress = (self.acks.count, Instant::now());
            }
            if STALLED <= progress.1.elapsed() {
                return Err(format!("no answer for {} seconds", STALLED.as_secs()).into());
            }
            if let Some(status) = child.0.try_wait()? {
                return self.ended(child, status);
            }
            if let Some(kill) = &kill
                && self.is_due(kill, answers_before, &mut due_since)
            {
                child.0.kill()?;
                let status = child.0.wait()?;
                return self.ended(child, status);
            }
            thread::sleep(POLL);
        }
    }

    fn is_due(&self, kill: &Kill, answers_before: u64, since: &mut Option<Instant>) -> bool {
        let orders = self.acks.orders();
        let (is_due, is_overdue) = match kill.after {
            After::Start => (true, false),
            After::FirstAnswer => (answers_before < self.acks.count, false),
            After::Orders { done, latest } => (done <= orders, latest <= orders),
        };
        if is_due {
            since.get_or_insert_with(Instant::now);
        }
        is_overdue || since.is_some_and(|since| kill.delay <= since.elapsed())
    }

    /// Kills are spread evenly over the orders, so that neither runs out before the other. Some
    /// come earlier than that, right after a start: the very first does, while the store is
    /// created.
    fn next_kill(&mut self) -> Option<Kill> {
        if self.args.kills <= self.kills {
            return None;
        }
        let is_first = self.kills == 0;
        let are_all_done = self.acks.orders() == self.args.orders;
        let (after, delay_us) = match self.rng.below(8) {
            choice if choice < 2 || is_first || are_all_done => (After::Start, 40_000),
            2 => (After::FirstAnswer, 2_000),
            _ => (self.after_share(), 20_000),
        };
        Some(Kill { after, delay: Duration::from_micros(self.rng.below(delay_us)) })
    }

    /// The share of the orders that is done before the next kill. Whatever the share, this child
    /// must have completed something.
    fn after_share(&self) -> After {
        let Args { orders, kills, .. } = *self.args;
        // Half of the distance between two kills.
        let shares = |n: u32| u64::from(orders) * u64::from(n) / (2 * (u64::from(kills) + 1));
        let after = |n| u32::try_from(shares(n)).unwrap_or(orders).max(self.acks.orders() + 1);
        let due = 2 * (self.kills + 1);
        After::Orders { done: after(due), latest: after(due + 1) }
    }

    fn look(&mut self) -> Result<()> {
        let Self { tail, acks, .. } = self;
        tail.poll(|order, digest| acks.take(order, digest))?;
        self.bar.set_position(self.acks.orders().into());
        Ok(())
    }

    /// Only the operating system's word counts as a kill: the child may have been faster.
    fn ended(&mut self, child: Guarded, status: ExitStatus) -> Result<End> {
        // What it has answered in the meantime.
        self.look()?;
        let said = child.said()?;
        // It prints only complaints, and after one it doesn't matter how it ended.
        match (is_killed(status), status.success()) {
            (true, _) if said.is_empty() => Ok(End::Killed),
            (_, true) if said.is_empty() => Ok(End::Finished),
            _ => Err(format!("the child has ended with {status}: {}", said.trim_end()).into()),
        }
    }
}

/// A child that never outlives its parent, even if the parent fails.
struct Guarded(Child);

impl Guarded {
    /// Its standard input is a pipe that closes when this process ends, see
    /// `child::end_with_parent`.
    fn start(args: &Args, place: &Place, generation: u32) -> Result<Self> {
        let child = Command::new(env::current_exe()?)
            .arg(format!("--child={generation}"))
            .arg(format!("--orders={}", args.orders))
            .arg(format!("--threads={}", args.threads))
            .arg(format!("--seed={}", args.seed))
            .arg("--store")
            .arg(place.store())
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
