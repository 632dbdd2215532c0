//! A store with one or two clients, and operations on the whole store.

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{ManualClock, Timestamp};

use super::client::{Client, Seen};
use crate::support::model::splitmix;
use crate::support::ops::{KEYS, Op};
use crate::support::{Bench, START_MS, SimDisk, builder};

pub struct Place {
    /// Taken out only while the store is opened again.
    bench: Option<Bench>,
    ours: Client,
    other: Option<Client>,
    /// The latest time seen.
    now: u64,
}

impl Place {
    pub fn new(ours: &'static str, other: Option<&'static str>, hash_mask: u64) -> Self {
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        Self {
            bench: Some(Bench::with(SimDisk::new(), clock, hash_mask)),
            ours: Client::new(ours),
            other: other.map(Client::new),
            now: START_MS,
        }
    }

    /// Everything that our client was told.
    pub fn into_seen(self) -> Vec<Seen> {
        self.ours.seen
    }

    /// A step of an absent client is skipped; a step of the whole store is not.
    pub fn run(&mut self, by_us: bool, op: &Op) {
        let bench = self.bench.as_ref().expect("the store is open between two steps");
        match *op {
            Op::Tick { ms } => {
                self.now += u64::from(ms);
                bench.clock.set(Timestamp::from_unix_ms(self.now));
            }
            Op::StepBack { ms } => {
                // The store has one time for all clients. Let it see the present one, or it would
                // not stay at it.
                drop(bench.begin("of nobody", "request"));
                let back = self.now.saturating_sub(u64::from(ms));
                bench.clock.set(Timestamp::from_unix_ms(back));
            }
            Op::Settle => bench.store.settle().expect("it settles"),
            Op::Sweep | Op::Count => {
                bench.store.sweep().expect("it sweeps");
            }
            Op::Compact => {
                bench.store.compact().expect("it is made smaller");
            }
            Op::Backup { seed } => self.back_up(seed),
            // Executions that live keep the directory of a closed store locked.
            Op::Reopen => {
                drop((self.ours.take_handles(), self.other.as_mut().map(Client::take_handles)));
                self.restart(Bench::reopen);
            }
            Op::Kill => self.restart(Bench::kill),
            Op::PowerCut { seed } => self.restart(|bench| bench.cut(chooser(seed))),
            _ => {
                let client = if by_us { Some(&mut self.ours) } else { self.other.as_mut() };
                if let Some(client) = client {
                    client.run(&bench.store, op);
                }
            }
        }
    }

    /// Our client checks its keys in a copy.
    fn back_up(&mut self, seed: u64) {
        let bench = self.bench.as_ref().expect("the store is open between two steps");
        let disk = SimDisk::new();
        bench.store.backup_on(disk.clone()).expect("it is copied");
        let disk = disk.after_power_cut(chooser(seed));
        // A store records the time when it writes. What a copy makes of a clock that was set back
        // since then has nothing to do with scopes.
        let clock = ManualClock::new(Timestamp::from_unix_ms(self.now));
        let copy = builder(&clock).open_on(disk).expect("the copy opens");
        for key in 0..KEYS {
            self.ours.get("in the copy", &copy, key);
        }
    }

    fn restart(&mut self, restart: impl FnOnce(Bench) -> Bench) {
        let bench = self.bench.take().expect("the store is open between two steps");
        // Nor has what a restart makes of it.
        bench.clock.set(Timestamp::from_unix_ms(self.now));
        let handles = (self.ours.take_handles(), self.other.as_mut().map(Client::take_handles));
        self.bench = Some(restart(bench));
        drop(handles);
    }
}

/// Numbers below the requested one, from a seed.
fn chooser(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = splitmix(seed);
        seed % below
    }
}
