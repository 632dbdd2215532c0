//! A program of the chapter as a process: started, driven, killed, and shut down.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::{Answer, begin, end, get, pay};
use super::project::PROGRAMS;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where a service keeps its store, and its bank its books.
pub struct Place {
    directory: TempDir,
    program: &'static Path,
}

impl Place {
    pub fn without() -> Self {
        Self::of(&PROGRAMS.without)
    }

    /// With a store that was already created.
    pub fn with() -> Self {
        let place = Self::of(&PROGRAMS.with);
        let made = place.command().arg("make-store").status().expect("it starts");
        assert!(made.success());
        place
    }

    pub fn of(program: &'static Path) -> Self {
        Self { directory: tempfile::tempdir().expect("there is room"), program }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(&self.directory).env("LISTEN", "127.0.0.1:0");
        command
    }

    /// A service whose bank takes this long to answer.
    pub fn start(&self, bank_delay: Duration) -> Service {
        self.start_at("127.0.0.1:0", bank_delay)
    }

    pub fn start_at(&self, address: &str, bank_delay: Duration) -> Service {
        let mut command = self.command();
        command.env("LISTEN", address);
        command.env("BANK_DELAY_MS", bank_delay.as_millis().to_string());
        Service::start(command)
    }

    pub fn books(&self) -> PathBuf {
        self.directory.path().join("bank.jsonl")
    }

    /// How many payments the bank has made.
    pub fn charges(&self) -> usize {
        fs::read_to_string(self.books()).expect("the bank has books").lines().count()
    }

    pub fn wait_for_charges(&self, count: usize) {
        let begun = Instant::now();
        while self.charges() < count {
            assert!(begun.elapsed() < PATIENCE, "the bank is not asked");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The process is killed when this is dropped.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    lines: Receiver<String>,
}

impl Service {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        let first = lines.recv_timeout(PATIENCE).expect("it listens");
        let address = first.strip_prefix("listening on ").expect("it says where");
        let address = address.parse().expect("it is an address");
        Self { child, address, lines }
    }

    pub fn send(&self, request: &str) -> Answer {
        end(begin(self.address, request)).expect("the server answers")
    }

    pub fn pay(&self, token: &str, key: &str, cents: u64) -> Answer {
        self.send(&pay(token, Some(key), cents))
    }

    /// The status of a payment that is queried.
    pub fn show(&self, token: &str, id: u64) -> u16 {
        self.send(&get(token, &format!("/payments/{id}"))).status
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it has ended");
    }

    /// Asks it to shut down, and returns its exit status and what it has printed since it listens.
    pub fn end(mut self, signal: Signal) -> (ExitStatus, Vec<String>) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is running");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        (status, self.lines.iter().collect())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
