//! Client threads on one store, and the notes that they write beside it.
//!
//! `notes` is a file that stands for the outside world: each line records what a client is about to
//! ask of the store, what it was told, or what it has done. All lines have the same length, a power
//! of two, and each is one write, so a kill leaves a whole line or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Begin, Builder, Completed, Execution, Fingerprint, Interrupted, Store};

use crate::child::{Task, say, stop};
use crate::points::PointDisk;
use crate::support::key;
use crate::support::model::splitmix;
use crate::support::oracle::{Oracle, Truth};

const LINE_LEN: usize = 32;
/// Clients that work on one key after the other. Each key is used by two of them.
const CLIENTS: usize = 4;
/// Keys of one more client, which runs several at once.
const BATCHES_FROM: u32 = 1_000_000;
const BATCH_LEN: u32 = 5;

/// What a note says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// About to be started, and started.
    Starts,
    Started,
    /// Done, outside the store. This must happen once.
    Effect,
    /// About to be completed, and completed.
    Completes,
    Completed,
    /// Another client got the result.
    Replayed,
}

impl Kind {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Starts, "s"),
        (Self::Started, "S"),
        (Self::Effect, "e"),
        (Self::Completes, "c"),
        (Self::Completed, "C"),
        (Self::Replayed, "r"),
    ];
}

/// One line.
#[derive(Clone, Copy, Debug)]
struct Note {
    kind: Kind,
    key: u32,
    /// Of the effect, or of the execution. Unused for completions.
    attempt: u32,
    /// Of the result that a client received.
    digest: u64,
}

impl Note {
    fn line(self) -> String {
        let Self { kind, key, attempt, digest } = self;
        let letter = Kind::ALL.iter().find(|(other, _)| *other == kind).map(|(_, letter)| *letter);
        format!("{} {key:07} {attempt:04} {digest:016x}\n", letter.expect("each has one"))
    }

    fn parse(line: &[u8]) -> Self {
        let line = std::str::from_utf8(line).expect("a note is text");
        let [letter, key, attempt, digest] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("half a note: {line:?}")
        };
        let kind = Kind::ALL.iter().find(|(_, other)| *other == letter).map(|(kind, _)| *kind);
        Self {
            kind: kind.expect("it is a kind of note"),
            key: key.parse().expect("it is a number"),
            attempt: attempt.parse().expect("it is a number"),
            digest: u64::from_str_radix(digest, 16).expect("it is a digest"),
        }
    }
}

/// The path of a store's notes.
fn notes_of(store: &Path) -> PathBuf {
    store.with_extension("notes")
}

/// The result of an execution; some are long enough to be stored apart from their records.
fn result(key: u32, attempt: u32) -> Vec<u8> {
    let len = splitmix(u64::from(key) << 32 | u64::from(attempt)) % 3 * 400;
    let mut result = format!("result {attempt} of {key} ").into_bytes();
    result.resize(result.len() + len as usize, b'.');
    result
}

fn digest(result: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    result.hash(&mut hasher);
    hasher.finish()
}

fn name(number: u32) -> String {
    format!("key {number}")
}

/// Everything that the notes say, for the check after a kill.
#[derive(Debug, Default)]
pub struct Notes {
    pub oracle: Oracle,
    /// The attempt that has had its effect.
    pub effects: BTreeMap<u32, u32>,
    pub completed: BTreeSet<u32>,
    pub replays: u64,
    read: u64,
}

impl Notes {
    /// Reads the new lines.
    pub fn read(&mut self, store: &Path) {
        let Ok(mut file) = File::open(notes_of(store)) else { return };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.read)).expect("it is a file");
        file.read_to_end(&mut bytes).expect("it can be read");
        self.read += bytes.len() as u64;
        for line in bytes.chunks(LINE_LEN) {
            self.take(Note::parse(line));
        }
    }

    fn take(&mut self, note: Note) {
        let name = name(note.key);
        let next = |attempt| Truth::Interrupted { attempt, checkpoint: None };
        match note.kind {
            Kind::Starts => self.oracle.expect(&name, next(note.attempt)),
            Kind::Started => self.oracle.acknowledge(&name),
            Kind::Effect => {
                let before = self.effects.insert(note.key, note.attempt);
                assert_eq!(before, None, "a second effect: {note:?}");
            }
            Kind::Completes => {
                let result = result(note.key, note.attempt);
                self.oracle.expect(&name, Truth::Completed(result));
            }
            Kind::Completed | Kind::Replayed => {
                let attempt = self.effects.get(&note.key).expect("it was done before");
                let result = result(note.key, *attempt);
                assert_eq!(note.digest, digest(&result), "{note:?}");
                self.oracle.expect(&name, Truth::Completed(result));
                self.oracle.acknowledge(&name);
                self.completed.insert(note.key);
                self.replays += u64::from(note.kind == Kind::Replayed);
            }
        }
    }
}

/// The options of the store.
pub fn builder() -> Builder {
    Store::builder().log_bytes(64 * 1024).result_len_max(4 * 1024).cache_bytes(1024 * 1024)
}

/// What the clients share.
struct Server {
    store: Store,
    /// What was done before this process started.
    before: Notes,
    notes: File,
    next: AtomicU32,
}

