//! What a crash leaves, checked after every operation of a run.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use idemstore::sim::OpenOn;
use idemstore::{Clock, ManualClock, Store, Timestamp};

use super::choice::{EveryRow, by_seed};
use super::disk::{Fault, Image, Op};
use super::model::splitmix;
use super::oracle::{Found, Oracle, try_check_whole};
use super::script::{self, Told};
use super::{START_MS, SimDisk, builder, crew};

/// The disk after one operation of a run, and what the callers had been told by then.
pub struct Moment {
    pub operation: u64,
    pub disk: SimDisk,
    pub now: Timestamp,
    pub truth: Oracle,
    /// Distinguishes a time and a truth from others.
    digest: u64,
}

impl Moment {
    pub fn new(operation: u64, disk: SimDisk, now: Timestamp, truth: Oracle) -> Self {
        let mut hasher = DefaultHasher::new();
        (&truth, now.as_unix_ms()).hash(&mut hasher);
        Self { operation, disk, now, truth, digest: hasher.finish() }
    }
}

/// Runs the script on this disk, and shows its state after each operation to several threads at
/// once. Returns how many operations there were.
pub fn at_each_operation(disk: SimDisk, look: impl Fn(Moment) + Sync) -> u64 {
    at_each_operation_of(0, disk, look)
}

/// The same for a script that is drawn from this seed, if that is not 0.
pub fn at_each_operation_of(seed: u64, disk: SimDisk, look: impl Fn(Moment) + Sync) -> u64 {
    at_each_operation_while(disk, look, |disk, clock, told| {
        if seed == 0 {
            script::run(disk, clock, told).expect("the disk is well");
        } else {
            script::drawn::run(seed, disk, clock, told).expect("the disk is well");
        }
        let calls = told.lock().told() / 2;
        assert!(if seed == 0 { 40 } else { 4 } < calls, "only {calls} calls");
    })
}

/// The same for any work.
pub fn at_each_operation_while(
    disk: SimDisk,
    look: impl Fn(Moment) + Sync,
    run: impl FnOnce(&SimDisk, &ManualClock, &Told),
) -> u64 {
    let told = Told::default();
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let (moments, shown) = sync_channel(8);
    let look = &look;
    // What is moved in here is dropped if the script panics, so that no thread waits forever.
    thread::scope(move |scope| {
        scope.spawn(move || crew::each(shown.into_iter(), look));
        let mut operations = 0..;
        disk.observe({
            let (clock, told) = (clock.clone(), told.clone());
            move |disk| {
                let operation = operations.next().expect("there are enough numbers");
                let (disk, truth) = (disk.after_kill_of_process(), told.lock().clone());
                let moment = Moment::new(operation, disk, clock.now(), truth);
                // If no thread is checking any more, they have panicked, which is reported
                // elsewhere.
                let _ = moments.send(moment);
            }
        });
        run(&disk, &clock, &told);
        let operations = disk.operations(Op::Any);
        disk.ignore();
        operations
    })
}

/// Images that were checked, each as a 64-bit digest: the chance that two of five million share one
/// is one in a million.
pub type Known = Mutex<HashSet<u64>>;

