//! The machine's own clocks. libfaketime moves the wall clock under a process, and leaves alone the
//! clock that can't be set.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idemstore::{Clock, Error, OpenError, Timestamp};
use tempfile::TempDir;

use crate::clerk::Clerk;
use crate::stage::{alone, skip, until};
use crate::words::{
    check_in, check_unchanged, close, complete, directory, look, names, open, permit, refused,
    small,
};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A machine whose wall clock can be set.
struct Machine {
    directory: TempDir,
    library: PathBuf,
}

impl Machine {
    /// Runs a test on such a machine, or reports that there is none.
    fn run(test: impl Fn(&Self)) {
        let libraries = ["x86_64-linux-gnu/faketime", "aarch64-linux-gnu/faketime", "faketime"];
        let libraries = libraries.map(|at| format!("/usr/lib/{at}/libfaketimeMT.so.1"));
        let Some(library) = libraries.into_iter().map(PathBuf::from).find(|path| path.exists())
        else {
            return skip("libfaketime is not installed");
        };
        let machine = Self { directory: directory(), library };
        machine.set(0);
        test(&machine);
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("wall")
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Sets the wall clock this many seconds off the right time.
    fn set(&self, off: i64) {
        let next = self.directory.path().join("next");
        fs::write(&next, format!("{off:+}\n")).expect("there is room");
        fs::rename(next, self.file()).expect("it is ours");
    }

    /// A process on this machine, with the store open.
    fn open(&self, how: &str) -> Clerk {
        let mut clerk = self.clerk();
        clerk.hears(&self.told(how), "opened");
        clerk
    }

    fn told(&self, how: &str) -> String {
        format!("{how} {}", self.store().display())
    }

    fn clerk(&self) -> Clerk {
        let variables: [(&str, OsString); 4] = [
            ("LD_PRELOAD", self.library.clone().into_os_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().into_os_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        let mut clerk = Clerk::with(&[], &variables);
        let off = fs::read_to_string(self.file()).expect("it is set");
        check_wall(&mut clerk, off.trim().parse().expect("it is a number"));
        clerk
    }

    /// Sets the wall clock under a running process.
    fn set_under(&self, clerk: &mut Clerk, off: i64) {
        self.set(off);
        check_wall(clerk, off);
    }
}

/// The wall clock of this process is this many seconds off the right time.
fn check_wall(clerk: &mut Clerk, off: i64) {
    until("the right wall", || {
        let wall: i64 = clerk.ask("wall").parse().expect("it is a number");
        ((wall - right() - off).abs() < 600).then_some(())
    });
}

/// The right time, in seconds since 1970.
fn right() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than that");
    since.as_secs().try_into().expect("it is not so late")
}

/// Waits until the process has recorded, on its own, that the wall clock has moved since its last
/// write.
fn wait_for_note(clerk: &mut Clerk, machine: &Machine, set: impl FnOnce()) {
    // Nothing is left to be settled: the next write is that record.
    clerk.hears("settle", "settled");
    let logs = || ["log-0", "log-1"].map(|name| fs::read(machine.store().join(name)).ok());
    let before = logs();
    set();
    until("the note", || (logs() != before).then_some(()));
    assert_ne!(clerk.ask("jump"), "0");
}

/// What was started or completed still is after a restart.
fn check_kept(clerk: &mut Clerk, started: &str, completed: &[&str]) {
    clerk.hears(&format!("begin {started}"), "interrupted");
    for name in completed {
        clerk.hears(&format!("begin {name}"), "replay");
    }
}

#[test]
fn a_machine_that_was_paused_for_25_hours_keeps_what_was_done_after() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = machine.open("open");
            machine.set_under(&mut clerk, 25 * HOUR);
            clerk.hears("start one", "started");
            clerk.hears("complete two", "completed");
            clerk.kill();
            machine.set(25 * HOUR + 300);
            check_kept(&mut machine.open("open"), "one", &["two"]);
        });
    });
}

