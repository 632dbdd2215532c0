//! The background thread: it settles the log, sweeps, and records that the wall clock has moved. It
//! sleeps in between.
//!
//! Little depends on it. Whether a key has expired is decided when the key is asked for, a full log
//! is settled by the call that finds it full, a key that finds no room sweeps by itself, and the
//! next write records the wall clock.
//!
//! Callers shouldn't notice when many keys expire at once. So the thread sweeps in short slices,
//! settles a sealed segment before the next slice, and pauses after each slice.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::error::{Error, OpenError};
use crate::local::journal::Journal;
use crate::local::wake::Wake;
use crate::sync::Arc;
use crate::sync::thread::{Builder, JoinHandle};

/// The log is settled once its oldest change is this old, even if there's little in it.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// The shortest time between two sweeps, so that keys that expire one by one are swept in bulk. It
/// is also the longest pause within a sweep.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two sweeps. It bounds how late a sweep is after the clock was moved by
/// hand.
const SWEEP_WITHIN: Duration = Duration::from_secs(60);

/// How often to check the wall clock. It bounds how long a jump of the clock isn't recorded.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many times longer than a slice the pause after it is, at the beginning of a sweep.
const PAUSE: u32 = 8;

/// A sweep that has run for this long pauses half as long, after twice this time a third as long,
/// and so on.
const LONG: Duration = Duration::from_secs(10);

pub(crate) fn spawn(journal: Arc<Journal>, wake: Arc<Wake>) -> Result<JoinHandle<()>, OpenError> {
    Builder::new()
        .name("idemstore-sweeper".to_owned())
        .spawn(move || {
            let mut upkeep = Upkeep::new(&journal);
            // An error has poisoned the store. There's nothing left to do here: the next caller
            // gets the error.
            while upkeep.step().is_ok_and(|idle| wake.sleep(idle)) {}
        })
        .map_err(|source| OpenError::Io { action: "start the background thread", source })
}

struct Upkeep<'j> {
    journal: &'j Journal,
    sweep_at: Instant,
    /// When the current, unfinished sweep began.
    sweeping_since: Option<Instant>,
}

impl<'j> Upkeep<'j> {
    fn new(journal: &'j Journal) -> Self {
        Self { journal, sweep_at: Instant::now(), sweeping_since: None }
    }

    /// Does one thing that is due: a settle, or else one slice of a sweep. Returns how long there
    /// is nothing more to do, unless the thread is woken.
    fn step(&mut self) -> Result<Duration, Error> {
        self.journal.note_clock()?;
        self.journal.tend_reserve();
        let (age, sealed) = self.journal.unsettled_for();
        if sealed || age.is_some_and(|age| SETTLE_AFTER <= age) {
            if sealed { self.journal.settle_full() } else { self.journal.settle() }?;
            // Changes that the vault has just received may have expired already.
            self.sweep_at = self.sweep_at.min(Instant::now() + SWEEP_EVERY);
            return Ok(Duration::ZERO);
        }
        if self.sweep_at <= Instant::now() {
            self.sweep()?;
        }
        let until_settle = age.map_or(LOOK_EVERY, |age| SETTLE_AFTER.saturating_sub(age));
        let until_sweep = self.sweep_at.saturating_duration_since(Instant::now());
        Ok(until_settle.min(until_sweep).min(LOOK_EVERY))
    }

    fn sweep(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let rest = if self.journal.sweep()?.is_cut {
            let since = *self.sweeping_since.get_or_insert(started);
            pause(started.elapsed(), since.elapsed())
        } else {
            self.sweeping_since = None;
            let next = self.journal.next_expiry()?.unwrap_or(SWEEP_WITHIN);
            next.clamp(SWEEP_EVERY, SWEEP_WITHIN)
        };
        self.sweep_at = Instant::now() + rest;
        Ok(())
    }
}

/// How long to pause after a slice that took `slice`, in a sweep that has run for `sweeping`.
///
/// A growing backlog keeps a sweep from finishing. So the longer a sweep runs, the shorter it
/// pauses, until it deletes more records than expire. How long ago its records expired wouldn't be
/// a measure of that: they may have expired while the store was closed.
fn pause(slice: Duration, sweeping: Duration) -> Duration {
    let share = LONG.as_secs_f64() / LONG.saturating_add(sweeping).as_secs_f64();
    slice.min(SWEEP_EVERY).saturating_mul(PAUSE).mul_f64(share).min(SWEEP_EVERY)
}