/// The results of checking crash images.
#[derive(Default)]
pub struct Findings {
    /// Images that were opened, each once for what was known at that point.
    pub images: AtomicU64,
    /// Images that were the same as an earlier one.
    pub repeated: AtomicU64,
    /// Images in which something was true that no caller had been told yet.
    pub early: AtomicU64,
    /// Operations after which every possible image was checked.
    pub whole: AtomicU64,
    known: Arc<Known>,
    /// Calls under way that were found not to be true yet, and to be true already.
    calls: Mutex<BTreeMap<u64, [bool; 2]>>,
    wrong: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Findings {
    /// Skips the images that are already known, and adds new ones to them.
    pub fn beside(known: &Arc<Known>) -> Self {
        Self { known: Arc::clone(known), ..Self::default() }
    }

    /// What a crash at this moment leaves must be a store, with each key in one of its allowed
    /// states.
    pub fn check(&self, moment: &Moment, image: &SimDisk, what: impl Display) {
        if !lock(&self.known).insert(identity(moment, image)) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.images.fetch_add(1, Ordering::Relaxed);
        let looked = catch_unwind(AssertUnwindSafe(|| look(moment, image)));
        match looked.unwrap_or_else(|_| Err("it has panicked".to_owned())) {
            Ok(found) => self.note(&found),
            Err(wrong) => {
                let wrong = format!("after operation {}, {what}: {wrong}", moment.operation);
                lock(&self.wrong).push(wrong);
            }
        }
    }

    fn note(&self, found: &[Found]) {
        let early = found.iter().any(|found| found.early);
        self.early.fetch_add(early.into(), Ordering::Relaxed);
        let mut calls = lock(&self.calls);
        for (found, call) in found.iter().filter_map(|found| Some((found, found.call?))) {
            calls.entry(call).or_default()[usize::from(found.early)] = true;
        }
    }

    /// Images of power cuts at this moment: this many, or all if there are fewer.
    pub fn check_power_cuts(&self, moment: &Moment, image: Image, images: u64, seed: u64) {
        if !image.beyond && moment.disk.ways(image) <= images {
            let mut rows = EveryRow::default();
            for row in 0.. {
                let cut = moment.disk.after_power_cut_of_each(image, |below| rows.choose(below));
                self.check(moment, &cut, format_args!("power cut {row} of all, {image:?}"));
                if !rows.advance() {
                    break;
                }
            }
            self.whole.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.check(
            moment,
            &moment.disk.after_power_cut(|_| 0),
            "power cut that leaves what was synced",
        );
        for number in 1..images {
            let seed = splitmix(seed ^ moment.operation << 40 ^ number);
            let cut = moment.disk.after_power_cut_as(image, by_seed(seed));
            self.check(moment, &cut, format_args!("power cut by the seed {seed}, {image:?}"));
        }
    }

    pub fn wrong(&self) -> usize {
        lock(&self.wrong).len()
    }

    /// Fails if anything was wrong, and reports what was covered. Each interrupted call has been
    /// found both done and not done.
    pub fn report(&self, what: &str) {
        let wrong = lock(&self.wrong);
        let first = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{} images are wrong, among them:\n{first}", wrong.len());
        let calls = lock(&self.calls);
        let reached = |which: usize| calls.values().filter(|reached| reached[which]).count();
        println!(
            "{what}: {} images, {} more that were the same, {} early; {} operations in full; \
             of {} calls under way {} were not true yet, and {} were already",
            self.images.load(Ordering::Relaxed),
            self.repeated.load(Ordering::Relaxed),
            self.early.load(Ordering::Relaxed),
            self.whole.load(Ordering::Relaxed),
            calls.len(),
            reached(0),
            reached(1),
        );
    }

    /// Calls that were under way, of which some were found not to be true yet, and some to be true.
    pub fn calls(&self) -> [usize; 3] {
        let calls = lock(&self.calls);
        let reached = |which: usize| calls.values().filter(|reached| reached[which]).count();
        [calls.len(), reached(0), reached(1)]
    }
}

/// Distinguishes an image from others, together with what must be true of it.
fn identity(moment: &Moment, image: &SimDisk) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&moment.digest.to_le_bytes()).update(&image.digest());
    let mut identity = [0; 8];
    hasher.finalize_xof().fill(&mut identity);
    u64::from_le_bytes(identity)
}

/// Opens an image, and compares all keys.
fn look(moment: &Moment, image: &SimDisk) -> Result<Vec<Found>, String> {
    let clock = ManualClock::new(moment.now);
    let store = builder(&clock).open_on(image.clone()).map_err(|error| format!("{error:?}"))?;
    let found = moment.truth.try_check(&store)?;
    try_check_whole(&store, &found)?;
    try_check_rows(&store, &found)?;
    // What a close would write isn't checked.
    let kind = std::io::ErrorKind::Other;
    image.fail(Fault { on: Op::Every, after: 0, for_good: true, kind });
    Ok(found)
}

/// The caller's row of a key is there if and only if its result is.
#[cfg(feature = "transaction")]
pub fn try_check_rows(store: &Store, found: &[Found]) -> Result<(), String> {
    use idemstore::redb::{ReadableTable, TableError};
    let own = || found.iter().filter(|found| found.name.starts_with("own"));
    let transaction = store.read_transaction().map_err(|error| error.to_string())?;
    let rows = match transaction.open_table(script::ROWS) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => {
            let without = own().find(|found| found.completed);
            return without.map_or(Ok(()), |found| Err(format!("{found:?} has no row")));
        }
        Err(error) => return Err(error.to_string()),
    };
    for found in own() {
        let row = rows.get(&*found.name).map_err(|error| error.to_string())?.is_some();
        // The row of a key whose retention is over is still there.
        if row != found.completed && found.may_be_completed {
            return Err(format!("{found:?}, row: {row}"));
        }
    }
    for row in rows.iter().map_err(|error| error.to_string())? {
        let (name, _) = row.map_err(|error| error.to_string())?;
        if !name.value().starts_with("own") {
            return Err("a refused closure has left a row".to_owned());
        }
    }
    Ok(())
}

/// Without the caller's rows, only one check is left: nothing was completed unasked.
#[cfg(not(feature = "transaction"))]
pub fn try_check_rows(_: &Store, found: &[Found]) -> Result<(), String> {
    let unasked = found.iter().find(|found| !found.may_be_completed && found.completed);
    unasked.map_or(Ok(()), |found| Err(found.name.clone()))
}
