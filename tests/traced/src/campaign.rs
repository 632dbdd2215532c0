//! Histories, one after the other, until enough images have been checked.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use crate::CampaignArguments;
use crate::check::{Checker, Digest};
use crate::history::History;
use crate::look::Look;

/// Roughly the number of useful images in one history.
const IMAGES_PER_HISTORY: u64 = 2_500;

/// Failures that are printed in full.
const FAILURES_TOLD: u64 = 10;

pub struct Campaign {
    arguments: CampaignArguments,
    histories: u64,
    /// Histories that are being checked, or have been.
    taken: AtomicU64,
    progress: ProgressBar,
    summary: Mutex<Summary>,
}

/// The results of a campaign.
#[derive(Debug, Default)]
pub struct Summary {
    histories: u64,
    cuts: u64,
    images: u64,
    distinct: HashSet<Digest>,
    opens: u64,
    keys: u64,
    /// Images that were wrong.
    pub failures: u64,
    /// Histories that could not be recorded or read, which proves nothing about any image.
    pub broken: u64,
}

impl Campaign {
    pub fn new(arguments: CampaignArguments) -> Self {
        let histories = match &arguments.history {
            Some(_) => 1,
            None => arguments.images.div_ceil(IMAGES_PER_HISTORY),
        };
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} images, {elapsed}");
        let progress =
            ProgressBar::new(arguments.images).with_style(style.expect("the template is right"));
        let (taken, summary) = (AtomicU64::new(0), Mutex::default());
        Self { arguments, histories, taken, progress, summary }
    }

    pub fn run(self) -> Summary {
        thread::scope(|scope| {
            for _ in 0..self.arguments.threads {
                scope.spawn(|| self.work());
            }
        });
        self.progress.finish_and_clear();
        self.summary.into_inner().expect("no thread has panicked")
    }

    /// One history after the other, in parallel with other threads.
    fn work(&self) {
        loop {
            let number = self.taken.fetch_add(1, Ordering::Relaxed);
            if self.histories <= number {
                return;
            }
            let seed = self.arguments.seed.wrapping_add(number);
            // This many of all images are due by then.
            let due = |histories| self.arguments.images * histories / self.histories;
            let look = Look {
                seed,
                images: due(number + 1) - due(number),
                ignored: self.arguments.ignore_sync,
                cut: self.arguments.cut,
            };
            let looked = match &self.arguments.history {
                Some(kept) => self.look(kept, look).map(drop),
                None => self.record(look),
            };
            if let Err(error) = looked {
                self.summary().broken += 1;
                self.tell(&format!("seed {seed}: no image was looked at: {error}"));
            }
        }
    }

    /// Records a history and checks it. It is kept if anything is found in it.
    fn record(&self, look: Look) -> Result<(), String> {
        let directory = temporary();
        let looked = History::record(directory.path(), look.seed)
            .and_then(|()| self.look(directory.path(), look));
        let is_expected = matches!(looked, Ok(0)) || looked.is_ok() && self.arguments.must_fail;
        if !is_expected {
            let kept = directory.keep();
            self.tell(&format!("seed {}: its history is kept in {}", look.seed, kept.display()));
        }
        looked.map(drop)
    }

    /// Checks a history, and returns its number of failures.
    fn look(&self, directory: &Path, look: Look) -> Result<u64, String> {
        let history = History::load(directory)?;
        let images = temporary();
        let mut checker = Checker::new(images.path().to_owned());
        let mut failures = 0;
        let cuts = look.at(
            &history,
            &mut checker,
            |finding| {
                failures += 1;
                self.tell_failure(&format!("seed {}: {finding}", look.seed));
            },
            || self.progress.inc(1),
        )?;
        let mut summary = self.summary();
        summary.histories += 1;
        summary.cuts += cuts;
        summary.images += checker.images;
        summary.opens += checker.opens;
        summary.keys += checker.keys;
        summary.distinct.extend(checker.distinct);
        Ok(failures)
    }

    fn tell_failure(&self, failure: &str) {
        let mut summary = self.summary();
        summary.failures += 1;
        if summary.failures <= FAILURES_TOLD {
            self.tell(failure);
        }
    }

    fn tell(&self, line: &str) {
        self.progress.suspend(|| eprintln!("{line}"));
    }

    fn summary(&self) -> std::sync::MutexGuard<'_, Summary> {
        self.summary.lock().expect("no thread has panicked")
    }
}

/// A directory in memory, if there is a place for one.
fn temporary() -> TempDir {
    const IN_MEMORY: &str = "/dev/shm";
    let made = if fs::metadata(IN_MEMORY).is_ok_and(|place| place.is_dir()) {
        tempfile::tempdir_in(IN_MEMORY)
    } else {
        tempfile::tempdir()
    };
    made.expect("there is room for temporary files")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, cuts, images, opens, keys, failures, broken, .. } = self;
        let distinct = self.distinct.len();
        writeln!(f, "{histories} histories with {cuts} cuts")?;
        writeln!(f, "{images} images, {distinct} of them distinct")?;
        writeln!(f, "{opens} opens, {keys} keys asked for")?;
        write!(f, "{failures} failures, {broken} histories broken")
    }
}
