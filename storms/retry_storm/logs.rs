//! The files beside the store. The store doesn't know of them, and anyone can look at them.
//!
//! - `effects.log`: one line for each effect, `order attempt`. It stands for the payment provider.
//! - `acks.log`: one line for each answer that a client got: order, digest and start of the result.
//! - `events.log`: one line for each counted event, `order event`.
//!
//! All lines of a file have the same length, a power of two, so no line crosses a page boundary: a
//! kill may cut a write short between two pages, but never within one. So a line is either there or
//! not.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::Result;

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    store: PathBuf,
    beside: PathBuf,
}

impl Place {
    pub(crate) fn new(store: &Path) -> Result<Self> {
        let beside = match store.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err("the store needs a directory beside which logs can be put".into()),
        };
        Ok(Self { store: store.to_owned(), beside: beside.to_owned() })
    }

    /// Creates the empty logs, unless an older run has left something: runs are never mixed.
    pub(crate) fn claim(&self) -> Result<()> {
        if self.store.exists() && fs::read_dir(&self.store)?.next().is_some() {
            return Err(format!(
                "{} is not empty: choose a new directory, or delete it with the logs beside it",
                self.store.display()
            )
            .into());
        }
        fs::create_dir_all(&self.beside)?;
        let logs = [self.effects(), self.acks(), self.events()];
        if let Some(old) = logs.iter().find(|log| log.exists()) {
            return Err(format!(
                "{} is left from another run: choose another place for the store, or delete it",
                old.display()
            )
            .into());
        }
        for log in logs {
            OpenOptions::new().write(true).create_new(true).open(log)?;
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    pub(crate) fn effects(&self) -> PathBuf {
        self.beside.join("effects.log")
    }

    pub(crate) fn acks(&self) -> PathBuf {
        self.beside.join("acks.log")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.beside.join("events.log")
    }
}

/// The most that is read of a log at a time.
const CHUNK: u64 = 1024 * 1024;

/// Appends lines of `LEN` bytes.
struct Appender<const LEN: usize>(File);

impl<const LEN: usize> Appender<LEN> {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().append(true).open(path)?))
    }

    /// Appends one line, in one write: other threads find it whole or not at all, even after a
    /// kill.
    fn append(&self, text: &str) -> io::Result<()> {
        let line = format!("{text:<width$}\n", width = LEN - 1);
        if line.len() != LEN {
            return Err(io::Error::other(format!("{text:?} does not fit a line of {LEN} bytes")));
        }
        // Not `write_all`, which would continue in a second write.
        let written = (&self.0).write(line.as_bytes())?;
        if written != LEN {
            return Err(io::Error::other(format!("{written} of {LEN} bytes were written")));
        }
        Ok(())
    }
}

/// Reads lines of `LEN` bytes, while they are being appended.
struct Tail<const LEN: usize> {
    file: File,
    read: u64,
}

impl<const LEN: usize> Tail<LEN> {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, read: 0 })
    }

    /// Calls `each` for all lines that have come since the last call.
    fn poll(&mut self, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.file.seek(SeekFrom::Start(self.read))?;
            Read::by_ref(&mut self.file).take(CHUNK).read_to_end(&mut bytes)?;
            let lines = bytes.chunks_exact(LEN);
            if lines.len() == 0 {
                return Ok(());
            }
            for line in lines {
                let line = std::str::from_utf8(line)?;
                let text = line.strip_suffix('\n').ok_or("a line of a log is broken")?;
                each(text.trim_end())?;
                self.read += LEN as u64;
            }
        }
    }
}

const EFFECT_LEN: usize = 16;

/// What the outside world remembers: one line for each time that an order was executed.
pub(crate) struct Effects {
    log: Appender<EFFECT_LEN>,
    known: Mutex<HashSet<(u32, u32)>>,
}

