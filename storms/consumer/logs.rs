//! The files beside the store. The store doesn't know of them, and anyone can look at them.
//!
//! - `queue`: the messages.
//! - `effects.log`: one line for each effect, `id attempt`. It stands for the other system, which
//!   can be queried.
//! - `acks.log`: each line answers the message in the same line of the queue, with the line number
//!   of its effect. So its length says where the queue resumes delivery.
//! - `report.log`: what each child has counted so far.
//!
//! All lines of a file have the same length, a power of two, so no line crosses a page boundary: a
//! kill may cut a write short between two pages, but never within one. So a line is either there or
//! not.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::Result;

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Creates the empty files, unless an older run has left something: runs are never mixed.
    pub(crate) fn claim(&self) -> Result<()> {
        fs::create_dir_all(&self.0)?;
        if fs::read_dir(&self.0)?.next().is_some() {
            let directory = self.0.display();
            return Err(format!("{directory} is not empty: choose another, or delete it").into());
        }
        for file in [self.queue(), self.effects(), self.acks(), self.report()] {
            OpenOptions::new().write(true).create_new(true).open(file)?;
        }
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    pub(crate) fn queue(&self) -> PathBuf {
        self.0.join("queue")
    }

    pub(crate) fn effects(&self) -> PathBuf {
        self.0.join("effects.log")
    }

    pub(crate) fn acks(&self) -> PathBuf {
        self.0.join("acks.log")
    }

    fn report(&self) -> PathBuf {
        self.0.join("report.log")
    }
}

/// A file of lines of `LEN` bytes each.
#[derive(Debug)]
pub(crate) struct Lines<const LEN: usize>(File);

impl<const LEN: usize> Lines<LEN> {
    const FIT_PAGES: () = assert!(LEN.is_power_of_two() && LEN <= 4096);

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let () = Self::FIT_PAGES;
        Ok(Self(OpenOptions::new().read(true).append(true).open(path)?))
    }

    /// The number of lines in the file.
    pub(crate) fn count(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len() / LEN as u64)
    }

    fn append(&self, text: String) -> io::Result<()> {
        self.append_all([text])
    }

    /// Appends lines in one write: a kill leaves all of them, or only the first few, each whole.
    pub(crate) fn append_all(&self, texts: impl IntoIterator<Item = String>) -> io::Result<()> {
        let mut lines = Vec::new();
        for text in texts {
            let before = lines.len();
            writeln!(lines, "{text:<width$}", width = LEN - 1)?;
            if lines.len() - before != LEN {
                let refused = format!("{text:?} does not fit a line of {LEN} bytes");
                return Err(io::Error::other(refused));
            }
        }
        // Not `write_all`, which would continue in a second write.
        let written = (&self.0).write(&lines)?;
        if written != lines.len() {
            let short = format!("{written} of {} bytes were written", lines.len());
            return Err(io::Error::other(short));
        }
        Ok(())
    }

    /// Calls `each` for every line after the given number of lines. A partial line is an error.
    pub(crate) fn read(&self, behind: u64, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut file = BufReader::new(&self.0);
        file.seek(SeekFrom::Start(behind * LEN as u64))?;
        for _ in behind..self.count()? {
            let mut line = [0; LEN];
            file.read_exact(&mut line)?;
            let line = std::str::from_utf8(&line)?;
            let text = line.strip_suffix('\n').ok_or("a line of a log is broken")?;
            each(text.trim_end())?;
        }
        let torn = file.read(&mut [0])? != 0;
        if torn { Err("the last line of a log is torn".into()) } else { Ok(()) }
    }
}

/// What the outside world remembers: one line for each time that a message had its effect.
pub(crate) struct Effects {
    lines: Lines<16>,
    /// The line of each message. The first has number 1, as editors count.
    known: HashMap<u32, u64>,
    count: u64,
}

