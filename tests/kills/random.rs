//! Kills at random moments of client threads, and at random points under them.

use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Begin, Fingerprint, ManualClock, Timestamp};

use crate::child::{Child, Task, Work};
use crate::clients::{self, Notes};
use crate::life::{Life, lead};
use crate::support::model::splitmix;
use crate::support::oracle::Found;
use crate::support::{START_MS, builder, key};
use crate::tally::Tally;
use crate::{kills, seed};

/// Kills per store, one after the other.
const KILLS_A_LIFE: u64 = 8;
/// The latest moment of a kill, and the latest point.
const LATEST_US: u64 = 20_000;
const POINTS: u64 = 600;

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum When {
    /// This long after its start, after it began to run, and after the store was open, in
    /// microseconds.
    Started(u64),
    Running(u64),
    Open(u64),
    /// At a point of the disk, while the other threads continue.
    Point(u64),
}

impl When {
    fn choose(choice: u64, first: bool) -> Self {
        let us = splitmix(choice) % LATEST_US;
        let point = splitmix(choice) % POINTS;
        match (first, choice % 6) {
            // Sooner, so that many kills come while the store is being created.
            (true, 0 | 1) => Self::Started(us / 2),
            (true, 2 | 3) => Self::Running(us / 4),
            (true, _) => Self::Point(point / 8),
            (false, 0) => Self::Running(us),
            (false, 1 | 2) => Self::Point(point),
            (false, _) => Self::Open(us),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Started(_) => "killed after the start of a process",
            Self::Running(_) => "killed after it ran",
            Self::Open(_) => "killed after the store was open",
            Self::Point(_) => "killed at a point",
        }
    }

    /// Starts a child, and kills it at that moment.
    fn kill(self, mut task: Task) {
        let (until, us) = match self {
            Self::Started(us) => (None, us),
            Self::Running(us) => (Some("running"), us),
            Self::Open(us) => (Some("open"), us),
            Self::Point(point) => {
                task.point = Some(point);
                (Some("at "), 0)
            }
        };
        let mut child = Child::start(&task);
        if let Some(until) = until {
            // If it ends before, it has reported why.
            while child.hear().is_some_and(|line| !line.starts_with(until)) {}
        }
        thread::sleep(Duration::from_micros(us));
        let said = child.kill();
        let known =
            |line: &String| ["running", "open"].contains(&&**line) || line.starts_with("at ");
        assert!(said.iter().all(known), "{said:#?}");
    }
}

fn live(life: &Life, kills: u64, tally: &Tally) {
    let mut notes = Notes::default();
    let mut choice = splitmix(seed() ^ splitmix(life.number));
    for kill in 0..kills {
        choice = splitmix(choice);
        let when = When::choose(choice, kill == 0);
        let (work, store) = (Work::Clients, life.store());
        when.kill(Task { work, store, point: None, number: splitmix(!choice), now_ms: 0 });
        tally.count(when.name(), 1);
        notes.read(&life.store());
        let image = life.image_of_kill(tally);
        let store = clients::builder().background_thread(false).open_on(image);
        // The next child must recover what this image recovers to.
        let found = notes.oracle.adopt(&store.expect("a kill leaves a store"));
        let count = |what, is: fn(&Found) -> bool| {
            tally.count(what, found.iter().filter(|found| is(found)).count());
        };
        count("keys that nobody had been told of yet", |found| found.early);
        count("keys that were interrupted", |found| !found.completed);
    }
    // From here on time stands still, however long this takes: that process's keys expire soon.
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let store = builder(&clock).open_on(life.go_on(0, START_MS)).expect("the store opens");
    drop(notes.oracle.check(&store));
    let name = "afterwards 0";
    let begin = store.begin(&key(name), Fingerprint::of(name)).expect("begin answers");
    assert!(matches!(begin, Begin::Replay(_)), "{begin:?}");
    tally.count("effects", notes.effects.len());
    tally.count("results that were told", notes.completed.len());
    tally.count("replays", notes.replays as usize);
}

#[test]
fn no_kill_at_any_moment_makes_an_effect_happen_twice_or_loses_a_result() {
    let kills = kills().div_ceil(4);
    let tally = Tally::new();
    lead(kills.div_ceil(KILLS_A_LIFE), |life| {
        let before = life.number * KILLS_A_LIFE;
        live(life, KILLS_A_LIFE.min(kills - before), &tally);
    });
    tally.print("kills at moments");
    assert_eq!(tally.of("kills"), kills);
    if KILLS_A_LIFE <= kills {
        assert!(0 < tally.of("effects"));
        assert!(0 < tally.of("results that were told"));
    }
    if 100 <= kills {
        assert_eq!(tally.kinds("killed "), 4);
        for kind in [
            "left: a directory without a vault",
            "left: a vault",
            "keys that nobody had been told of yet",
            "keys that were interrupted",
            "replays",
        ] {
            assert!(0 < tally.of(kind), "{kind}");
        }
    }
}
