//! A history again, as its traces tell it.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, Ignored};
use crate::image::Image;
use crate::process::Process;
use crate::tell::Tell;
use crate::trace::{Call, Event};
use crate::truth::Truth;

/// The file descriptor on which the workload reports.
const STDOUT: i32 = 1;

#[derive(Debug)]
pub struct Replay {
    root: PathBuf,
    ignored: Option<Ignored>,
    pub disk: Disk,
    pub truth: Truth,
    process: Process,
    /// Whether it has made the call that kills it.
    dies: bool,
}

impl Replay {
    pub fn new(root: &Path, ignored: Option<Ignored>) -> Self {
        Self {
            root: root.to_owned(),
            ignored,
            disk: Disk::empty(ignored),
            truth: Truth::default(),
            process: Process::new(root),
            dies: false,
        }
    }

    /// A process starts, perhaps after a power cut that has left these files.
    pub fn start(&mut self, left: Option<&Image>) {
        if let Some(image) = left {
            self.disk = Disk::holding(image, self.ignored);
        }
        self.process = Process::new(&self.root);
        self.dies = false;
    }

    /// The next event. Returns whether a cut after it is worth checking: it may leave something
    /// different, or more was promised.
    pub fn step(&mut self, event: &Event) -> Result<bool, String> {
        match event {
            Event::Begin { thread, call } => {
                let is_change = self.process.begin(&mut self.disk, *thread, call);
                self.dies |= matches!(call, Call::Die);
                // The return of the sync behind an acknowledgement may not have been seen.
                let tell = told(call)?.filter(|tell| !self.dies || !tell.is_promise());
                if let Some(tell) = &tell {
                    self.truth.hear(tell)?;
                }
                Ok(is_change || tell.is_some_and(|tell| tell.is_promise()))
            }
            Event::End { thread, result } => self.process.end(&mut self.disk, *thread, *result),
        }
    }

    /// The process has ended and left these files. If the simulated disk has different ones, a call
    /// was misunderstood, and no finding would count.
    pub fn end(&mut self, real: &Image) -> Result<(), String> {
        let process = std::mem::replace(&mut self.process, Process::new(&self.root));
        process.finish(&mut self.disk, |disk| Image::of_disk(disk).has_paths_of(real))?;
        self.disk.settle(real);
        match Image::of_disk(&self.disk).differences(real).as_slice() {
            [] => Ok(()),
            paths => Err(format!("the trace has made other files than there are: {paths:?}")),
        }
    }
}

/// What a call reports, if it is a write to standard output.
fn told(call: &Call) -> Result<Option<Tell>, String> {
    let Call::Write { fd: STDOUT, bytes, .. } = call else { return Ok(None) };
    let line = String::from_utf8_lossy(bytes);
    Tell::parse(&line).map(Some).ok_or_else(|| format!("the workload has told `{line}`"))
}