impl Effects {
    /// All earlier writers are dead, so the file is complete.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let ids = Self::read(place)?;
        let count = ids.len() as u64;
        let known = ids.into_iter().zip(1..).collect();
        Ok(Self { lines: Lines::open(&place.effects())?, known, count })
    }

    /// This must happen exactly once, and can't be undone. Returns the line number.
    pub(crate) fn execute(&mut self, id: u32, attempt: u32) -> Result<u64> {
        self.lines.append(format!("{id:010} {attempt:04}"))?;
        self.count += 1;
        self.known.insert(id, self.count);
        Ok(self.count)
    }

    /// Where the effect of this message is, if it has happened.
    pub(crate) fn find(&self, id: u32) -> Option<u64> {
        self.known.get(&id).copied()
    }

    /// Makes all effects so far survive a power cut too: what the store calls done must be done.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.lines.0.sync_data()
    }

    /// The message of each effect.
    pub(crate) fn read(place: &Place) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        Lines::<16>::open(&place.effects())?.read(0, |line| {
            let (id, _) = line.split_once(' ').ok_or("an effect has no attempt")?;
            ids.push(id.parse()?);
            Ok(())
        })?;
        Ok(ids)
    }

    /// How many have happened so far, read while they happen.
    pub(crate) fn watch(place: &Place) -> io::Result<impl Fn() -> io::Result<u64> + use<>> {
        let lines = Lines::<16>::open(&place.effects())?;
        Ok(move || lines.count())
    }
}

/// The answers that the queue got, in its own order. It redelivers messages that have none.
pub(crate) struct Acks(Lines<16>);

impl Acks {
    pub(crate) fn open(place: &Place) -> io::Result<Self> {
        Lines::open(&place.acks()).map(Self)
    }

    /// How many messages have an answer: that many of the first.
    pub(crate) fn count(&self) -> io::Result<u64> {
        self.0.count()
    }

    /// Answers the next messages. This isn't synced, and may be lost in a power cut: a message that
    /// was not acknowledged is delivered again, and replayed. The reverse would be wrong, so an
    /// answer is given only when the store has it durably.
    pub(crate) fn append(&self, effects: impl IntoIterator<Item = u64>) -> io::Result<()> {
        self.0.append_all(effects.into_iter().map(|effect| effect.to_string()))
    }

    pub(crate) fn read(place: &Place) -> Result<Vec<u64>> {
        let mut effects = Vec::new();
        Self::open(place)?.0.read(0, |line| {
            effects.push(line.parse()?);
            Ok(())
        })?;
        Ok(effects)
    }
}

/// What a child has done so far. The last things before a kill may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) delivered: u64,
    /// Answered with a stored result.
    pub(crate) replayed: u64,
    /// Found in flight: a redelivery in the same batch as its original.
    pub(crate) in_flight: u64,
    /// The two ways in which an interrupted message continues.
    pub(crate) resolved: u64,
    pub(crate) retried: u64,
    /// The store's own counters: the fsyncs of its log, and the changes that they made durable.
    pub(crate) batches: u64,
    pub(crate) changes: u64,
}

impl Counts {
    fn numbers(&mut self) -> [&mut u64; 7] {
        [
            &mut self.delivered,
            &mut self.replayed,
            &mut self.in_flight,
            &mut self.resolved,
            &mut self.retried,
            &mut self.batches,
            &mut self.changes,
        ]
    }
}

/// What each child has counted.
pub(crate) struct Report {
    lines: Lines<128>,
    generation: u32,
}

impl Report {
    pub(crate) fn open(place: &Place, generation: u32) -> io::Result<Self> {
        Ok(Self { lines: Lines::open(&place.report())?, generation })
    }

    pub(crate) fn append(&self, mut counts: Counts) -> io::Result<()> {
        let numbers = counts.numbers().map(|number| number.to_string()).join(" ");
        self.lines.append(format!("{} {numbers}", self.generation))
    }

    /// The totals of all children: the last line of each holds its counts.
    pub(crate) fn read(place: &Place) -> Result<Counts> {
        let mut last = HashMap::new();
        Lines::<128>::open(&place.report())?.read(0, |line| {
            let (generation, numbers) = line.split_once(' ').ok_or("a report has no numbers")?;
            last.insert(generation.to_owned(), numbers.to_owned());
            Ok(())
        })?;
        let mut sum = Counts::default();
        for numbers in last.values() {
            for (sum, number) in sum.numbers().into_iter().zip(numbers.split(' ')) {
                *sum += number.parse::<u64>()?;
            }
        }
        Ok(sum)
    }
}
