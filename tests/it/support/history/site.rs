//! Where a store is, and how it is opened there.

use std::path::PathBuf;

use idemstore::sim::{Directory, OpenOn};
use idemstore::{ManualClock, Store, Timestamp};

use super::Dice;
use super::caller::Attic;
use super::pause::{Before, SlowClock, SlowDisk, pause};
use crate::support::{START_MS, SimDisk, builder};

#[derive(Clone)]
pub enum Place {
    Sim(SimDisk),
    Real(PathBuf),
}

pub struct Site {
    pub place: Place,
    pub clock: ManualClock,
    hash_mask: u64,
    cache_bytes: usize,
    /// What callers have leaked. It keeps the directory of a closed store locked.
    pub attic: Attic,
}

impl Site {
    pub fn new(place: Place, dice: &mut Dice) -> Self {
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        // With no bit of their hash left, the live table can't tell keys apart by hash.
        let hash_mask = if dice.one_in(2) { 0 } else { u64::MAX };
        // Without a cache each record is read from the disk, which takes time.
        let cache_bytes = if dice.one_in(2) { 0 } else { 1024 * 1024 };
        Self { place, clock, hash_mask, cache_bytes, attic: Attic::default() }
    }

    pub fn open(&self) -> Store {
        let clock = SlowClock(self.clock.clone());
        let builder = builder(&self.clock)
            .clock(clock)
            .hash_mask(self.hash_mask)
            .cache_bytes(self.cache_bytes);
        let before = Before::new(pause);
        let opened = match &self.place {
            Place::Sim(disk) => builder.open_on(SlowDisk { disk: disk.clone(), before }),
            Place::Real(path) => builder.open_on(SlowDisk { disk: Directory::new(path), before }),
        };
        opened.expect("the store opens")
    }

    /// The simulated disk, the only one on which kills and faults are possible.
    pub fn disk(&self) -> &SimDisk {
        match &self.place {
            Place::Sim(disk) => disk,
            Place::Real(path) => panic!("{} is no simulated disk", path.display()),
        }
    }
}
