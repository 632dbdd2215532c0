//! The other system: it reserves seats, charges cards and sends tickets, and it is flaky.
//!
//! Its journal, `journal.log`, is all that it remembers, and all that the check relies on. Each
//! line is `booking step event` in 32 bytes, so no line crosses a page boundary: a kill may cut a
//! write short between two pages, but never within one. So a line is either there or not.
//!
//! Here the system lives in the process that is killed, so a request ends with its client, and what
//! the journal says is final. A system behind a network may still have a request on its way: ask it
//! in a way that rules this out, or wait first.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::booking::Step;
use crate::rng::Rng;

const LINE_LEN: usize = 32;
/// The longest delay of a request, and of an answer.
const LATENCY_US: u64 = 1_000;

/// What the journal records about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It has happened: this is the effect itself.
    Done,
    /// It was requested and refused, and did not happen.
    Refused,
    /// It has happened, and its caller got no answer.
    NoAnswer,
    /// A caller asked whether it had happened: it had, or it had not.
    Found,
    NotFound,
}

impl Event {
    const ALL: [Self; 5] = [Self::Done, Self::Refused, Self::NoAnswer, Self::Found, Self::NotFound];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::NoAnswer => "no-answer",
            Self::Found => "found",
            Self::NotFound => "not-found",
        }
    }
}

/// Why a step wasn't confirmed.
pub(crate) enum Failure {
    /// It did not happen.
    Refused,
    /// It may have happened.
    NoAnswer,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) struct Provider {
    journal: File,
    happened: Mutex<HashSet<(u32, Step)>>,
    rng: Mutex<Rng>,
}

impl Provider {
    /// All earlier writers are dead, so the journal is complete.
    pub(crate) fn open(place: &Path, seed: u64, generation: u32) -> Result<Self> {
        let done = read(place)?.into_iter().filter(|(_, _, event)| *event == Event::Done);
        Ok(Self {
            journal: OpenOptions::new().append(true).open(path(place))?,
            happened: Mutex::new(done.map(|(booking, step, _)| (booking, step)).collect()),
            rng: Mutex::new(Rng::new(seed, generation.into())),
        })
    }

    /// Does a step, however often it was done before: this system doesn't support idempotency keys.
    pub(crate) fn request(&self, booking: u32, step: Step) -> Result<(), Failure> {
        self.travel();
        if self.one_in(8) {
            self.note(booking, step, Event::Refused)?;
            return Err(Failure::Refused);
        }
        self.note(booking, step, Event::Done)?;
        self.journal.sync_data()?;
        lock(&self.happened).insert((booking, step));
        self.travel();
        if self.one_in(8) {
            self.note(booking, step, Event::NoAnswer)?;
            return Err(Failure::NoAnswer);
        }
        Ok(())
    }

    /// Whether a step has happened. The caller must know that the step isn't being done now.
    pub(crate) fn has_done(&self, booking: u32, step: Step) -> io::Result<bool> {
        let has_done = lock(&self.happened).contains(&(booking, step));
        self.note(booking, step, if has_done { Event::Found } else { Event::NotFound })?;
        Ok(has_done)
    }

    /// Appends one line, in one write: other threads find it whole or not at all, even after a
    /// kill.
    fn note(&self, booking: u32, step: Step, event: Event) -> io::Result<()> {
        let line = format!("{booking:010} {} {}", step.name(), event.name());
        let line = format!("{line:<width$}\n", width = LINE_LEN - 1);
        // Not `write_all`, which would continue in a second write.
        let written = (&self.journal).write(line.as_bytes())?;
        if written == LINE_LEN { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Takes time, so that a kill may come before an effect as well as after it.
    fn travel(&self) {
        let time = lock(&self.rng).below(LATENCY_US);
        thread::sleep(Duration::from_micros(time));
    }

    fn one_in(&self, n: u64) -> bool {
        lock(&self.rng).one_in(n)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(place: &Path) -> PathBuf {
    place.join("journal.log")
}

/// Makes an empty journal.
pub(crate) fn create(place: &Path) -> io::Result<()> {
    File::create_new(path(place)).map(drop)
}

/// The number of lines in the journal, even while it is being written.
pub(crate) fn lines(place: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path(place))?.len() / LINE_LEN as u64)
}

/// Everything in the journal, in the order in which it happened.
pub(crate) fn read(place: &Path) -> Result<Vec<(u32, Step, Event)>> {
    let journal = fs::read_to_string(path(place))?;
    journal
        .lines()
        .map(|line| parse(line).ok_or("a line of the journal is broken".into()))
        .collect()
}

fn parse(line: &str) -> Option<(u32, Step, Event)> {
    let mut words = line.split_ascii_whitespace();
    let booking = words.next()?.parse().ok()?;
    let (step, event) = (words.next()?, words.next()?);
    let step = Step::ALL.into_iter().find(|known| known.name() == step)?;
    let event = Event::ALL.into_iter().find(|known| known.name() == event)?;
    Some((booking, step, event))
}
