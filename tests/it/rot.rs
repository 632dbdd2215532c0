//! Bits that change spontaneously: the answer is right or a typed error, never wrong and never
//! missing.
//!
//! What a damaged log must lead to is exact. Damage to a frame that has a valid one behind it is
//! refused. Damage that takes only the last frames looks like a write that was cut short: the store
//! is in the state before them. A damaged vault is refused, or harmless.

mod behind;
mod cuts;
mod flips;
mod pages;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use idemstore::sim::OpenOn;
use idemstore::{Error, Fingerprint, ManualClock, OpenError, Store};

use crate::support::disk::{Fault, Op};
use crate::support::oracle::Truth;
use crate::support::{Answers, Bench, SimDisk, Started, builder, key};

const VAULT: &str = "vault.redb";
const LOGS: [&str; 2] = ["log-0", "log-1"];
/// Where the frames of a segment start.
const FRAMES_AT: usize = 4096;
/// Where the two copies of a segment's header are; the rest of its first page is unused. Both
/// copies are valid while a segment has never grown.
const SEGMENT_HEADERS: [Range<usize>; 2] = [0..60, 2_048..2_108];
/// Bytes of a frame's header.
const FRAME_HEADER_LEN: usize = 48;

/// The state of each key.
type Keys = BTreeMap<String, Truth>;
type Files = BTreeMap<String, Vec<u8>>;

/// A small store as a kill leaves it: some of it is in the vault, and some in frames that fill one
/// segment of the log and continue in the other.
struct Image {
    files: Files,
    clock: ManualClock,
    /// Its keys before the first frame that isn't in the vault, and after each such frame.
    states: Vec<Keys>,
    /// These frames, in order.
    frames: Vec<FrameAt>,
    /// The files at earlier times.
    earlier: Vec<Files>,
}

/// Where a frame is: the bytes that its checksum covers.
#[derive(Clone, Debug)]
struct FrameAt {
    log: &'static str,
    bytes: Range<usize>,
}

/// What a damaged store turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Refused,
    /// Its state after this many of its frames.
    After(usize),
}

/// Makes the image, and records what each call returned.
struct Making {
    bench: Bench,
    states: Vec<Keys>,
}

impl Making {
    fn note(&mut self, name: &str, truth: Truth) {
        let mut keys = self.states.last().cloned().unwrap_or_default();
        keys.insert(name.to_owned(), truth);
        self.states.push(keys);
    }

    fn start(&mut self, name: &str) -> idemstore::Execution {
        let execution = self.bench.begin(name, name).started();
        self.note(name, Truth::Interrupted { attempt: 1, checkpoint: None });
        execution
    }

    fn complete(&mut self, name: &str, len: usize) {
        let result = name.bytes().cycle().take(len).collect::<Vec<_>>();
        self.start(name).complete(&result).expect("it completes");
        self.note(name, Truth::Completed(result));
    }

    fn interrupt(&mut self, name: &str, checkpoint_len: usize) {
        let mut execution = self.start(name);
        let checkpoint = vec![b'c'; checkpoint_len];
        execution.checkpoint(&checkpoint).expect("it is stored");
        self.note(name, Truth::Interrupted { attempt: 1, checkpoint: Some(checkpoint) });
    }

    fn abandon(&mut self, name: &str) {
        self.start(name).abandon().expect("it is abandoned");
        self.note(name, Truth::Free);
    }

    fn tombstone(&mut self, name: &str) {
        self.start(name).complete_digest(name).expect("it completes");
        self.note(name, Truth::NotKept(name.len() as u64));
    }

    /// Every kind of record, with this name in its keys.
    fn each_kind(&mut self, name: &str) {
        self.complete(&format!("{name} completed"), 400);
        self.complete(&format!("{name} long"), 1_300);
        self.interrupt(&format!("{name} interrupted"), 20);
        self.interrupt(&format!("{name} far"), 900);
        self.abandon(&format!("{name} abandoned"));
        self.tombstone(&format!("{name} tombstone"));
    }

    /// Settled operations continue.
    fn go_on(&mut self, name: &str) {
        let interrupted = format!("{name} interrupted");
        let execution = self.bench.begin(&interrupted, &interrupted).interrupted().retry();
        let checkpoint = Some(vec![b'c'; 20]);
        self.note(&interrupted, Truth::Interrupted { attempt: 2, checkpoint });
        execution.expect("it starts again").complete("done").expect("it completes");
        self.note(&interrupted, Truth::Completed(b"done".to_vec()));
        let completed = format!("{name} completed");
        assert!(self.bench.store.forget(&key(&completed)).expect("it is forgotten"));
        self.note(&completed, Truth::Free);
    }
}