#[test]
fn a_machine_that_was_paused_for_25_hours_keeps_what_was_done_after_a_close_too() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = machine.open("open-small");
            clerk.hears("complete one", "completed");
            machine.set_under(&mut clerk, 25 * HOUR);
            clerk.hears("complete two", "completed");
            clerk.hears("close", "closed 0");
            // It did not age while the machine stood still, and ages normally from now on.
            machine.set(48 * HOUR);
            let mut clerk = machine.open("open-small");
            clerk.hears("begin one", "replay");
            clerk.hears("begin two", "replay");
            clerk.hears("close", "closed 0");
            machine.set(50 * HOUR);
            let mut clerk = machine.open("open-small");
            clerk.hears("begin one", "fresh");
            clerk.hears("begin two", "fresh");
        });
    });
}

#[test]
fn a_machine_that_was_paused_keeps_what_was_done_before_though_nothing_was_done_after() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = machine.open("open");
            clerk.hears("start one", "started");
            clerk.hears("complete two", "completed");
            wait_for_note(&mut clerk, machine, || machine.set(25 * HOUR));
            clerk.kill();
            check_kept(&mut machine.open("open"), "one", &["two"]);
        });
    });
}

/// A board without a battery, which gets the time from the network.
fn boot_in_1970(machine: &Machine) -> Clerk {
    machine.set(100 - right());
    let mut clerk = machine.open("open");
    clerk.hears("start one", "started");
    clerk.hears("complete two", "completed");
    clerk
}

#[test]
fn a_board_that_boots_in_1970_and_is_set_right_keeps_what_it_did() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = boot_in_1970(machine);
            machine.set_under(&mut clerk, 0);
            clerk.hears("complete three", "completed");
            clerk.kill();
            check_kept(&mut machine.open("open"), "one", &["two", "three"]);
        });
    });
}

#[test]
fn a_board_that_boots_in_1970_and_is_set_right_keeps_what_it_did_with_no_write_after() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = boot_in_1970(machine);
            wait_for_note(&mut clerk, machine, || machine.set(0));
            clerk.kill();
            check_kept(&mut machine.open("open"), "one", &["two"]);
        });
    });
}

#[test]
fn a_board_that_boots_in_1970_each_time_loses_nothing_of_its_days() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = machine.open("open-small");
            clerk.hears("start one", "started");
            clerk.hears("complete two", "completed");
            clerk.kill();
            let mut clerk = boot_in_1970_again(machine);
            check_kept(&mut clerk, "one", &["two"]);
            clerk.hears("complete three", "completed");
            machine.set_under(&mut clerk, 0);
            clerk.hears("complete four", "completed");
            clerk.kill();
            check_kept(&mut machine.open("open-small"), "one", &["two", "three", "four"]);
        });
    });
}

fn boot_in_1970_again(machine: &Machine) -> Clerk {
    machine.set(100 - right());
    machine.open("open-small")
}

#[test]
fn a_wall_that_is_a_year_ahead_at_the_open_and_set_right_later_cuts_nothing_short() {
    alone(|| {
        Machine::run(|machine| {
            machine.set(YEAR);
            let mut clerk = machine.open("open-small");
            clerk.hears("start one", "started");
            machine.set_under(&mut clerk, 0);
            clerk.hears("complete two", "completed");
            clerk.hears("settle", "settled");
            clerk.kill();
            for off in [0, 23 * HOUR, 25 * HOUR] {
                // Time while the store is closed counts again once the wall clock has caught up.
                machine.set(off);
                let mut clerk = machine.open("open-small");
                check_kept(&mut clerk, "one", &["two"]);
                clerk.kill();
            }
            // Someone who knows that the clock is right can say so, and time continues from there.
            let mut clerk = machine.open("open-accepting");
            clerk.hears("complete three", "completed");
            clerk.hears("close", "closed 0");
            machine.set(48 * HOUR);
            machine.open("open-small").hears("begin three", "replay");
            machine.set(50 * HOUR);
            machine.open("open-small").hears("begin three", "fresh");
        });
    });
}

