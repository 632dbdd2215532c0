//! Time that jumps, and its limits: one boundary for all calls, and never a step back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{
    Begin, Clock, CompleteError, Completed, Effect, Error, Fingerprint, ManualClock, OpenError,
    Outcome, Status, Timestamp,
};

use crate::support::model::splitmix;
use crate::support::{
    Answers, Bench, RETENTION_MS, START_MS, SimDisk, Started, builder, key, size,
};

const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

/// Where records are when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the log and in memory.
    Log,
    Vault,
    /// In the vault of a store that has been closed and reopened.
    Reopened,
    /// In the log of a store that was killed and reopened.
    Killed,
}

/// Enough keys for each call to have its own, all of which expire in the same millisecond.
fn records_at(place: Place) -> Bench {
    let bench = Bench::new();
    for name in ["begin", "other", "get", "run", "forget", "complete", "abandon"] {
        bench.complete(&format!("{name} completed"), "request", "result");
        drop(bench.begin(&format!("{name} interrupted"), "request").started());
        let execution = bench.begin(&format!("{name} tombstone"), "request").started();
        execution.complete_digest("long").expect("it completes");
    }
    match place {
        Place::Log => bench,
        Place::Vault => {
            bench.store.settle().expect("it settles");
            bench
        }
        Place::Reopened => bench.reopen(),
        Place::Killed => bench.kill(),
    }
}

const KINDS: [(&str, Status); 3] = [
    ("completed", Status::Completed),
    ("interrupted", Status::Interrupted),
    ("tombstone", Status::NotKept),
];

#[test]
fn all_calls_have_the_same_boundary() {
    for place in [Place::Log, Place::Vault, Place::Reopened, Place::Killed] {
        for after_ms in [RETENTION_MS - 1, RETENTION_MS, RETENTION_MS + 1] {
            let bench = records_at(place);
            bench.tick(after_ms);
            let is_live = after_ms < RETENTION_MS;
            check_looks(&bench, is_live, place);
            check_calls(&bench, is_live, place);
            check_sweep(&bench, is_live, place);
            // A listing settles the log, so it needs a separate store.
            let bench = records_at(place);
            bench.tick(after_ms);
            for (_, status) in KINDS {
                let listed = bench.store.keys().status(status).count();
                assert_eq!(listed, if is_live { 7 } else { 0 }, "{status:?}, {place:?}");
            }
        }
    }
}

