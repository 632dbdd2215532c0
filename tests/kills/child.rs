//! The process that is killed: this test binary again, with its task in the environment.
//!
//! It reports its progress on its standard error. Anything else there is its own panic.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::time::Duration;
use std::{env, thread};

/// The test that is a child's whole work.
const TEST: &str = "a_child_that_nobody_started_does_nothing";
/// The exit code of a child that was not killed.
const FORSAKEN: i32 = 3;
/// Far longer than any child takes.
const LIFETIME: Duration = Duration::from_secs(300);

const WORK: &str = "KILLS_CHILD_WORK";
const STORE: &str = "KILLS_CHILD_STORE";
const POINT: &str = "KILLS_CHILD_POINT";
const NUMBER: &str = "KILLS_CHILD_NUMBER";
const NOW_MS: &str = "KILLS_CHILD_NOW_MS";

/// The task of a child.
#[derive(Clone, Debug)]
pub struct Task {
    pub work: Work,
    /// The store's directory.
    pub store: PathBuf,
    /// The point at which it stops and waits to be killed, if there is one.
    pub point: Option<u64>,
    /// Makes its work different from that of other children on the same store.
    pub number: u64,
    /// When its clock starts, if that is a manual one.
    pub now_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The script that makes every kind of write once.
    Script,
    /// An existing store: it is opened, used a little, compacted and closed.
    GoOn,
    /// Client threads that run without end.
    Clients,
}

impl Work {
    const ALL: [Self; 3] = [Self::Script, Self::GoOn, Self::Clients];

    fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::GoOn => "go on",
            Self::Clients => "clients",
        }
    }
}

impl Task {
    /// The task of this process, if it is a child.
    pub fn of_this_process() -> Option<Self> {
        let name = env::var(WORK).ok()?;
        let work = Work::ALL.into_iter().find(|work| work.name() == name);
        let number = |variable| {
            env::var(variable).ok().map(|number| number.parse().expect("it is a number"))
        };
        Some(Self {
            work: work.expect("the work is known"),
            store: env::var_os(STORE).expect("a child is told its store").into(),
            point: number(POINT),
            number: number(NUMBER).expect("a child is told its number"),
            now_ms: number(NOW_MS).expect("a child is told the time"),
        })
    }
}

/// Reports this child's progress to the parent.
pub fn say(line: &str) {
    // In one write, so that lines of different threads don't mix.
    let said = io::stderr().write_all(format!("{line}\n").as_bytes());
    said.expect("the parent listens");
}

/// Reports this, and waits to be killed.
pub fn stop(line: &str) {
    say(line);
    loop {
        thread::park();
    }
}

/// Ends this process when it can't be killed any more, or when it hangs.
pub fn end_without_a_kill() {
    // The parent holds the other end of our standard input, which closes however the parent ends.
    thread::spawn(|| {
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        process::exit(FORSAKEN);
    });
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        say("this child hangs");
        process::exit(FORSAKEN);
    });
}

/// A child, as its parent sees it.
pub struct Child {
    process: process::Child,
    lines: BufReader<process::ChildStderr>,
    said: Vec<String>,
}

impl Child {
    pub fn start(task: &Task) -> Self {
        let mut command = Command::new(env::current_exe().expect("this is a program"));
        command
            .args([TEST, "--exact", "--nocapture", "--quiet", "--test-threads=1"])
            .env(WORK, task.work.name())
            .env(STORE, &task.store)
            .env(NUMBER, task.number.to_string())
            .env(NOW_MS, task.now_ms.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(point) = task.point {
            command.env(POINT, point.to_string());
        }
        let mut process = command.spawn().expect("this program starts");
        let lines = BufReader::new(process.stderr.take().expect("it is piped"));
        Self { process, lines, said: Vec::new() }
    }

    /// The child's next line; `None` if it has ended.
    pub fn hear(&mut self) -> Option<&str> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a child says text");
        line.pop()?;
        self.said.push(line);
        self.said.last().map(String::as_str)
    }

    /// Kills the child, and returns everything that it has reported.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().expect("it is a child of this process");
        while self.hear().is_some() {}
        let status = self.process.wait().expect("it is a child of this process");
        assert_eq!(status.signal(), Some(9), "it has ended by itself: {:#?}", self.said);
        std::mem::take(&mut self.said)
    }

    /// Waits until the child has finished its work.
    pub fn end(mut self) {
        while self.hear().is_some() {}
        let status = self.process.wait().expect("it is a child of this process");
        assert!(status.success(), "it has failed: {:#?}", self.said);
        assert!(self.said.is_empty(), "{:#?}", self.said);
    }
}

impl Drop for Child {
    /// A failed check leaves no process behind.
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