impl Image {
    fn new() -> Self {
        let mut making = Making { bench: Bench::new(), states: Vec::new() };
        let mut earlier = vec![making.bench.disk.bytes()];
        for part in 0..3 {
            making.each_kind(&format!("settled {part}"));
        }
        earlier.push(making.bench.disk.bytes());
        making.bench.store.settle().expect("it settles");
        earlier.push(making.bench.disk.bytes());
        making.states.drain(..making.states.len() - 1);
        // 27 kB fill most of a segment, and the rest goes into the other one.
        making.go_on("settled 0");
        for part in 0..8 {
            making.each_kind(&format!("logged {part}"));
        }
        earlier.push(making.bench.disk.bytes());
        making.go_on("logged 0");
        let Making { bench, states } = making;
        let files = bench.disk.after_kill().bytes();
        let frames = frames(&files, states.len() - 1);
        for log in LOGS {
            assert!(frames.iter().any(|frame| frame.log == log), "nothing is in {log}");
        }
        Self { files, clock: bench.clock, states, frames, earlier }
    }

    /// The state of all keys after this many frames, including keys that were not begun yet.
    fn known(&self, after: usize) -> Keys {
        let names = self.states[self.last()].keys();
        let truth = |name| self.states[after].get(name).cloned().unwrap_or(Truth::Free);
        names.map(|name| (name.clone(), truth(name))).collect()
    }

    fn last(&self) -> usize {
        self.frames.len()
    }

    /// Opens a store of these files, and determines its state.
    fn look(&self, files: &Files) -> Seen {
        let Some(store) = open_on(disk_of(files), &self.clock) else { return Seen::Refused };
        let names = self.states.last().expect("there is one").keys();
        let keys: Keys = names
            .map(|name| (name.clone(), ask(&store, name).expect("an open store answers")))
            .collect();
        assert_eq!(ask(&store, "never used").expect("an open store answers"), Truth::Free);
        self.after(&keys)
    }

    /// The first state that equals this one: a key that was started and abandoned is free again, as
    /// it was before.
    fn after(&self, keys: &Keys) -> Seen {
        let state = self.states.iter().position(|state| is_same(state, keys));
        Seen::After(state.unwrap_or_else(|| panic!("the store was never so: {keys:?}")))
    }

    /// The expected result for these files, if their vault is intact.
    fn expected(&self, files: &Files) -> Seen {
        let is_whole = |name: &str, range: Range<usize>| {
            files[name].get(range.clone()) == self.files[name].get(range)
        };
        let has_header = |log: &&str| {
            files[*log].len() == self.files[*log].len()
                && SEGMENT_HEADERS.into_iter().all(|header| is_whole(log, header))
        };
        if !LOGS.iter().all(has_header) {
            return Seen::Refused;
        }
        let is_in_place = |frame: &FrameAt| is_whole(frame.log, frame.bytes.clone());
        let first = self.frames.iter().position(|frame| !is_in_place(frame));
        let first = first.unwrap_or(self.last());
        let is_anywhere = |frame: &FrameAt| {
            let frame = &self.files[frame.log][frame.bytes.clone()];
            let starts = |bytes: &[u8]| {
                bytes[FRAMES_AT..].windows(frame.len()).step_by(8).any(|bytes| bytes == frame)
            };
            LOGS.iter().any(|log| starts(&files[*log]))
        };
        if self.frames[first..].iter().any(is_anywhere) {
            Seen::Refused
        } else {
            self.after(&self.known(first))
        }
    }

    /// Opens the store after this damage; any result but the expected one is a failure that names
    /// the damage.
    fn check(&self, what: &str, damage: impl FnOnce(&mut Files)) -> Seen {
        let mut files = self.files.clone();
        damage(&mut files);
        let expected = self.expected(&files);
        let seen = catch_unwind(AssertUnwindSafe(|| self.look(&files)))
            .unwrap_or_else(|_| panic!("a wrong answer or a panic after {what}"));
        let may_be_refused = files[VAULT] != self.files[VAULT];
        assert!(
            seen == expected || (may_be_refused && seen == Seen::Refused),
            "{seen:?} and not {expected:?} after {what}"
        );
        seen
    }
}

/// A state from before a key was used has it as free.
fn is_same(state: &Keys, found: &Keys) -> bool {
    found.iter().all(|(name, truth)| state.get(name).unwrap_or(&Truth::Free) == truth)
}

fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    for (name, bytes) in files {
        disk.put(name, bytes.clone());
    }
    disk
}