/// The calls that change nothing.
fn check_looks(bench: &Bench, is_live: bool, place: Place) {
    for (kind, status) in KINDS {
        let what = format!("{kind}, {place:?}, live: {is_live}");
        let begin = bench.begin(&format!("begin {kind}"), "request");
        let found = match begin {
            Begin::Fresh(_) => None,
            Begin::Replay(_) => Some(Status::Completed),
            Begin::Interrupted(_) => Some(Status::Interrupted),
            Begin::NotKept(_) => Some(Status::NotKept),
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(found, is_live.then_some(status), "begin of {what}");
        let other = bench.begin(&format!("other {kind}"), "other");
        assert_eq!(matches!(other, Begin::Mismatch), is_live, "another request of {what}");
        drop(other);
        let info = bench.store.get(&key(&format!("get {kind}"))).expect("get answers");
        assert_eq!(info.map(|info| info.status()), is_live.then_some(status), "get of {what}");
    }
    let stats = bench.store.stats();
    let (live, expired) = if is_live { (21, 0) } else { (0, 21) };
    assert_eq!((stats.live, stats.sweep_backlog), (live, expired), "{place:?}");
    assert_eq!(stats.interrupted, live / 3, "{place:?}");
}

/// The calls that act on what is stored.
fn check_calls(bench: &Bench, is_live: bool, place: Place) {
    let store = &bench.store;
    for (kind, status) in KINDS {
        let what = format!("{kind}, {place:?}, live: {is_live}");
        let name = |call: &str| key(&format!("{call} {kind}"));
        let is_open = is_live && status == Status::Interrupted;
        let is_done = is_live && status != Status::Interrupted;
        let run = |_: &mut _| Effect::<_, ()>::Done("again");
        let ran = store.run(&name("run"), Fingerprint::of("request"), run).expect("it runs");
        assert_eq!(matches!(ran, Outcome::Done(_)), !is_live, "run of {what}");
        drop(ran);
        assert_eq!(store.forget(&name("forget")).expect("it is asked"), is_done, "{what}");
        assert_eq!(store.complete(&name("complete"), "late").is_ok(), is_open, "{what}");
        assert_eq!(store.abandon(&name("abandon")).is_ok(), is_open, "{what}");
    }
}

fn check_sweep(bench: &Bench, is_live: bool, place: Place) {
    bench.store.settle().expect("it settles");
    let mut swept = 0;
    while let of_slice @ 1.. = bench.store.sweep().expect("it sweeps") {
        swept += of_slice;
    }
    // Three of them have run again, and have new records.
    let (expected, left) = if is_live { (0, 18) } else { (21, 3) };
    assert_eq!((swept, bench.store.stats().records), (expected, left), "{place:?} {is_live}");
}

#[test]
fn who_holds_a_key_does_not_notice_the_boundary() {
    for after_ms in [RETENTION_MS - 1, RETENTION_MS, RETENTION_MS + 1] {
        let bench = Bench::new();
        let is_live = after_ms < RETENTION_MS;
        let mut execution = bench.begin("executing", "request").started();
        bench.begin("detached", "request").started().detach();
        let permit = bench.begin("reserved", "request").fresh();
        bench.store.settle().expect("it settles");
        bench.tick(after_ms);
        for name in ["executing", "detached", "reserved"] {
            bench.begin(name, "request").in_flight();
            assert!(bench.store.get(&key(name)).expect("get answers").is_some(), "{name}");
        }
        assert_eq!(bench.store.keys().status(Status::Executing).count(), 2);
        assert_eq!(bench.store.stats().in_flight, 3);
        execution.checkpoint("half way").expect("it is stored");
        bench.store.settle().expect("it settles");
        assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
        execution.complete("result").expect("it completes");
        bench.store.complete(&key("detached"), "result").expect("it completes");
        permit.complete("result").expect("it completes");
        // What was completed in time expires as usual, and what was completed late begins a new
        // retention.
        let expires_in = if is_live { 1 } else { RETENTION_MS };
        for (passed, is_kept) in [(expires_in - 1, true), (1, false)] {
            bench.tick(passed);
            for name in ["executing", "detached", "reserved"] {
                let begin = bench.begin(name, "request");
                assert_eq!(matches!(begin, Begin::Replay(_)), is_kept, "{name} {after_ms}");
            }
        }
    }
}

/// A store whose every answer is compared with its own time.
struct Timed {
    bench: Bench,
    /// The completed keys, and when each was begun.
    begun: BTreeMap<String, Timestamp>,
    /// The latest time that is durable.
    stored: Timestamp,
    keys: u64,
}

impl Timed {
    /// Completes a new key, and checks that time has not run back.
    fn complete(&mut self) -> Timestamp {
        let name = format!("key {}", self.keys);
        self.keys += 1;
        let completed = self.bench.complete(&name, "request", &name);
        let now = completed.begun_at();
        assert!(self.stored <= now, "time has run back from {:?} to {now:?}", self.stored);
        let expiry = now.saturating_add(Duration::from_millis(RETENTION_MS));
        assert_eq!(completed.expires_at(), expiry);
        self.stored = completed.completed_at();
        self.begun.insert(name, now);
        now
    }

    fn check(&self, now: Timestamp) -> usize {
        let retention = Duration::from_millis(RETENTION_MS);
        for (name, begun) in &self.begun {
            let is_live = now < begun.saturating_add(retention);
            let begin = self.bench.begin(name, "request");
            assert_eq!(matches!(begin, Begin::Replay(_)), is_live, "{name} at {now:?}");
            assert!(is_live || matches!(begin, Begin::Fresh(_)), "{begin:?}");
        }
        self.begun.values().filter(|begun| now < begun.saturating_add(retention)).count()
    }

    fn restart(self, how: u64, random: &mut impl FnMut(u64) -> u64) -> Self {
        let bench = match how {
            0 => self.bench.reopen(),
            1 => self.bench.kill(),
            _ => self.bench.cut(random),
        };
        Self { bench, ..self }
    }
}

#[test]
fn time_never_runs_back_however_the_clock_jumps_and_the_store_ends() {
    let jumps = [1, 2, 1_000, RETENTION_MS - 1, RETENTION_MS + 1, 86_400_000, TEN_YEARS_MS];
    let (mut live, mut expired, mut held) = (0, 0, 0);
    for seed in 0..size("TIME_RUNS", 20) {
        let mut state = splitmix(size("TIME_SEED", 1) ^ splitmix(seed));
        let mut random = move |below: u64| {
            state = splitmix(state);
            state % below
        };
        let mut timed = Timed {
            bench: Bench::new(),
            begun: BTreeMap::new(),
            stored: Timestamp::default(),
            keys: 0,
        };
        for _ in 0..60 {
            let clock = &timed.bench.clock;
            let shown = clock.now().as_unix_ms();
            let by = jumps[random(jumps.len() as u64) as usize];
            clock.set(Timestamp::from_unix_ms(match random(8) {
                0..4 => shown.saturating_add(by),
                4..6 => shown.saturating_sub(by),
                6 => 0,
                _ => shown,
            }));
            let before = timed.stored;
            if random(5) == 0 {
                let how = random(3);
                timed = timed.restart(how, &mut random);
            }
            let now = timed.complete();
            held += usize::from(now == before);
            let still = timed.check(now);
            (live, expired) = (live + still, expired + timed.begun.len() - still);
        }
    }
    assert!(0 < live && 0 < expired && 0 < held, "{live} {expired} {held}");
}

#[test]
fn a_clock_that_was_far_ahead_expires_keys_early_and_time_goes_on_from_there() {
    for kill in [false, true] {
        let bench = Bench::new();
        bench.complete("early", "request", "result");
        // Ten years ahead: what is stored then is recorded as begun then.
        bench.tick(TEN_YEARS_MS);
        bench.begin("early", "request").fresh();
        let ahead = bench.complete("ahead", "request", "result").begun_at();
        assert_eq!(ahead.as_unix_ms(), START_MS + TEN_YEARS_MS);
        // The clock is corrected. In this run, time stands still until the clock has caught up.
        bench.clock.set(Timestamp::from_unix_ms(START_MS));
        bench.tick(10 * RETENTION_MS);
        assert_eq!(bench.begin("ahead", "request").replay().begun_at(), ahead);
        // The next run continues from the latest time that was stored, at the clock's pace.
        let bench = if kill { bench.kill() } else { bench.reopen() };
        bench.tick(RETENTION_MS - 1);
        bench.begin("ahead", "request").replay();
        bench.tick(1);
        bench.begin("ahead", "request").fresh();
        assert_eq!(
            bench.complete("late", "request", "").begun_at().as_unix_ms(),
            ahead.as_unix_ms() + RETENTION_MS
        );
    }
}

/// The last moment of the year 2200.
const LATEST_MS: u64 = 7_289_654_399_999;

#[test]
fn a_record_that_is_kept_for_ever_is_kept_to_the_end_of_time() {
    for retention in [Duration::MAX, Duration::from_millis(u64::MAX)] {
        let mut bench =
            Bench::on(SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(LATEST_MS)));
        let permit = bench.begin("k", "request").fresh().with_retention(retention);
        let completed =
            permit.start().expect("it starts").complete("result").expect("it completes");
        assert_eq!(completed.expires_at(), Timestamp::MAX);
        for _ in 0..2 {
            bench.begin("k", "request").replay();
            assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
            bench.store.settle().expect("it settles");
            bench = bench.kill();
        }
    }
}

