//! Stores to damage, and what is true of each.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::OnceLock;

use idemstore::sim::OpenOn;
use idemstore::{Fingerprint, Key, KeyInfo, ManualClock, Status, Timestamp};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, SimDisk, Started, builder, key};

pub type Files = BTreeMap<String, Vec<u8>>;

pub const NAMES: [&str; 3] = ["vault.redb", "log-0", "log-1"];
/// When the stores of the fixtures were created.
const FIXTURES_MS: u64 = 1_700_000_000_000;
/// Three results of this length fill a segment.
const LONG: usize = 9_000;

/// What a look at a key shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub status: Status,
    begun: u64,
    pub expires: Option<u64>,
    attempts: u32,
    checkpoint: Option<Vec<u8>>,
    pub result: Option<Vec<u8>>,
    tombstone: Option<(u64, [u8; 32])>,
}

impl Facts {
    pub fn of(info: &KeyInfo) -> Self {
        Self {
            status: info.status(),
            begun: info.begun_at().as_unix_ms(),
            expires: info.expires_at().map(Timestamp::as_unix_ms),
            attempts: info.attempts(),
            checkpoint: info.last_checkpoint().map(<[u8]>::to_vec),
            result: info.completed().map(|completed| completed.result().to_vec()),
            tombstone: info.not_kept().map(|it| (it.result_len(), it.result_digest())),
        }
    }
}

/// The state of each key of an image, in key order.
pub type Truths = Vec<Option<Facts>>;

/// The files of a store, and what is true of it.
pub struct Image {
    pub files: Files,
    pub now: u64,
    pub keys: Vec<(Key, Fingerprint)>,
    /// The frames of the log by number, each with what is true if it is the last one.
    frames: BTreeMap<u64, (Vec<u8>, Truths)>,
    /// What is true if there is no frame.
    before: Truths,
}

impl Image {
    /// They are made once: that takes longer than most of what is done with them.
    pub fn choose(number: u8) -> &'static Self {
        static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
        let images = IMAGES.get_or_init(images);
        &images[usize::from(number) % images.len()]
    }

    fn new(files: Files, now: u64, keys: Vec<(Key, Fingerprint)>) -> Self {
        let none = BTreeMap::new();
        let mut image = Self { files, now, keys, frames: none, before: Truths::new() };
        let mut frames: BTreeMap<_, _> = frames(&image.files).into_iter().collect();
        let last_first: Vec<_> = frames.keys().rev().copied().collect();
        let mut files = image.files.clone();
        for number in last_first {
            let truths = image.observe(&files);
            let bytes = frames.remove(&number).expect("it is one of them");
            erase(&mut files, &bytes);
            image.frames.insert(number, (bytes, truths));
        }
        image.before = image.observe(&files);
        image
    }

    /// Looks at every key of files that are whole, except for the end of the log.
    fn observe(&self, files: &Files) -> Truths {
        let disk = SimDisk::new();
        for (name, bytes) in files {
            disk.put(name, bytes.clone());
        }
        let clock = ManualClock::new(Timestamp::from_unix_ms(self.now));
        let store = builder(&clock).open_on(disk).expect("the store opens");
        let look = |(key, _): &(Key, _)| store.get(key).expect("it answers");
        self.keys.iter().map(|key| look(key).as_ref().map(Facts::of)).collect()
    }

    /// What must be true if these damaged files open as a store: the log ends with the last frame
    /// anywhere in it, since a missing frame before that one is noticed.
    ///
    /// `None` if that can't be determined: everything is gone, as if there had never been a store;
    /// or the damaged bit is the one that says which of redb's last two commits counts, and the end
    /// of the log, which would show that a commit is missing, is damaged too.
    pub fn truths(&self, files: &Files) -> Option<&Truths> {
        let last = frames(files)
            .into_iter()
            .filter(|(number, bytes)| self.frames.get(number).is_some_and(|(of, _)| of == bytes))
            .map(|(number, _)| number)
            .max();
        let gone = !files.contains_key(NAMES[0]) && last.is_none();
        let primary = |files: &Files| Some(files.get(NAMES[0])?.get(9)? & 1);
        let rolled_back = primary(files) != primary(&self.files) && files.contains_key(NAMES[0]);
        let untold = rolled_back && last != self.frames.keys().last().copied();
        let truths = last.map_or(&self.before, |number| &self.frames[&number].1);
        (!gone && !untold).then_some(truths)
    }
}

/// Everything that looks like a frame in the log: its number, and its bytes without the zeros
/// behind it.
fn frames(files: &Files) -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    for name in &NAMES[1..] {
        let log = files.get(*name).and_then(|log| log.get(4096..)).unwrap_or_default();
        for at in (0..log.len()).step_by(8).filter(|at| log[*at..].starts_with(b"ifrm")) {
            let Some(header) = log.get(at..at + 48) else { continue };
            let number = |at: usize, len: usize| {
                header[at..at + len].iter().rfold(0, |sum, byte| sum << 8 | u64::from(*byte))
            };
            let len = 48 + number(4, 4) as usize;
            if let Some(frame) = log.get(at..at + len) {
                frames.push((number(16, 8), frame.to_vec()));
            }
        }
    }
    frames
}

