//! Machines whose clocks go wrong, and what a store makes of them across restarts. A retention is
//! never shorter than promised as long as the wall clock is right at the last write and at the
//! open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{Clock, OpenError, Store, Timestamp};

use crate::support::{Answers, SimDisk, Started, builder, key};
use idemstore::{Begin, Fingerprint, ManualClock};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const RETENTION: u64 = DAY;
/// When each of these tests begins, by the right time.
const TODAY: u64 = 1_700_000_000_000;

/// A machine: what its clock shows, and how long it has run since it booted.
#[derive(Clone)]
struct Machine {
    wall: Arc<AtomicU64>,
    running: Arc<AtomicU64>,
}

impl Machine {
    fn showing(wall_ms: u64) -> Self {
        Self { wall: Arc::new(AtomicU64::new(wall_ms)), running: Arc::default() }
    }

    /// Time passes, for both clocks.
    fn pass(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.running.fetch_add(ms, Ordering::SeqCst);
    }

    /// Someone sets its clock, or it was suspended for this long and then set right.
    fn set(&self, wall_ms: u64) {
        self.wall.store(wall_ms, Ordering::SeqCst);
    }

    fn wall(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    /// The clock of a process that starts now.
    fn clock(&self) -> ProcessClock {
        let since = self.running.load(Ordering::SeqCst);
        ProcessClock { machine: self.clone(), started_at: self.wall(), since }
    }

    fn open(&self, disk: &SimDisk) -> Store {
        self.builder().open_on(disk.clone()).expect("the store opens")
    }

    fn builder(&self) -> idemstore::Builder {
        let retention = Duration::from_millis(RETENTION);
        builder(&ManualClock::default()).retention(retention).clock(self.clock())
    }
}

/// Like `SystemClock`.
struct ProcessClock {
    machine: Machine,
    started_at: u64,
    since: u64,
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        let running = self.machine.running.load(Ordering::SeqCst) - self.since;
        Timestamp::from_unix_ms(self.started_at + running)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.machine.wall())
    }
}

fn begin(store: &Store, name: &str) -> Begin {
    store.begin(&key(name), Fingerprint::of("request")).expect("begin answers")
}

fn complete(store: &Store, name: &str) {
    begin(store, name).started().complete("result").expect("it completes");
}

/// Each of these keys is kept for this long from now on, and no longer.
#[track_caller]
fn expires_in(machine: &Machine, store: &Store, names: &[&str], ms: u64) {
    machine.pass(ms - 1);
    for name in names {
        assert!(!matches!(begin(store, name), Begin::Fresh(_)), "{name} is too early");
    }
    machine.pass(1);
    for name in names {
        assert!(matches!(begin(store, name), Begin::Fresh(_)), "{name} is still there");
    }
}

#[test]
fn a_machine_that_slept_while_the_store_was_open_cuts_no_retention_short() {
    let (machine, disk) = (Machine::showing(TODAY), SimDisk::new());
    let store = machine.open(&disk);
    // A machine that was paused: its steady clock stood still, and its wall clock was set right
    // afterwards.
    machine.set(machine.wall() + 25 * HOUR);
    complete(&store, "completed");
    drop(begin(&store, "interrupted").started());
    machine.pass(5 * 60_000);
    let store = machine.open(&disk.after_kill());
    begin(&store, "completed").replay();
    drop(begin(&store, "interrupted").interrupted());
    expires_in(&machine, &store, &["completed", "interrupted"], RETENTION - 5 * 60_000);
}

#[test]
fn a_board_that_boots_in_1970_and_is_set_right_cuts_no_retention_short() {
    for writes_after in [true, false] {
        let (machine, disk) = (Machine::showing(3_000), SimDisk::new());
        let store = machine.open(&disk);
        complete(&store, "k");
        machine.pass(HOUR);
        machine.set(TODAY);
        // What the background thread does on its own within a second.
        if writes_after {
            complete(&store, "another");
        } else {
            store.settle().expect("it settles");
            store.sweep().expect("it sweeps");
            complete(&store, "what notes the clock");
        }
        machine.pass(HOUR);
        let store = machine.open(&disk.after_kill());
        begin(&store, "k").replay();
        expires_in(&machine, &store, &["k"], RETENTION - 2 * HOUR);
    }
}

#[test]
fn the_background_thread_notes_a_clock_that_was_set_without_a_write() {
    let (machine, disk) = (Machine::showing(3_000), SimDisk::new());
    let store =
        machine.builder().background_thread(true).open_on(disk.clone()).expect("the store opens");
    complete(&store, "k");
    store.settle().expect("it settles");
    machine.set(TODAY);
    let noted = || store.stats().clock_jump != 0;
    while !noted() {
        std::thread::yield_now();
    }
    // A separate frame records it, which is durable soon after.
    let is_kept = || {
        let store = machine.open(&disk.after_power_cut(|_| 0));
        matches!(begin(&store, "k"), Begin::Replay(_))
    };
    while !is_kept() {
        std::thread::yield_now();
    }
    store.close().expect("the store closes");
}