#[test]
fn a_clock_beyond_the_year_2200_opens_no_store_and_makes_none() {
    for beyond in [LATEST_MS + 1, 1_700_000_000_000_000, u64::MAX] {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(beyond)));
        let made = builder(&clock).open_on(disk.clone());
        assert!(matches!(made, Err(OpenError::Clock)), "{made:?}");
        assert_eq!(disk.bytes().len(), 0);
        clock.set(Timestamp::from_unix_ms(LATEST_MS));
        let bench = Bench::on(disk, clock);
        bench.complete("k", "request", "result");
        let Bench { disk, clock, store, .. } = bench;
        store.close().expect("the store closes");
        let before = disk.bytes();
        clock.set(Timestamp::from_unix_ms(beyond));
        let opened = builder(&clock).open_on(disk.clone());
        assert!(matches!(opened, Err(OpenError::Clock)), "{opened:?}");
        assert!(disk.bytes() == before, "a refused open has written");
        clock.set(Timestamp::from_unix_ms(LATEST_MS));
        Bench::on(disk, clock).begin("k", "request").replay();
    }
}

#[test]
fn a_clock_that_shows_nonsense_once_costs_no_key() {
    let mut bench = Bench::new();
    bench.complete("k", "request", "result");
    let permit = bench.begin("permit", "request").fresh();
    let execution = bench.begin("executing", "request").started();
    bench.clock.set(Timestamp::MAX);
    // The store doesn't follow it, and starts nothing under it.
    bench.begin("k", "request").replay();
    assert!(matches!(permit.start(), Err(Error::Clock)));
    let refused = bench.begin("permit", "request").fresh().complete("result");
    assert!(matches!(refused, Err(CompleteError::Store(Error::Clock))));
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    // What was already started can be finished.
    execution.complete("result").expect("it completes");
    bench.clock.set(Timestamp::from_unix_ms(START_MS + RETENTION_MS - 1));
    for _ in 0..2 {
        bench.begin("k", "request").replay();
        bench.begin("executing", "request").replay();
        bench.begin("permit", "request").fresh();
        bench = bench.kill();
    }
    // The time until the next open is unknown, so the key is kept for that much longer.
    bench.tick(RETENTION_MS);
    bench.begin("k", "request").fresh();
}