impl Effects {
    /// All earlier writers are dead, so the file is complete.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let known = Self::read(place)?.into_iter().collect();
        let log = Appender::open(&place.effects())?;
        Ok(Self { log, known: Mutex::new(known) })
    }

    /// Executes an order. This must happen exactly once, and can't be undone.
    pub(crate) fn execute(&self, order: u32, attempt: u32) -> io::Result<()> {
        self.log.append(&format!("{order:010} {attempt:04}"))?;
        self.log.0.sync_data()?;
        self.known.lock().insert((order, attempt));
        Ok(())
    }

    /// Whether this attempt was executed. The caller must know that it isn't being executed now.
    pub(crate) fn contains(&self, order: u32, attempt: u32) -> bool {
        self.known.lock().contains(&(order, attempt))
    }

    /// Order and attempt of every effect.
    pub(crate) fn read(place: &Place) -> Result<Vec<(u32, u32)>> {
        let mut effects = Vec::new();
        Tail::<EFFECT_LEN>::open(&place.effects())?.poll(|line| {
            let (order, attempt) = line.split_once(' ').ok_or("an effect has no attempt")?;
            effects.push((order.parse()?, attempt.parse()?));
            Ok(())
        })?;
        Ok(effects)
    }
}

const ACK_LEN: usize = 256;
/// The space that is left in an ack's line after order, digest and the spaces between.
const ACK_HEAD: usize = ACK_LEN - 10 - 1 - 64 - 1 - 1;

/// Distinguishes two results, however long they are.
pub(crate) fn digest(result: &[u8]) -> String {
    blake3::hash(result).to_hex().to_string()
}

/// The answers that clients got.
pub(crate) struct Acks(Appender<ACK_LEN>);

impl Acks {
    pub(crate) fn open(place: &Place) -> io::Result<Self> {
        Appender::open(&place.acks()).map(Self)
    }

    /// The client has received this result: from now on the order must not have another.
    pub(crate) fn append(&self, order: u32, result: &[u8]) -> io::Result<()> {
        let head = result.escape_ascii().to_string();
        self.0.append(&format!("{order:010} {} {head:.ACK_HEAD$}", digest(result)))
    }
}

/// Reads the answers that clients got, while they get them.
pub(crate) struct AckTail(Tail<ACK_LEN>);

impl AckTail {
    pub(crate) fn open(place: &Place) -> io::Result<Self> {
        Tail::open(&place.acks()).map(Self)
    }

    /// Calls `each` with order and digest of all answers that have come since the last call.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(u32, &str)) -> Result<()> {
        self.0.poll(|line| {
            let mut words = line.split(' ');
            let order = words.next().ok_or("an ack has no order")?.parse()?;
            each(order, words.next().ok_or("an ack has no digest")?);
            Ok(())
        })
    }
}

/// The counted events. Executions aren't among them: the lines of `effects.log` are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A request was made.
    Attempt,
    Replayed,
    Conflict,
    Mismatch,
    /// A client returned its permit, having found the order invalid.
    Released,
    Interrupted,
    /// The three ways in which an interrupted order continues.
    Resolved,
    Retried,
    Abandoned,
    /// A changed body was let through, which must never happen.
    ChangedExecuted,
}

impl Event {
    pub(crate) const ALL: [Self; 10] = [
        Self::Attempt,
        Self::Replayed,
        Self::Conflict,
        Self::Mismatch,
        Self::Released,
        Self::Interrupted,
        Self::Resolved,
        Self::Retried,
        Self::Abandoned,
        Self::ChangedExecuted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Replayed => "replayed",
            Self::Conflict => "conflict",
            Self::Mismatch => "mismatch",
            Self::Released => "released",
            Self::Interrupted => "interrupted",
            Self::Resolved => "resolved",
            Self::Retried => "retried",
            Self::Abandoned => "abandoned",
            Self::ChangedExecuted => "changed-executed",
        }
    }
}

const EVENT_LEN: usize = 32;

/// The events of all children. What the kernel has accepted survives a kill, so at most the events
/// of requests that were never answered are missing.
pub(crate) struct Events(Appender<EVENT_LEN>);

impl Events {
    pub(crate) fn open(place: &Place) -> io::Result<Self> {
        Appender::open(&place.events()).map(Self)
    }

    pub(crate) fn append(&self, order: u32, event: Event) -> io::Result<()> {
        self.0.append(&format!("{order:010} {}", event.name()))
    }

    pub(crate) fn read(place: &Place) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        Tail::<EVENT_LEN>::open(&place.events())?.poll(|line| {
            let (_, name) = line.split_once(' ').ok_or("an event has no name")?;
            let event = Event::ALL.into_iter().find(|event| event.name() == name);
            events.push(event.ok_or("an event is not known")?);
            Ok(())
        })?;
        Ok(events)
    }
}
