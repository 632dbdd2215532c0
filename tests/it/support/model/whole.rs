//! Operations on the whole store: time, maintenance, copies, and the ways in which it ends.

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{CopyError, Fingerprint, ManualClock, OpenError, Status, Timestamp};

use super::{
    Bench, Done, Handle, Holder, Known, SimDisk, World, bench, name, options, splitmix, unplug,
};
use crate::support::faults::Failing;
use crate::support::key;
use crate::support::ops::{ALL_KEYS, LEN_MAX, Op, Request};

impl World {
    pub(super) fn run_whole(&mut self, op: &Op) {
        match *op {
            Op::Tick { ms } => {
                self.now += u64::from(ms);
                self.bench().clock.set(Timestamp::from_unix_ms(self.now));
            }
            Op::StepBack { ms } => {
                // Let the store see the present time, or it would not stay at it.
                drop(self.bench().store.begin(&key("another"), Fingerprint::NONE));
                let back = Timestamp::from_unix_ms(self.now.saturating_sub(u64::from(ms)));
                self.bench().clock.set(back);
            }
            Op::Sweep => {
                let swept = self.bench().store.sweep();
                self.said(swept);
            }
            Op::Settle => {
                let settled = self.bench().store.settle();
                self.said(settled);
            }
            Op::Count => self.count(),
            Op::Compact => {
                if let Err(failure) = self.bench().store.compact() {
                    self.copy_failed(&failure);
                }
            }
            Op::Backup { seed } => self.backup(seed),
            Op::Reopen | Op::Kill | Op::PowerCut { .. } => self.restart(op),
            ref other => panic!("{other:?} is done elsewhere"),
        }
    }

    /// An expired record no longer affects answers, but it counts as a record until it is swept.
    fn count(&mut self) {
        let store = self.bench().store.clone();
        let held = self.keys.values().filter(|state| state.holder != Holder::Nobody).count();
        let known = |key: &u8| self.counting(*key).1;
        let records = (0..ALL_KEYS).filter(|key| known(key).is_some()).count();
        let live =
            (0..ALL_KEYS).filter(|key| known(key).is_some_and(|known| self.now < known.expires));
        let live = live.count();
        let interrupted =
            (0..ALL_KEYS).filter(|key| self.status(*key) == Some(Status::Interrupted)).count();
        let stats = store.stats();
        assert_eq!((stats.live, stats.in_flight, stats.waited_for), (live, held, 0));
        assert_eq!(stats.interrupted, interrupted);
        let upkeep = store.settle().and_then(|()| {
            while 0 < store.sweep()? {}
            Ok(())
        });
        if self.said(upkeep).is_none() {
            return;
        }
        let stats = store.stats();
        assert_eq!((stats.live, stats.in_flight), (live, held));
        assert_eq!((stats.records, stats.sweep_backlog), (records, records - live));
        assert_eq!((stats.interrupted, stats.unsettled_changes), (interrupted, 0));
        assert_eq!(stats.bytes, (0..ALL_KEYS).map(|key| self.bytes(key)).sum::<u64>());
        #[cfg(feature = "transaction")]
        self.check_rows();
    }

    /// What a key counts for: with its result, or with the longest possible one while it has none.
    fn bytes(&self, key: u8) -> u64 {
        let result_len = match self.counting(key) {
            (Holder::Nobody, None) => return 0,
            (_, Some(Known { done: Some((_, Done::Result(result))), .. })) => result.len() as u64,
            (_, Some(Known { done: Some((_, Done::NotKept(_))), .. })) => 0,
            (_, _) => LEN_MAX.into(),
        };
        let name = name(key);
        128 + 1 + (name.scope().len() + name.as_bytes().len()) as u64 + result_len
    }

    /// A copy durably has everything that was acknowledged, and no operation runs in it.
    fn backup(&mut self, seed: u64) {
        let (store, disk) = (&self.bench().store, SimDisk::new());
        if let Err(failure) = store.backup_on(disk.clone()) {
            return self.copy_failed(&failure);
        }
        assert!(matches!(store.backup_on(disk.clone()), Err(CopyError::Exists)));
        let disk = disk.after_power_cut(chooser(seed));
        let copy = Self::on(disk, self.bench().hash_mask, self.now);
        let mut copy = Self { keys: self.keys_at_rest(), rows: self.rows.clone(), ..copy };
        copy.list(None, 0);
        copy.count();
        for key in 0..ALL_KEYS {
            copy.get(key);
            copy.begin(Request { key, request: 0 });
        }
        unplug(&copy.bench().disk);
    }

    /// Ends the store and opens it again. Earlier handles no longer have any effect.
    fn restart(&mut self, end: &Op) {
        // What a restart does with a clock that was set back is tested in `retention.rs`.
        self.bench().clock.set(Timestamp::from_unix_ms(self.now));
        if matches!(end, Op::Reopen)
            && let Err(failure) = self.bench().store.clone().close()
        {
            assert!(self.has_failed(&failure), "{failure:?}");
        }
        let Bench { disk, clock, store, hash_mask } =
            self.bench.take().expect("the store is open between two operations");
        let image = match *end {
            Op::PowerCut { seed } => disk.after_power_cut(chooser(seed)),
            Op::Reopen if !disk.has_failed() && !disk.was_full() => disk.clone(),
            // The same machine continues: what was not synced may still be lost.
            _ => disk.after_kill_of_process(),
        };
        // Held while the store is closed or killed, as in a program that ends. Executions that are
        // alive in this process keep its directory locked.
        let mut handles = std::mem::take(&mut self.handles);
        if matches!(end, Op::Reopen) {
            let alive = |(_, handle): &(u8, Handle)| matches!(handle, Handle::Execution(_));
            if !disk.has_failed() && !disk.was_full() && handles.iter().any(alive) {
                let locked = options(&clock, hash_mask).open_on(image.clone());
                assert!(matches!(locked, Err(OpenError::Locked)), "{locked:?}");
            }
            handles.retain(|handle| !alive(handle));
        }
        let before = (store, handles);
        self.fault = self.fault.filter(|_| self.fault_is_due || !disk.has_failed());
        self.bench = Some(self.open(image, clock, hash_mask));
        if !matches!(end, Op::Reopen) {
            unplug(&disk);
        }
        drop(before);
        self.keys = self.keys_at_rest();
        self.bench().disk.clone().spare(|| self.find_out());
        #[cfg(feature = "transaction")]
        self.check_rows();
    }

    /// Opens what was left. If the disk fails during that, it is well again for the next open.
    fn open(&mut self, disk: SimDisk, clock: ManualClock, hash_mask: u64) -> Bench {
        let Some(fault) = self.fault else { return bench(disk, clock, hash_mask) };
        fault.arm(&disk);
        self.fault_is_due = false;
        match options(&clock, hash_mask).open_on(disk.clone()) {
            Ok(store) => Bench { disk, clock, store, hash_mask },
            Err(OpenError::DiskFull { .. } | OpenError::Io { .. } | OpenError::Storage { .. })
                if disk.has_failed() || disk.was_full() =>
            {
                self.seen.unopened += 1;
                self.fault = None;
                let disk = if fault.cut {
                    disk.after_power_cut(chooser(fault.seed))
                } else {
                    disk.after_kill_of_process()
                };
                bench(disk, clock, hash_mask)
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// From now on the disk should fail.
    pub fn fail(&mut self, fault: Failing) {
        self.fault_is_due = self.bench().disk.has_failed();
        fault.arm(&self.bench().disk);
        self.fault = Some(fault);
    }
}

/// Numbers below the requested one, from a seed.
fn chooser(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = splitmix(seed);
        seed % below
    }
}
