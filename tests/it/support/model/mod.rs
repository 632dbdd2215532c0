//! The contract again, as plainly as possible: what the store must answer.
//!
//! It shares no code with the store. A [`World`] runs operations on both and compares.

mod by_key;
mod flood;
mod handles;
mod runs;
#[cfg(feature = "transaction")]
mod shared;
mod unsaid;
mod whole;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::ErrorKind;
use std::sync::OnceLock;

use idemstore::sim::OpenOn;
use idemstore::{
    Builder, CheckpointError, CompleteError, Completed, Execution, Fingerprint, Interrupted, Key,
    ManualClock, NotKept, Permit, Status, Timestamp,
};

use super::disk::{self, Fault};
use super::faults::{Failing, FaultyProgram};
use super::ops::{ALL_KEYS, LEN_MAX, Len, Op, Program};
use super::{Bench, RETENTION_MS, START_MS, SimDisk, builder};
pub use unsaid::Seen;
use unsaid::Unsaid;

/// What is stored for a key, or will be once its permit starts.
#[derive(Clone, Debug)]
struct Known {
    request: u8,
    begun: u64,
    expires: u64,
    attempt: u32,
    checkpoint: Option<Vec<u8>>,
    /// When and with what it was completed, once it is.
    done: Option<(u64, Done)>,
}

#[derive(Clone, Debug)]
enum Done {
    Result(Vec<u8>),
    /// The result that wasn't kept.
    NotKept(Vec<u8>),
}

/// The holder of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Holder {
    #[default]
    Nobody,
    /// A permit, or a handle of an interrupted operation.
    Reservation,
    Execution,
    Detached,
}

#[derive(Clone, Debug, Default)]
struct KeyState {
    holder: Holder,
    /// When it was claimed.
    since: u64,
    known: Option<Known>,
}

enum Handle {
    Permit(Permit, Box<Known>),
    Execution(Execution),
    Interrupted(Interrupted),
}

/// A store, and the state that it must be in.
pub struct World {
    /// Taken out only while the store is opened again.
    bench: Option<Bench>,
    keys: HashMap<u8, KeyState>,
    handles: Vec<(u8, Handle)>,
    /// The caller's own table.
    rows: BTreeMap<u8, u8>,
    /// The latest time seen.
    now: u64,
    /// What failed calls may have made true.
    unsaid: Vec<Unsaid>,
    /// The failure to inject, until it has happened.
    fault: Option<Failing>,
    /// Whether another failure had already happened, so that this one is for the next open.
    fault_is_due: bool,
    pub seen: Seen,
}

impl World {
    /// The store's live table uses only these bits of a key's hash.
    pub fn new(hash_mask: u64) -> Self {
        Self::on(empty_store(), hash_mask, START_MS)
    }

    fn on(disk: SimDisk, hash_mask: u64, now: u64) -> Self {
        let clock = ManualClock::new(Timestamp::from_unix_ms(now));
        let bench = bench(disk, clock, hash_mask);
        Self {
            bench: Some(bench),
            keys: HashMap::new(),
            handles: Vec::new(),
            rows: BTreeMap::new(),
            now,
            unsaid: Vec::new(),
            fault: None,
            fault_is_due: false,
            seen: Seen::default(),
        }
    }

    /// Runs a whole program on a new store.
    pub fn play(program: &Program) {
        let mut world = Self::new(program.hash_mask);
        for op in &program.ops {
            world.run(op);
        }
        unplug(&world.bench().disk);
    }

    /// The same, with a disk that fails. At the end the power is cut.
    pub fn play_faulty(FaultyProgram { faults, program }: &FaultyProgram) -> Seen {
        let mut world = Self::new(program.hash_mask);
        for (at, op) in program.ops.iter().enumerate() {
            faults.iter().filter(|fault| fault.at == at).for_each(|fault| world.fail(*fault));
            world.run(op);
        }
        world.fault = None;
        world.run(&Op::PowerCut { seed: 0 });
        world.list(None, 0);
        (0..ALL_KEYS).for_each(|key| world.get(key));
        unplug(&world.bench().disk);
        world.seen
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().expect("the store is open between two operations")
    }