fn erase(files: &mut Files, frame: &[u8]) {
    for name in &NAMES[1..] {
        let log = files.get_mut(*name).expect("it is there");
        let place = (4096..log.len()).step_by(8).find(|at| log[*at..].starts_with(frame));
        if let Some(at) = place {
            log[at..at + frame.len()].fill(0);
        }
    }
}

fn images() -> Vec<Image> {
    vec![fresh(), mixed(), full(), used_again(), unsettled(), own_rows(), fixture(1), fixture(2)]
}

fn names(names: &[&str]) -> Vec<(Key, Fingerprint)> {
    names.iter().map(|name| (key(name), Fingerprint::of(name))).collect()
}

fn image(bench: &Bench, keys: &[&str]) -> Image {
    let now = idemstore::Clock::now(&bench.clock).as_unix_ms();
    Image::new(bench.disk.after_kill().bytes(), now, names(keys))
}

/// Nothing was ever stored, and the store was closed.
fn fresh() -> Image {
    let bench = Bench::new();
    bench.store.clone().close().expect("the store closes");
    image(&bench, &["never"])
}

/// Every state twice, settled and in the log only.
fn mixed() -> Image {
    let bench = Bench::new();
    for place in ["settled", "logged"] {
        let begin = |name: &str| {
            let name = format!("{place} {name}");
            bench.begin(&name, &name)
        };
        begin("done").started().complete("result").expect("it completes");
        begin("long").fresh().complete([b'x'; 5_000]).expect("it completes");
        begin("buried").fresh().complete_digest("too long").expect("it completes");
        begin("given up").started().abandon().expect("it is abandoned");
        let mut execution = begin("half way").started();
        execution.checkpoint("half way").expect("it is stored");
        std::mem::forget(execution);
        if place == "settled" {
            bench.store.settle().expect("it settles");
        }
    }
    image(
        &bench,
        &[
            "settled done",
            "settled long",
            "settled buried",
            "settled given up",
            "settled half way",
            "logged done",
            "logged long",
            "logged buried",
            "logged given up",
            "logged half way",
        ],
    )
}

/// Both segments are full, and the settle of the first has not succeeded.
fn full() -> Image {
    let bench = Bench::new();
    let on = Op::VaultSync;
    bench.disk.fail(Fault { on, after: 0, for_good: true, kind: ErrorKind::Other });
    let keys = ["a", "b", "c", "d", "e", "f", "g"];
    let complete = |name: &&str| bench.begin(name, name).fresh().complete([7; LONG]).is_ok();
    let completed = keys.iter().take_while(|name| complete(name)).count();
    assert_eq!(completed, 6, "both segments take so many");
    image(&bench, &keys)
}

/// The log is in its second use, and still contains remains of its first.
fn used_again() -> Image {
    let bench = Bench::new();
    for name in ["a", "b", "c", "d"] {
        bench.complete(name, name, name);
    }
    bench.tick(600);
    let bench = bench.reopen();
    bench.complete("e", "e", "e");
    bench.tick(400);
    // The first ones have now expired, and one of them is used again.
    bench.store.sweep().expect("it sweeps");
    bench.complete("a", "a", "anew");
    assert!(bench.store.forget(&key("e")).expect("it is forgotten"));
    image(&bench.kill(), &["a", "b", "c", "d", "e"])
}

/// The process ended in the middle of a write.
fn unsettled() -> Image {
    let bench = Bench::new();
    bench.complete("a", "a", "a");
    let execution = bench.begin("b", "b").started();
    bench.disk.fail(Fault { on: Op::Sync, after: 0, for_good: false, kind: ErrorKind::Other });
    execution.complete("b").expect_err("the disk has failed");
    image(&bench, &["a", "b"])
}

/// Results that are only in the vault, next to the caller's rows.
#[cfg(feature = "transaction")]
fn own_rows() -> Image {
    use idemstore::redb::{Error, TableDefinition};
    const ROWS: TableDefinition<'_, &str, u64> = TableDefinition::new("rows");
    let bench = Bench::new();
    bench.complete("a", "a", "a");
    for name in ["b", "c"] {
        let completed = bench.begin(name, name).fresh().complete_with(|transaction| {
            transaction.open_table(ROWS)?.insert(name, 1)?;
            Ok::<_, Error>(name)
        });
        completed.expect("it completes");
    }
    image(&bench, &["a", "b", "c"])
}

#[cfg(not(feature = "transaction"))]
fn own_rows() -> Image {
    fresh()
}

/// A store from an earlier version, or from this version when it was new.
fn fixture(version: u8) -> Image {
    macro_rules! files {
        ($version:literal) => {
            [
                &include_bytes!(concat!("../../../fixtures/", $version, "/vault.redb"))[..],
                include_bytes!(concat!("../../../fixtures/", $version, "/log-0")),
                include_bytes!(concat!("../../../fixtures/", $version, "/log-1")),
            ]
        };
    }
    let files = if version == 1 { files!("v1") } else { files!("v2") };
    let files = NAMES.into_iter().zip(files);
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    let names = [
        "completed",
        "empty",
        "long",
        "abandoned",
        "executing",
        "retried",
        "half way",
        "far",
        "tombstone",
    ];
    let mut keys = Vec::new();
    for place in ["settled", "logged"] {
        for name in names {
            let key = Key::scoped(place, name).expect("it is a key");
            keys.push((key, Fingerprint::of_parts(["POST", name])));
        }
    }
    Image::new(files, FIXTURES_MS, keys)
}
