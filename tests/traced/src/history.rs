//! Several lives of one store, with the trace of each.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use fastrand::Rng;
use rustix::process::Signal;

use crate::image::Image;
use crate::replay::Replay;
use crate::trace::{self, CALLS, Event, STRING_LEN_MAX};

/// Lives of one store.
const LIVES: u64 = 6;

#[derive(Debug)]
pub struct History {
    /// Where the files were.
    pub root: PathBuf,
    pub lives: Vec<Life>,
}

#[derive(Debug)]
pub struct Life {
    /// What a power cut has left of the previous life, if there was one in between.
    pub left: Option<Image>,
    pub events: Vec<Event>,
    /// The files at its end.
    pub after: Image,
}

impl History {
    /// Runs all lives of a seed, and keeps in this directory what is needed to replay them.
    pub fn record(directory: &Path, seed: u64) -> Result<(), String> {
        let paths = Paths::new(directory).map_err(|error| error.to_string())?;
        fs::create_dir(&paths.root).map_err(|error| error.to_string())?;
        let mut replay = Replay::new(&paths.root, None);
        let mut rng = Rng::with_seed(seed);
        for number in 0..LIVES {
            if 0 < number && rng.bool() {
                let left = Image::of_cut(&replay.disk, &mut rng);
                paths.cut_power(number, &left).map_err(|error| error.to_string())?;
            }
            run_traced(&paths, seed, number)?;
            let life = Life::load(&paths, number)?;
            replay.start(life.left.as_ref());
            for event in &life.events {
                replay.step(event).map_err(|error| format!("life {number}: {error}"))?;
            }
            replay.end(&life.after).map_err(|error| format!("life {number}: {error}"))?;
        }
        Ok(())
    }

    /// A history that was recorded in this directory, which must still be where it was.
    pub fn load(directory: &Path) -> Result<Self, String> {
        let paths = Paths::new(directory).map_err(|error| error.to_string())?;
        let recorded = (0..LIVES).take_while(|number| paths.after(*number).exists());
        let lives = recorded.map(|number| Life::load(&paths, number)).collect::<Result<_, _>>()?;
        Ok(Self { root: paths.root, lives })
    }
}

impl Life {
    fn load(paths: &Paths, number: u64) -> Result<Self, String> {
        let read = |path: PathBuf| Image::read(&path).map_err(|error| error.to_string());
        let left = paths.left(number);
        let left = if left.exists() { Some(read(left)?) } else { None };
        let trace = fs::read_to_string(paths.trace(number)).map_err(|error| error.to_string())?;
        let events = trace::parse(&trace).map_err(|error| format!("life {number}: {error}"))?;
        Ok(Self { left, events, after: read(paths.after(number))? })
    }
}

/// The paths in the directory of a history.
struct Paths {
    directory: PathBuf,
    root: PathBuf,
}

impl Paths {
    fn new(directory: &Path) -> io::Result<Self> {
        // The kernel reports paths without symbolic links, so these must have none either.
        let directory = directory.canonicalize()?;
        Ok(Self { root: directory.join("root"), directory })
    }

    fn trace(&self, life: u64) -> PathBuf {
        self.directory.join(format!("trace-{life}"))
    }

    fn left(&self, life: u64) -> PathBuf {
        self.directory.join(format!("left-{life}"))
    }

    fn after(&self, life: u64) -> PathBuf {
        self.directory.join(format!("after-{life}"))
    }

    /// Gives the next life what a power cut has left.
    fn cut_power(&self, life: u64, left: &Image) -> io::Result<()> {
        fs::remove_dir_all(&self.root)?;
        for copy in [&self.root, &self.left(life)] {
            fs::create_dir(copy)?;
            left.write(copy)?;
        }
        Ok(())
    }

    fn keep_after(&self, life: u64) -> io::Result<()> {
        fs::create_dir(self.after(life))?;
        Image::read(&self.root)?.write(&self.after(life))
    }
}

/// Runs one life under strace.
fn run_traced(paths: &Paths, seed: u64, number: u64) -> Result<(), String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let mut strace = Command::new("strace");
    // Only the traced calls stop the process, and every byte is in hex.
    strace.args(["-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-xx"]);
    strace.arg("-s").arg(STRING_LEN_MAX.to_string());
    strace.arg("-e").arg(format!("trace={CALLS}"));
    strace.arg("-o").arg(paths.trace(number)).arg("--");
    strace.arg(this).arg("work").arg(&paths.root).arg(seed.to_string()).arg(number.to_string());
    strace.current_dir(&paths.root).stdin(Stdio::null()).stdout(Stdio::null());
    let status = strace.status().map_err(|error| format!("strace does not start: {error}"))?;
    // strace exits as the traced process does.
    if !status.success() && status.signal() != Some(Signal::KILL.as_raw()) {
        return Err(format!("life {number} has ended with {status}"));
    }
    paths.keep_after(number).map_err(|error| error.to_string())
}