    pub fn run(&mut self, op: &Op) {
        match *op {
            Op::Begin(request) => self.begin(request),
            Op::Run { request, run } => self.run_request(request, run),
            Op::BeginMany { ref requests } => self.begin_many(requests),
            Op::CompleteByKey { key, len } => self.complete_by_key(key, len),
            Op::AbandonByKey { key } => self.abandon_by_key(key),
            Op::Forget { key } => self.forget(key),
            Op::Get { key } => self.get(key),
            Op::List { status, older_than_ms } => {
                self.list(status.map(status_of), older_than_ms.into());
            }
            Op::Tick { .. }
            | Op::StepBack { .. }
            | Op::Sweep
            | Op::Settle
            | Op::Count
            | Op::Compact
            | Op::Backup { .. }
            | Op::Reopen
            | Op::Kill
            | Op::PowerCut { .. } => self.run_whole(op),
            Op::Flood(flood) => self.flood(flood),
            #[cfg(feature = "transaction")]
            Op::Write(shared) => self.write(shared),
            #[cfg(not(feature = "transaction"))]
            Op::Write(_) | Op::CompleteWith { .. } => {}
            _ => self.run_handle_op(op),
        }
    }

    fn key(&mut self, key: u8) -> &mut KeyState {
        self.keys.entry(key).or_default()
    }

    /// The record of a key that is valid now: always while the key is held, otherwise until its
    /// retention ends.
    fn counting(&self, key: u8) -> (Holder, Option<&Known>) {
        let Some(state) = self.keys.get(&key) else { return (Holder::Nobody, None) };
        let held = state.holder != Holder::Nobody;
        (state.holder, state.known.as_ref().filter(|known| held || self.now < known.expires))
    }

    fn status(&self, key: u8) -> Option<Status> {
        match self.counting(key) {
            (Holder::Reservation, _) => Some(Status::Reserved),
            (Holder::Execution | Holder::Detached, _) => Some(Status::Executing),
            (Holder::Nobody, known) => known.map(|known| match known.done {
                None => Status::Interrupted,
                Some((_, Done::Result(_))) => Status::Completed,
                Some((_, Done::NotKept(_))) => Status::NotKept,
            }),
        }
    }

    /// A caller holds the key from now on.
    fn take(&mut self, key: u8, holder: Holder) {
        let since = self.now;
        let state = self.key(key);
        (state.holder, state.since) = (holder, since);
    }

    fn let_go(&mut self, key: u8) {
        self.key(key).holder = Holder::Nobody;
    }

    fn free(&mut self, key: u8) {
        *self.key(key) = KeyState::default();
    }

    /// What remains known of a completed key that no caller holds.
    fn done(&mut self, key: u8, known: Known, done: Done) -> &Known {
        let known = self.finished(known, done);
        let state = self.key(key);
        state.holder = Holder::Nobody;
        state.known.insert(known)
    }

    /// What is now stored of an operation: if its retention is over, it begins a new one.
    fn renewed(&self, known: Known) -> Known {
        let retention = known.expires - known.begun;
        if self.now < known.expires {
            return known;
        }
        let expires = (self.now + retention).min(Timestamp::MAX.as_unix_ms());
        Known { expires, ..known }
    }

    /// The same, if it is completed now.
    fn finished(&self, known: Known, done: Done) -> Known {
        let mut known = self.renewed(known);
        (known.done, known.checkpoint) = (Some((self.now, done)), None);
        known
    }

    fn completed(&mut self, key: u8, before: Known, result: Vec<u8>, completed: &Completed) {
        check_completed(completed, self.done(key, before, Done::Result(result)));
    }

    fn buried(&mut self, key: u8, before: Known, result: Vec<u8>, tombstone: &NotKept) {
        check_tombstone(tombstone, self.done(key, before, Done::NotKept(result)));
    }
}

