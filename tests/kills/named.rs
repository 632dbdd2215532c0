//! A kill at each point of a whole life, and at points of what comes after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use idemstore::sim::{Disk, OpenOn};
use idemstore::{Begin, Clock, Fingerprint, ManualClock, Timestamp};

use crate::child::{Child, Task, Work, stop};
use crate::life::{Life, lead};
use crate::points::PointDisk;
use crate::support::crashes::try_check_rows;
use crate::support::model::splitmix;
use crate::support::oracle::{Oracle, Truth, Unsaid};
use crate::support::script::{self, Told};
use crate::support::{START_MS, SimDisk, builder, key};
use crate::tally::Tally;
use crate::{kills, seed};

/// A point of a process's work, and what must be true of a store whose process ends there.
#[derive(Clone)]
struct Point {
    label: String,
    /// How many reports this process had made to its callers.
    told: u64,
    oracle: Arc<Oracle>,
    now: Timestamp,
}

impl Point {
    /// The operation at this point, at any moment and on either segment of the log.
    fn kind(&self) -> &str {
        let (_, kind) = self.label.split_once(' ').expect("a label has a moment first");
        kind.trim_end_matches(['-', '0', '1'])
    }
}

/// The whole work of a process.
struct Course {
    points: Vec<Point>,
    /// What is true at its end.
    end: Oracle,
}

/// Does the work of a child, on any disk.
fn work<D>(task: &Task, disk: &D, clock: &ManualClock, told: &Told) -> Result<(), Unsaid>
where
    D: Disk + Clone,
{
    if task.work == Work::Script {
        return script::run(disk, clock, told);
    }
    let unsaid = |error: &dyn std::fmt::Display| Unsaid(error.to_string());
    let store = builder(clock).open_on(disk.clone()).map_err(|error| unsaid(&error))?;
    let name = format!("afterwards {}", task.number);
    let begin = store.begin(&key(&name), Fingerprint::of(&name)).map_err(|error| unsaid(&error))?;
    let Begin::Fresh(permit) = begin else { panic!("{name} is not fresh: {begin:?}") };
    let started = Truth::Interrupted { attempt: 1, checkpoint: None };
    let execution = told.call(&name, started, || permit.start())?;
    let completed = Truth::Completed(b"result".to_vec());
    told.call(&name, completed, || execution.complete("result"))?;
    store.compact().map_err(|error| unsaid(&error))?;
    store.close().map(drop).map_err(|error| unsaid(&error))
}

/// The child: it works until it reaches its point.
pub fn run(task: &Task) {
    let clock = ManualClock::new(Timestamp::from_unix_ms(task.now_ms));
    let (told, point) = (Told::default(), task.point.unwrap_or(u64::MAX));
    let so_far = told.clone();
    let disk = PointDisk::at(&task.store, Some(point), move |label| {
        let told = so_far.lock().told();
        stop(&format!("told {told} {label}"));
    });
    work(task, &disk, &clock, &told).expect("the disk is well");
}

/// The course of a child with this task and this disk.
fn course(task: &Task, disk: &SimDisk, oracle: Oracle) -> Course {
    let (before, told) = (oracle.told(), Told::from(oracle));
    let clock = ManualClock::new(Timestamp::from_unix_ms(task.now_ms));
    let (disk, points) = (disk.after_kill(), Arc::<Mutex<Vec<Point>>>::default());
    let disk = PointDisk::new(move || Box::new(disk.clone()), None, {
        let (points, clock, told) = (Arc::clone(&points), clock.clone(), told.clone());
        move |label| {
            let (mut points, oracle) = (points.lock().expect("no watcher panics"), told.lock());
            let told = oracle.told() - before;
            let oracle = match points.last() {
                // Nothing was reported since, so it's the same oracle.
                Some(last) if last.told == told => Arc::clone(&last.oracle),
                _ => Arc::new(oracle.clone()),
            };
            points.push(Point { label: label.to_owned(), told, oracle, now: clock.now() });
        }
    });
    work(task, &disk, &clock, &told).expect("the disk is well");
    let points = std::mem::take(&mut *points.lock().expect("no watcher panics"));
    Course { points, end: told.lock().clone() }
}

/// Kills a child at a point of its course.
fn kill_at(task: &Task, point: &Point) {
    let mut child = Child::start(task);
    child.hear();
    let said = child.kill();
    // Once it has stopped it does nothing more, so this is everything.
    assert_eq!(said, [format!("told {} {}", point.told, point.label)]);
}

