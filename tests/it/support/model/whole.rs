//! What is done to the store as a whole: time, upkeep, copies, and the ways in which it ends.

use idemstore::{CopyError, Status, Timestamp};

use super::{Bench, Holder, SimDisk, World, splitmix};
use crate::support::ops::{KEYS, Op, Request};

impl World {
    pub(super) fn run_whole(&mut self, op: &Op) {
        match *op {
            Op::Tick { ms } => {
                self.now += u64::from(ms);
                self.bench().clock.set(Timestamp::from_unix_ms(self.now));
            }
            Op::StepBack { ms } => {
                // A time that the store has never seen cannot hold it.
                drop(self.bench().begin("another", "request"));
                let back = Timestamp::from_unix_ms(self.now.saturating_sub(u64::from(ms)));
                self.bench().clock.set(back);
            }
            Op::Sweep => {
                self.bench().store.sweep().expect("it sweeps");
            }
            Op::Settle => self.bench().store.settle().expect("it settles"),
            Op::Count => self.count(),
            Op::Compact => {
                self.bench().store.compact().expect("it is made smaller");
            }
            Op::Backup { seed } => self.backup(seed),
            Op::Reopen => self.restart(Bench::reopen),
            Op::Kill => self.restart(Bench::kill),
            Op::PowerCut { seed } => self.restart(|bench| bench.cut(chooser(seed))),
            ref other => panic!("{other:?} is done elsewhere"),
        }
    }

    /// What has expired counts for nothing but as a record until it is swept.
    fn count(&self) {
        let store = &self.bench().store;
        let held = self.keys.values().filter(|state| state.holder != Holder::Nobody).count();
        let known = |key: &u8| self.counting(*key).1;
        let records = (0..KEYS).filter(|key| known(key).is_some()).count();
        let live = (0..KEYS).filter(|key| known(key).is_some_and(|known| self.now < known.expires));
        let live = live.count();
        let interrupted =
            (0..KEYS).filter(|key| self.status(*key) == Some(Status::Interrupted)).count();
        let stats = store.stats();
        assert_eq!((stats.live, stats.in_flight, stats.waited_for), (live, held, 0));
        assert_eq!(stats.interrupted, interrupted);
        store.settle().expect("it settles");
        while 0 < store.sweep().expect("it sweeps") {}
        let stats = store.stats();
        assert_eq!((stats.live, stats.in_flight), (live, held));
        assert_eq!((stats.records, stats.sweep_backlog), (records, records - live));
        assert_eq!((stats.interrupted, stats.unsettled_changes), (interrupted, 0));
        #[cfg(feature = "transaction")]
        self.check_rows();
    }

    /// A copy has all that was acknowledged, durably, and nobody runs anything in it.
    fn backup(&self, seed: u64) {
        let (store, disk) = (&self.bench().store, SimDisk::new());
        store.backup_on(disk.clone()).expect("it is copied");
        assert!(matches!(store.backup_on(disk.clone()), Err(CopyError::Exists)));
        let disk = disk.after_power_cut(chooser(seed));
        let copy = Self::on(disk, self.bench().hash_mask, self.now);
        let mut copy = Self { keys: self.keys_at_rest(), rows: self.rows.clone(), ..copy };
        copy.list(None, 0);
        copy.count();
        for key in 0..KEYS {
            copy.get(key);
            copy.begin(Request { key, request: 0 });
        }
    }

    /// Ends the store and opens it again. Handles of before can do nothing any more.
    fn restart(&mut self, restart: impl FnOnce(Bench) -> Bench) {
        let bench = self.bench.take().expect("the store is open between two operations");
        // What a restart makes of a clock that was set back is a matter of `retention.rs`.
        bench.clock.set(Timestamp::from_unix_ms(self.now));
        // Held while the store is closed or killed, as in a program that ends.
        let handles = std::mem::take(&mut self.handles);
        self.bench = Some(restart(bench));
        drop(handles);
        self.keys = self.keys_at_rest();
        #[cfg(feature = "transaction")]
        self.check_rows();
    }
}

/// Numbers below the one that is asked for, from a seed.
fn chooser(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = splitmix(seed);
        seed % below
    }
}