/// The facts that all handles show.
macro_rules! check_facts {
    ($handle:expr, $known:expr) => {{
        assert_eq!($handle.begun_at().as_unix_ms(), $known.begun);
        assert_eq!($handle.expires_at().as_unix_ms(), $known.expires);
        assert_eq!($handle.attempt(), $known.attempt);
    }};
}
use check_facts;

fn check_completed(completed: &Completed, known: &Known) {
    let Some((at, Done::Result(result))) = &known.done else { panic!("{known:?} has no result") };
    check_facts!(completed, known);
    assert_eq!(completed.result(), result);
    assert_eq!(completed.completed_at().as_unix_ms(), *at);
}

fn check_tombstone(tombstone: &NotKept, known: &Known) {
    let Some((at, Done::NotKept(result))) = &known.done else { panic!("{known:?} is none") };
    check_facts!(tombstone, known);
    assert_eq!(tombstone.result_len(), result.len() as u64);
    assert_eq!(tombstone.result_digest(), *blake3::hash(result).as_bytes());
    assert_eq!(tombstone.completed_at().as_unix_ms(), *at);
}

fn check_execution(execution: &Execution, known: &Known) {
    check_facts!(execution, known);
    assert_eq!(execution.last_checkpoint(), known.checkpoint.as_deref());
}

fn refused<H: Debug>(error: CompleteError<H>) -> H {
    match error {
        CompleteError::TooLarge { handle, max, .. } if max == usize::from(LEN_MAX) => handle,
        other => panic!("{other:?}"),
    }
}

fn refused_checkpoint(error: CheckpointError) {
    match error {
        CheckpointError::TooLarge { max, .. } if max == usize::from(LEN_MAX) => {}
        other => panic!("{other:?}"),
    }
}

fn fits(bytes: &[u8]) -> bool {
    bytes.len() <= usize::from(LEN_MAX)
}

/// Even keys have a scope, so that scoped and bare ones mix.
fn name(key: u8) -> Key {
    let scope = if key.is_multiple_of(2) { "scope" } else { "" };
    Key::scoped(scope, [b'k', key / 2]).expect("it is a key")
}

fn fingerprint(request: u8) -> Fingerprint {
    Fingerprint::of([request])
}

fn result(key: u8, Len(len): Len) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[0] ^ key).collect()
}

/// A checkpoint that differs between attempts, and from every result.
fn progress(known: &Known, Len(len): Len) -> Vec<u8> {
    (0..len).map(|at| !at.to_le_bytes()[0] ^ known.attempt.to_le_bytes()[0]).collect()
}

fn status_of(number: u8) -> Status {
    match number % 5 {
        0 => Status::Reserved,
        1 => Status::Executing,
        2 => Status::Interrupted,
        3 => Status::Completed,
        _ => Status::NotKept,
    }
}

/// Few starts may wait, so a small flood is enough.
const STARTS_MAX: usize = 8;

fn options(clock: &ManualClock, hash_mask: u64) -> Builder {
    builder(clock).hash_mask(hash_mask).starts_max(STARTS_MAX)
}

fn bench(disk: SimDisk, clock: ManualClock, hash_mask: u64) -> Bench {
    let store = options(&clock, hash_mask).open_on(disk.clone()).expect("the store opens");
    Bench { disk, clock, store, hash_mask }
}

/// A store in which nothing was ever stored. Creating one takes longer than most of what is done
/// with it, so it is created once.
fn empty_store() -> SimDisk {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let bench = Bench::new();
        let disk = bench.disk.clone();
        bench.store.close().expect("the store closes");
        disk.bytes()
    });
    let disk = SimDisk::new();
    for (name, bytes) in files {
        disk.put(name, bytes.clone());
    }
    disk
}

/// This disk is no longer checked, so the store need not spend time on a clean close.
fn unplug(disk: &SimDisk) {
    disk.fail(Fault { on: disk::Op::Any, after: 0, for_good: true, kind: ErrorKind::Other });
}

/// A step of the splitmix64 generator.
pub fn splitmix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// How a call for this key waits: each key has its own way. The fuzzer is faster on one thread.
pub(super) fn as_future(key: u8) -> bool {
    !cfg!(fuzzing) && key % 2 == 1
}