#[test]
fn a_wall_that_was_a_year_ahead_at_an_open_expires_what_was_there_and_nothing_more() {
    let (machine, disk) = (Machine::showing(TODAY), SimDisk::new());
    complete(&machine.open(&disk), "before");
    machine.set(TODAY + YEAR);
    let disk = disk.after_kill();
    let store = machine.open(&disk);
    assert_eq!(store.stats().clock_jump, YEAR.cast_signed());
    // This isn't promised: nothing distinguishes the jump from a year in which the store was
    // closed.
    begin(&store, "before").fresh();
    complete(&store, "ahead");
    machine.set(TODAY);
    complete(&store, "after");
    machine.pass(HOUR);
    let store = machine.open(&disk.after_kill());
    for name in ["ahead", "after"] {
        begin(&store, name).replay();
    }
    // The hour in which it was closed doesn't count: the wall clock hasn't caught up.
    expires_in(&machine, &store, &["ahead", "after"], RETENTION);
}

/// Everything that is stored now.
fn copy_of(store: &Store) -> SimDisk {
    let disk = SimDisk::new();
    store.backup_on(disk.clone()).expect("it is backed up");
    disk.after_kill()
}

#[test]
fn a_clock_that_is_accepted_ends_the_time_in_which_the_wall_is_behind() {
    let (machine, disk) = (Machine::showing(TODAY + YEAR), SimDisk::new());
    complete(&machine.open(&disk), "ahead");
    machine.set(TODAY);
    let accepting = machine.builder().accept_clock(true);
    let store = accepting.open_on(disk.after_kill()).expect("the store opens");
    complete(&store, "now");
    let (before, disk) = (store.stats(), copy_of(&store));
    assert!(before.clock_jump < 0);
    machine.pass(HOUR);
    let store = machine.open(&disk);
    let expiry = begin(&store, "now").replay().expires_at();
    assert_eq!(expiry, Timestamp::from_unix_ms(TODAY + RETENTION));
    expires_in(&machine, &store, &["now"], RETENTION - HOUR);
    // What was begun in the future is kept for as long as was promised.
    begin(&store, "ahead").replay();
}

#[test]
fn a_clock_that_was_set_back_while_the_store_ran_and_right_while_it_was_killed() {
    let (machine, disk) = (Machine::showing(TODAY), SimDisk::new());
    let store = machine.open(&disk);
    complete(&store, "before");
    machine.set(TODAY - 20 * DAY);
    complete(&store, "while it was wrong");
    machine.set(TODAY);
    let store = machine.open(&disk.after_kill());
    for name in ["before", "while it was wrong"] {
        begin(&store, name).replay();
    }
    expires_in(&machine, &store, &["before", "while it was wrong"], RETENTION);
}

#[test]
fn a_backup_that_is_put_back_after_a_month_opens_and_what_it_has_is_over() {
    let (machine, disk, backup) = (Machine::showing(TODAY), SimDisk::new(), SimDisk::new());
    let store = machine.open(&disk);
    complete(&store, "k");
    store.backup_on(backup.clone()).expect("it is backed up");
    machine.pass(30 * DAY);
    let strict = machine.builder().clock_jump_max(Duration::from_millis(29 * DAY));
    let refused = strict.open_on(backup.after_kill()).expect_err("it is a long time");
    assert!(
        matches!(refused, OpenError::ClockJump { moved_ms, .. } if moved_ms == 30 * DAY.cast_signed())
    );
    let store = machine.open(&backup.after_kill());
    assert_eq!(store.stats().clock_jump, 30 * DAY.cast_signed());
    begin(&store, "k").fresh();
}

#[test]
fn two_hosts_whose_clocks_differ_shorten_a_retention_by_no_more_than_that() {
    let (here, disk) = (Machine::showing(TODAY), SimDisk::new());
    complete(&here.open(&disk), "k");
    // The volume moves to another host, whose clock is an hour ahead.
    let there = Machine::showing(TODAY + HOUR);
    let store = there.open(&disk.after_kill());
    expires_in(&there, &store, &["k"], RETENTION - HOUR);
    // And to one whose clock is behind: the key is kept longer.
    let there = Machine::showing(TODAY - HOUR);
    let store = there.open(&disk.after_kill());
    expires_in(&there, &store, &["k"], RETENTION);
}

#[test]
fn a_store_that_says_nothing_of_the_wall_goes_on_from_its_own_time() {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v2");
    let disk = SimDisk::new();
    for name in ["vault.redb", "log-0", "log-1"] {
        disk.put(name, std::fs::read(fixture.join(name)).expect("the fixture is there"));
    }
    // It was created at that moment, with a retention of a second.
    let machine = Machine::showing(TODAY + 999);
    let store = machine.open(&disk);
    assert_eq!(store.stats().clock_jump, 999);
    assert_eq!(store.stats().live, 16);
    machine.pass(1);
    assert_eq!(store.stats().live, 0);
}

#[test]
fn a_jump_is_refused_on_request_in_either_direction() {
    let (machine, disk) = (Machine::showing(TODAY), SimDisk::new());
    complete(&machine.open(&disk), "k");
    let disk = disk.after_kill();
    for (wall, moved) in [(TODAY + HOUR, HOUR.cast_signed()), (TODAY - HOUR, -(HOUR.cast_signed()))]
    {
        machine.set(wall);
        let before = disk.bytes();
        let strict = || machine.builder().clock_jump_max(Duration::from_millis(HOUR - 1));
        let refused = strict().open_on(disk.clone()).expect_err("it is too far");
        assert!(matches!(refused, OpenError::ClockJump { moved_ms, .. } if moved_ms == moved));
        assert!(disk.bytes() == before, "a refused open has written");
        let allowed = machine.builder().clock_jump_max(Duration::from_millis(HOUR));
        drop(allowed.open_on(disk.after_kill()).expect("it is not too far"));
    }
}