#[test]
fn a_wall_that_is_set_back_20_days_and_put_right_while_killed_cuts_nothing_short() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = machine.open("open");
            clerk.hears("complete two", "completed");
            machine.set_under(&mut clerk, -20 * DAY);
            clerk.hears("start one", "started");
            clerk.kill();
            machine.set(60);
            let mut clerk = machine.open("open");
            check_kept(&mut clerk, "one", &["two"]);
            // And the other way round.
            machine.set_under(&mut clerk, -20 * DAY);
            clerk.hears("complete three", "completed");
            clerk.kill();
            check_kept(&mut machine.open("open"), "one", &["two", "three"]);
        });
    });
}

#[test]
fn a_retention_is_over_when_it_is_over() {
    alone(|| {
        Machine::run(|machine| {
            let mut clerk = machine.open("open-small");
            clerk.hears("complete one", "completed");
            clerk.kill();
            machine.set(23 * HOUR);
            machine.open("open-small").hears("begin one", "replay");
            machine.set(25 * HOUR);
            machine.open("open-small").hears("begin one", "fresh");
        });
    });
}

#[test]
fn a_wall_after_the_year_2200_is_refused_and_nothing_is_written() {
    alone(|| {
        Machine::run(|machine| {
            machine.set(300 * YEAR);
            machine.clerk().hears(&machine.told("open"), "Clock");
            assert_eq!(names(&machine.store()), [""; 0], "a store was made");
            machine.set(0);
            let mut clerk = machine.open("open");
            clerk.hears("complete one", "completed");
            clerk.kill();
            let before = look(&machine.store());
            machine.set(300 * YEAR);
            for how in ["open", "open-accepting", "open-found"] {
                machine.clerk().hears(&machine.told(how), "Clock");
            }
            check_unchanged(&machine.store(), &before);
            machine.set(0);
            machine.open("open").hears("begin one", "replay");
        });
    });
}

/// A clock that shows these milliseconds.
#[derive(Clone)]
struct Shown(Arc<AtomicU64>);

impl Clock for Shown {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::Relaxed))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than that")
}

fn shown(duration: u128) -> Shown {
    Shown(Arc::new(AtomicU64::new(u64::try_from(duration).expect("it is not so late"))))
}

#[test]
fn a_clock_that_shows_other_than_milliseconds_is_refused() {
    alone(|| {
        let directory = directory();
        let (path, new) = (directory.path().join("store"), directory.path().join("new"));
        let store = open(&path);
        complete(&store, "one");
        close(store);
        let before = look(&path);
        for wrong in [now().as_micros(), now().as_nanos()] {
            for path in [&path, &new] {
                let error = refused(small().clock(shown(wrong)), path);
                assert!(matches!(error, OpenError::Clock), "{error:?}");
            }
        }
        check_unchanged(&path, &before);
        assert_eq!(names(&new), [""; 0], "a store was made");
        check_in(&path, &["one"]);
    });
}

#[test]
fn a_clock_that_goes_wrong_while_the_store_is_open_starts_nothing() {
    alone(|| {
        let directory = directory();
        let clock = shown(now().as_millis());
        let store = small().clock(clock.clone()).open(directory.path()).expect("the store opens");
        complete(&store, "one");
        let right = clock.0.swap(now().as_micros().try_into().expect("small"), Ordering::Relaxed);
        let started = permit(&store, "two").start();
        assert!(matches!(started, Err(Error::Clock)), "{started:?}");
        assert_eq!(crate::words::answer(&store, "one"), "replay");
        clock.0.store(right, Ordering::Relaxed);
        complete(&store, "three");
        close(store);
        check_in(directory.path(), &["one", "three"]);
    });
}

#[test]
fn a_jump_of_the_clock_is_refused_on_request_and_nothing_is_written() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        complete(&store, "one");
        close(store);
        check_jump(directory.path());
        check_in(directory.path(), &["one"]);
    });
}

fn check_jump(path: &Path) {
    let before = look(path);
    let (now, day) = (now().as_millis(), Duration::from_secs(24 * 60 * 60));
    for wrong in [now + 2 * day.as_millis(), now - 2 * day.as_millis()] {
        let builder = small().clock(shown(wrong)).clock_jump_max(day);
        let error = refused(builder, path);
        assert!(matches!(error, OpenError::ClockJump { .. }), "{error:?}");
    }
    check_unchanged(path, &before);
}
