//! A store with one or two clients, and what is done to it as a whole.

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

    /// All that our client was told.
    pub fn into_seen(self) -> Vec<Seen> {
        self.ours.seen
    }

    /// A step of a client that is not there is left out; one of the whole place is not.
    pub fn run(&mut self, by_us: bool, op: &Op) {
        let bench = self.bench.as_ref().expect("the store is open between two steps");
        match *op {
            Op::Tick { ms } => {
                self.now += u64::from(ms);
                bench.clock.set(Timestamp::from_unix_ms(self.now));
            }
            Op::StepBack { ms } => {
                // What the store has seen of time it has seen for all: a time that nobody has
                // asked in cannot hold it.
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

    /// Our client looks at its keys in a copy.
    fn back_up(&mut self, seed: u64) {
        let bench = self.bench.as_ref().expect("the store is open between two steps");
        let disk = SimDisk::new();
        bench.store.backup_on(disk.clone()).expect("it is copied");
        let disk = disk.after_power_cut(chooser(seed));
        // A store notes the time when it writes. What a copy makes of a clock that was set back
        // since then is no matter of scopes.
        let clock = ManualClock::new(Timestamp::from_unix_ms(self.now));
        let copy = builder(&clock).open_on(disk).expect("the copy opens");
        for key in 0..KEYS {
            self.ours.get("in the copy", &copy, key);
        }
    }

    fn restart(&mut self, restart: impl FnOnce(Bench) -> Bench) {
        let bench = self.bench.take().expect("the store is open between two steps");
        // Nor is what a restart makes of it.
        bench.clock.set(Timestamp::from_unix_ms(self.now));
        let handles = (self.ours.take_handles(), self.other.as_mut().map(Client::take_handles));
        self.bench = Some(restart(bench));
        drop(handles);
    }
}

/// Numbers below the one that is asked for, from a seed.
fn chooser(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = splitmix(seed);
        seed % below
    }
}
