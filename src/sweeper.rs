//! The background thread: it settles the log, sweeps, and writes down that the wall clock has moved.
//! It is asleep in between.
//!
//! Little depends on it. Whether a key has expired is decided when it is asked for, a full log is
//! settled by the call that finds it full, and the next write has what the wall clock shows. Only
//! records that have expired count towards the number of keys until they are swept.

use std::time::{Duration, Instant};

use crate::error::{Error, OpenError};
use crate::journal::Journal;
use crate::limits::SWEEP_RECORDS_MAX;
use crate::sync::Arc;
use crate::sync::thread::{Builder, JoinHandle};
use crate::wake::Wake;

/// What is in the log is settled when it is as old as this, even if there is little of it.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// The least time between two sweeps, so that keys which expire one by one are swept in bulk.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two sweeps. It bounds how late one is after the clock was moved by hand.
const SWEEP_WITHIN: Duration = Duration::from_secs(60);

/// How often the wall clock is looked at. It bounds for how long a jump of it is not written down.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn spawn(journal: Arc<Journal>, wake: Arc<Wake>) -> Result<JoinHandle<()>, OpenError> {
    Builder::new()
        .name("idemstore-sweeper".to_owned())
        .spawn(move || {
            // An error has poisoned the store, and there is nothing left to do here: the next
            // caller is told.
            let _ = run(&journal, &wake);
        })
        .map_err(|source| OpenError::Io { action: "start the sweeper's thread", source })
}

fn run(journal: &Journal, wake: &Wake) -> Result<(), Error> {
    let mut next_sweep = Duration::ZERO;
    let mut started = Instant::now();
    loop {
        journal.note_clock()?;
        journal.tend_reserve();
        let (age, sealed) = journal.unsettled_for();
        if sealed || age.is_some_and(|age| SETTLE_AFTER <= age) {
            if sealed { journal.settle_full() } else { journal.settle() }?;
            // What the vault has just got may have expired already.
            next_sweep = next_sweep.min(SWEEP_EVERY);
            continue;
        }
        if next_sweep <= started.elapsed() {
            sweep(journal, wake)?;
            started = Instant::now();
            next_sweep =
                journal.next_expiry()?.unwrap_or(SWEEP_WITHIN).clamp(SWEEP_EVERY, SWEEP_WITHIN);
        }
        let until_settle = age.map_or(LOOK_EVERY, |age| SETTLE_AFTER.saturating_sub(age));
        let until_sweep = next_sweep.saturating_sub(started.elapsed());
        if !wake.sleep(until_settle.min(until_sweep).min(LOOK_EVERY)) {
            return Ok(());
        }
    }
}

/// Slice after slice until one is not full.
fn sweep(journal: &Journal, wake: &Wake) -> Result<(), Error> {
    while !wake.is_stopped() && journal.sweep()? == SWEEP_RECORDS_MAX {}
    Ok(())
}