/// Works until it is killed.
pub fn run(task: &Task) {
    say("running");
    let point = task
        .point
        .map(|point| PointDisk::at(&task.store, Some(point), |label| stop(&format!("at {label}"))));
    let opened = match point {
        Some(disk) => builder().open_on(disk),
        None => builder().open(&task.store),
    };
    let store = opened.expect("no kill keeps a store from being opened");
    say("open");
    let mut before = Notes::default();
    before.read(&task.store);
    let notes = OpenOptions::new().create(true).append(true).open(notes_of(&task.store));
    let notes = notes.expect("notes can be made");
    let server = Server { store, before, notes, next: AtomicU32::new(0) };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| server.serve_each());
        }
        scope.spawn(|| server.serve_batches());
        if task.number.is_multiple_of(2) {
            scope.spawn(|| server.look_after());
        }
    });
}

impl Server {
    fn note(&self, kind: Kind, key: u32, attempt: u32, digest: u64) {
        let line = Note { kind, key, attempt, digest }.line();
        // Not `write_all`, which would continue in a second write.
        let written = (&self.notes).write(line.as_bytes()).expect("there is room for notes");
        assert_eq!(written, LINE_LEN);
    }

    fn is_done(&self, key: u32) -> bool {
        self.before.completed.contains(&key)
    }

    /// Two clients at a time ask for the same key.
    fn serve_each(&self) {
        loop {
            let key = self.next.fetch_add(1, Ordering::Relaxed) / 2;
            while !self.is_done(key) && !self.serve(key) {}
        }
    }

    fn begin(&self, number: u32) -> Begin {
        let begin = self.store.begin(&key(&name(number)), Fingerprint::of(name(number)));
        begin.expect("begin answers")
    }

    /// Asks once, and returns whether there was an answer.
    fn serve(&self, key: u32) -> bool {
        match self.begin(key) {
            Begin::InFlight(in_flight) => {
                match in_flight.wait(Duration::from_secs(1)).expect("it can be waited for") {
                    Begin::Replay(completed) => self.replayed(key, &completed),
                    _ => return false,
                }
            }
            Begin::Fresh(permit) => {
                self.note(Kind::Starts, key, 1, 0);
                let execution = permit.start().expect("it starts");
                self.execute(key, execution);
            }
            Begin::Replay(completed) => self.replayed(key, &completed),
            Begin::Interrupted(interrupted) => self.find_out(key, interrupted),
            other => panic!("nobody asked so for {key}: {other:?}"),
        }
        true
    }

    fn replayed(&self, key: u32, completed: &Completed) {
        self.note(Kind::Replayed, key, 0, digest(completed.result()));
    }

    fn started(&self, key: u32, execution: &Execution) {
        self.note(Kind::Started, key, execution.attempt(), 0);
        self.note(Kind::Effect, key, execution.attempt(), 0);
    }

    fn execute(&self, key: u32, execution: Execution) {
        self.started(key, &execution);
        let attempt = execution.attempt();
        self.note(Kind::Completes, key, attempt, 0);
        let completed = execution.complete(result(key, attempt)).expect("it completes");
        self.note(Kind::Completed, key, 0, digest(completed.result()));
    }

    /// The process that had started it is dead, so the notes are final about whether it was done.
    fn find_out(&self, key: u32, interrupted: Interrupted) {
        let attempt = interrupted.attempt();
        if self.before.effects.get(&key) == Some(&attempt) {
            self.note(Kind::Completes, key, attempt, 0);
            let completed = interrupted.resolve(result(key, attempt)).expect("it completes");
            self.note(Kind::Completed, key, 0, digest(completed.result()));
        } else {
            self.note(Kind::Starts, key, attempt + 1, 0);
            let execution = interrupted.retry().expect("it starts");
            self.execute(key, execution);
        }
    }

    fn serve_batches(&self) {
        for first in (BATCHES_FROM..).step_by(BATCH_LEN as usize) {
            self.serve_batch((first..first + BATCH_LEN).filter(|key| !self.is_done(*key)));
        }
    }

    fn serve_batch(&self, keys: impl Iterator<Item = u32>) {
        let (mut permits, mut numbers) = (Vec::new(), Vec::new());
        for key in keys {
            match self.begin(key) {
                Begin::Fresh(permit) => {
                    self.note(Kind::Starts, key, 1, 0);
                    numbers.push(key);
                    permits.push(permit);
                }
                Begin::Replay(completed) => self.replayed(key, &completed),
                Begin::Interrupted(interrupted) => self.find_out(key, interrupted),
                other => panic!("nobody asked so for {key}: {other:?}"),
            }
        }
        let mut executions = Vec::new();
        for (key, execution) in numbers.iter().zip(self.store.start_many(permits)) {
            let execution = execution.expect("it starts");
            self.started(*key, &execution);
            self.note(Kind::Completes, *key, 1, 0);
            executions.push((execution, result(*key, 1)));
        }
        for (key, completed) in numbers.iter().zip(self.store.complete_many(executions)) {
            let completed = completed.expect("it completes");
            self.note(Kind::Completed, *key, 0, digest(completed.result()));
        }
    }

    /// Settles, sweeps and compacts continuously.
    fn look_after(&self) {
        for turn in 0.. {
            thread::sleep(Duration::from_millis(2));
            match turn % 3 {
                0 => self.store.compact().map(drop).expect("it is made smaller"),
                1 => self.store.settle().expect("it settles"),
                _ => self.store.sweep().map(drop).expect("it is swept"),
            }
        }
    }
}