#[test]
fn a_store_without_retention_still_lets_one_caller_run_at_a_time() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let disk = SimDisk::new();
    let builder = || builder(&clock).retention(Duration::ZERO);
    let store = builder().open_on(disk.clone()).expect("the store opens");
    let begin = || store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    let execution = begin().started();
    begin().in_flight();
    execution.complete("result").expect("it completes");
    // Neither a result nor an interruption outlives the holder of its key.
    drop(begin().started());
    begin().fresh();
    std::mem::forget(begin().started());
    let store = builder().open_on(disk.after_kill()).expect("the store opens");
    store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers").fresh();
}

/// A clock that never shows the expected time: mostly it is near the right time, and sometimes
/// years behind or minutes ahead.
struct Wild {
    readings: AtomicU64,
}

impl Clock for Wild {
    fn now(&self) -> Timestamp {
        let reading = self.readings.fetch_add(1, Ordering::Relaxed);
        let random = splitmix(reading);
        let right = TEN_YEARS_MS + reading;
        Timestamp::from_unix_ms(match random % 32 {
            0 => right + splitmix(random) % 500,
            1 => 0,
            2..8 => right - splitmix(random) % TEN_YEARS_MS,
            _ => right,
        })
    }
}

/// The time that one thread sees other threads write: it never runs back.
fn assert_not_before(latest: &mut Timestamp, completed: &Completed) {
    assert!(*latest <= completed.begun_at(), "{latest:?} and then {:?}", completed.begun_at());
    assert!(completed.begun_at() <= completed.completed_at());
    *latest = completed.completed_at();
}

#[test]
fn a_clock_that_goes_wild_while_threads_work_gives_no_key_to_two_of_them() {
    const KEYS: u64 = 8;
    let rounds = size("TIME_ROUNDS", 300);
    let disk = SimDisk::new();
    let clock = || Wild { readings: AtomicU64::new(0) };
    let manual = ManualClock::default();
    let store = builder(&manual).clock(clock()).open_on(disk.clone()).expect("the store opens");
    let held: Arc<[AtomicBool]> = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
    let (fresh, replayed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (store, held, fresh, replayed) = (&store, &held, &fresh, &replayed);
            scope.spawn(move || {
                let mut latest = Timestamp::default();
                for round in 0..rounds {
                    let at = splitmix((thread << 32) | round) % KEYS;
                    let name = format!("key {at}");
                    match store.begin(&key(&name), Fingerprint::of(&name)).expect("begin answers") {
                        Begin::Fresh(permit) => {
                            assert!(!held[at as usize].swap(true, Ordering::SeqCst), "two have it");
                            fresh.fetch_add(1, Ordering::Relaxed);
                            let execution = permit.start().expect("it starts");
                            held[at as usize].store(false, Ordering::SeqCst);
                            let completed = execution.complete(&name).expect("it completes");
                            assert_not_before(&mut latest, &completed);
                        }
                        Begin::Replay(completed) => {
                            replayed.fetch_add(1, Ordering::Relaxed);
                            assert_eq!(completed.result(), name.as_bytes());
                        }
                        Begin::InFlight(in_flight) => drop(in_flight),
                        other => panic!("{name} is {other:?}"),
                    }
                    if round % 50 == 0 {
                        store.sweep().expect("it sweeps");
                    }
                }
            });
        }
    });
    // Some keys were kept, and some have expired.
    assert!(KEYS < fresh.into_inner() && 0 < replayed.into_inner());
    let before = store.begin(&key("last"), Fingerprint::of("last")).expect("begin answers");
    let before = before.fresh().complete("").expect("it completes").completed_at();
    store.close().expect("the store closes");
    let store = builder(&manual).clock(clock()).open_on(disk).expect("the store opens");
    let after = store.begin(&key("next"), Fingerprint::of("next")).expect("begin answers");
    assert!(before <= after.fresh().complete("").expect("it completes").begun_at());
}