/// The store on this disk, or `None` if it is refused as damaged.
fn open_on(disk: SimDisk, clock: &ManualClock) -> Option<Store> {
    match builder(clock).open_on(disk) {
        Ok(store) => Some(store),
        Err(
            OpenError::Corrupt { .. }
            | OpenError::NotAStore { .. }
            | OpenError::UnsupportedVersion { .. }
            | OpenError::Storage { .. }
            | OpenError::Io { .. },
        ) => None,
        Err(other) => panic!("{other}"),
    }
}

/// The state of a key, if the store can tell.
fn ask(store: &Store, name: &str) -> Result<Truth, Error> {
    let begin = store.begin(&key(name), Fingerprint::of(name))?;
    Ok(Truth::of(begin).unwrap_or_else(|other| panic!("nobody holds {name}, and it is {other:?}")))
}

fn number_at<const LEN: usize>(bytes: &[u8], at: usize) -> [u8; LEN] {
    bytes[at..at + LEN].try_into().expect("as many bytes")
}

/// The last frames that were written, in order: each segment starts with those of its last use.
fn frames(files: &Files, count: usize) -> Vec<FrameAt> {
    let mut frames = Vec::new();
    for log in LOGS {
        let (bytes, mut at) = (&files[log], FRAMES_AT);
        let salt = number_at::<8>(bytes, at + 8);
        while bytes[at..].starts_with(b"ifrm") && number_at::<8>(bytes, at + 8) == salt {
            let len = u32::from_le_bytes(number_at(bytes, at + 4)) as usize + FRAME_HEADER_LEN;
            let number = u64::from_le_bytes(number_at(bytes, at + 16));
            frames.push((number, FrameAt { log, bytes: at..at + len }));
            at = (at + len).next_multiple_of(8);
        }
    }
    frames.sort_by_key(|(number, _)| *number);
    let frames = frames.split_off(frames.len() - count);
    frames.into_iter().map(|(_, frame)| frame).collect()
}

/// Does the work on two threads, and counts the results.
fn tally<W: Sync, K: Ord + Send>(work: &[W], one: impl Fn(&W) -> K + Sync) -> BTreeMap<K, usize> {
    const THREADS: usize = 2;
    let count = |thread: usize| {
        let mut tally = BTreeMap::<K, usize>::new();
        for work in work.iter().skip(thread).step_by(THREADS) {
            *tally.entry(one(work)).or_default() += 1;
        }
        tally
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || count(thread))).collect();
        let mut sum = BTreeMap::<K, usize>::new();
        for tally in threads.into_iter().map(thread::ScopedJoinHandle::join) {
            for (kind, count) in tally.expect("what is found wrong was shown above") {
                *sum.entry(kind).or_default() += count;
            }
        }
        sum
    })
}

#[test]
fn a_store_that_is_not_damaged_is_what_it_was() {
    let image = Image::new();
    assert_eq!(image.check("nothing", |_| {}), Seen::After(image.last()));
}

#[test]
fn a_missing_file_is_noticed() {
    let image = Image::new();
    for name in [VAULT, LOGS[0], LOGS[1]] {
        let disk = disk_of(&image.files);
        disk.remove(name);
        assert!(open_on(disk, &image.clock).is_none(), "{name}");
    }
}

#[test]
fn the_log_of_another_store_is_noticed() {
    let (image, other) = (Image::new(), Image::new());
    for log in LOGS {
        let mut files = image.files.clone();
        files.insert(log.to_owned(), other.files[log].clone());
        assert_eq!(image.look(&files), Seen::Refused, "{log}");
    }
}

#[test]
fn a_segment_that_was_wiped_is_noticed_by_the_one_after_it() {
    // Both segments hold frames that aren't in the vault: the first is full, and the writing has
    // continued in the second. A kill finds a store like this when a settle hasn't finished.
    let bench = Bench::new();
    bench.disk.fail(Fault {
        on: Op::VaultSync,
        after: 0,
        for_good: true,
        kind: std::io::ErrorKind::Other,
    });
    let mut names = Vec::new();
    for step in 0.. {
        let name = format!("{step}");
        let permit = bench.begin(&name, "request").fresh();
        if permit.complete([7; 1_000]).is_err() {
            break;
        }
        names.push(name);
    }
    let (disk, clock) = (bench.disk.after_kill(), bench.clock);
    let whole = Bench::on(disk.after_kill(), clock.clone());
    for name in &names {
        assert_eq!(whole.begin(name, "request").replay().result(), [7; 1_000]);
    }
    let first = |name: &str| u64::from_le_bytes(number_at(&disk.bytes()[name], FRAMES_AT + 16));
    let earlier = if first("log-0") < first("log-1") { "log-0" } else { "log-1" };
    disk.damage(earlier, |bytes| bytes[FRAMES_AT..].fill(0));
    let opened = builder(&clock).open_on(disk);
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
}
