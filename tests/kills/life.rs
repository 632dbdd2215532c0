//! The life of one store, from its creation on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, thread};

use tempfile::TempDir;

use crate::child::{Child, Task, Work};
use crate::points::VAULT;
use crate::seed;
use crate::support::SimDisk;
use crate::tally::Tally;

/// Lives that run at the same time: most of a life is spent waiting for the disk.
const WORKERS: u64 = 4;

/// Where one store lives. If anything is wrong with it, its files are kept.
#[derive(Debug)]
pub struct Life {
    pub number: u64,
    directory: Option<TempDir>,
}

impl Life {
    fn new(number: u64) -> Self {
        Self { number, directory: Some(tempfile::tempdir().expect("there is room")) }
    }

    /// The store's directory. Initially neither it nor its parent exists.
    pub fn store(&self) -> PathBuf {
        let directory = self.directory.as_ref().expect("it is kept until the end");
        directory.path().join("above").join("store")
    }

    /// The files that a process has left, before the next one starts.
    pub fn image(&self) -> SimDisk {
        let disk = SimDisk::new();
        for path in listed(&self.store()) {
            let name = path.file_name().expect("a file has a name").to_string_lossy();
            // The directory's lock, for which this disk has no file.
            if name == "lock" {
                continue;
            }
            disk.put(&name, fs::read(&path).expect("it can be read"));
        }
        disk
    }

    /// The files that a kill has left.
    pub fn image_of_kill(&self, tally: &Tally) -> SimDisk {
        let image = self.image();
        tally.count("kills", 1);
        let left = match (self.store().exists(), image.bytes().contains_key(VAULT)) {
            (false, _) => "left: no directory",
            (true, false) => "left: a directory without a vault",
            (true, true) => "left: a vault",
        };
        tally.count(left, 1);
        image
    }

    /// Lets a process continue with the store and finish its work, and returns what it leaves: the
    /// files of a store, and no others.
    pub fn go_on(&self, number: u64, now_ms: u64) -> SimDisk {
        let (work, store) = (Work::GoOn, self.store());
        Child::start(&Task { work, store, point: None, number, now_ms }).end();
        let image = self.image();
        let bytes = image.bytes();
        let names: Vec<_> = bytes.keys().collect();
        assert_eq!(names, ["log-0", "log-1", VAULT]);
        image
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            let kept = directory.keep();
            println!("life {} of KILLS_SEED={}, in {}", self.number, seed(), kept.display());
        }
    }
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{error}"),
        Ok(entries) => entries.map(|entry| entry.expect("it can be listed").path()).collect(),
    }
}

/// Runs this many lives, several at a time.
pub fn lead(lives: u64, live: impl Fn(&Life) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < lives
                {
                    live(&Life::new(number));
                }
            });
        }
    });
}