/// What is there must be a store, with each of its keys in an allowed state, which is its state
/// from now on. Works on a copy.
fn adopt(image: &SimDisk, oracle: &mut Oracle, now_ms: u64, tally: &Tally) {
    let clock = ManualClock::new(Timestamp::from_unix_ms(now_ms));
    let store = builder(&clock).open_on(image.after_kill()).expect("a kill leaves a store");
    let found = oracle.adopt(&store);
    try_check_rows(&store, &found).expect("results and rows agree");
    let early = found.iter().filter(|found| found.early).count();
    tally.count("keys that nobody had been told of yet", early);
}

/// A life up to a point of the script, then this many kills of processes that continue, and one
/// that finishes.
fn live(life: &Life, script: &Course, number: u64, again: u64, tally: &Tally) {
    let mut point = script.points[number as usize].clone();
    let store = life.store();
    let task = Task { work: Work::Script, store, point: Some(number), number: 0, now_ms: START_MS };
    kill_at(&task, &point);
    tally.count(&format!("in a life: {}", point.kind()), 1);
    let mut choice = splitmix(seed() ^ splitmix(life.number));
    let now_ms = point.now.as_unix_ms();
    for number in 0..=again {
        let (image, mut oracle) = (life.image_of_kill(tally), Oracle::clone(&point.oracle));
        adopt(&image, &mut oracle, now_ms, tally);
        let mut task = Task { work: Work::GoOn, store: life.store(), point: None, number, now_ms };
        let mut course = course(&task, &image, oracle);
        if number == again {
            let image = life.go_on(number, now_ms);
            adopt(&image, &mut course.end, now_ms, &Tally::new());
            return;
        }
        choice = splitmix(choice);
        let next = choose(&course.points, choice);
        task.point = Some(next);
        point = course.points.swap_remove(next as usize);
        kill_at(&task, &point);
        tally.count(&format!("afterwards: {}", point.kind()), 1);
    }
}

/// The points of each kind, by number.
fn kinds(points: &[Point]) -> BTreeMap<&str, Vec<u64>> {
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    for (number, point) in (0..).zip(points) {
        kinds.entry(point.kind()).or_default().push(number);
    }
    kinds
}

/// All points, with their kinds in rotation, so that the first few cover as many kinds as possible.
fn by_turns(points: &[Point]) -> Vec<u64> {
    let mut kinds = kinds(points);
    for numbers in kinds.values_mut() {
        numbers.sort_by_key(|number| splitmix(seed() ^ splitmix(*number)));
    }
    let turns = kinds.values().map(Vec::len).max().unwrap_or_default();
    (0..turns)
        .flat_map(|turn| kinds.values().filter_map(move |numbers| numbers.get(turn)))
        .copied()
        .collect()
}

/// Any point of any kind: all kinds are equally likely, however many points they have.
fn choose(points: &[Point], choice: u64) -> u64 {
    let kinds = kinds(points);
    let numbers = kinds.values().nth(choice as usize % kinds.len()).expect("there is a point");
    numbers[splitmix(choice) as usize % numbers.len()]
}

/// Lives that add up to this many kills, each with the number of times that it is killed again:
/// once each kind of point has had its turn, two lives of three are.
fn plan(kills: u64, kinds: usize) -> Vec<u64> {
    let (mut plan, mut planned) = (Vec::new(), 0);
    while planned < kills {
        let again = if plan.len() < kinds { 0 } else { plan.len() as u64 % 3 };
        plan.push(again);
        planned += 1 + again;
    }
    plan
}

#[test]
fn a_kill_at_any_point_of_a_life_and_of_the_next_loses_nothing() {
    let task = Task {
        work: Work::Script,
        store: "nowhere".into(),
        point: None,
        number: 0,
        now_ms: START_MS,
    };
    let script = course(&task, &SimDisk::new(), Oracle::default());
    let turns = by_turns(&script.points);
    let kinds = kinds(&script.points).len();
    assert!(900 < turns.len() && 20 <= kinds, "{} points of {kinds} kinds", turns.len());
    let plan = plan(kills() * 3 / 4, kinds);
    let tally = Tally::new();
    lead(plan.len() as u64, |life| {
        let number = turns[life.number as usize % turns.len()];
        live(life, &script, number, plan[life.number as usize], &tally);
    });
    println!("{} points of {kinds} kinds", turns.len());
    tally.print("kills at points");
    assert_eq!(tally.of("kills"), plan.iter().map(|again| 1 + again).sum::<u64>());
    assert_eq!(tally.kinds("in a life: "), kinds.min(plan.len()));
    // The cases that these kinds of points exist for.
    if kinds <= plan.len() {
        for kind in [
            "left: a directory without a vault",
            "left: a vault",
            "keys that nobody had been told of yet",
        ] {
            assert!(0 < tally.of(kind), "{kind}");
        }
    }
    // One of all points is before anything was done.
    if turns.len() <= plan.len() {
        assert!(0 < tally.of("left: no directory"));
        assert!(10 <= tally.kinds("afterwards: "));
    }
}
