//! A process that obeys commands for a store, line by line, until it is killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idemstore::{Execution, OpenError, Store};

use crate::stage::{again, say};
use crate::words::{answer, complete_started, kind, permit, small, try_complete};

const SAID: &str = "said: ";
const HIRED: &str = "IDEMSTORE_WORLD_CLERK";

pub struct Clerk {
    process: Child,
    stdin: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Clerk {
    pub fn hire() -> Self {
        Self::with(&[], &[])
    }

    /// A clerk that is started by a wrapper, with these variables in its environment.
    pub fn with(wrapper: &[&str], variables: &[(&str, OsString)]) -> Self {
        let mut command = again(wrapper, "clerk::as_a_clerk");
        command.env(HIRED, "").envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let stdin = process.stdin.take().expect("it is piped");
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, stdin, said }
    }

    /// Sends it a command, and doesn't wait.
    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").expect("it listens");
    }

    pub fn hear(&mut self) -> String {
        let mut lines = (&mut self.said).lines().map(|line| line.expect("it is text"));
        let said = lines.find_map(|line| line.strip_prefix(SAID).map(str::to_owned));
        said.expect("it has ended")
    }

    pub fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.hear()
    }

    /// Sends a command, and expects this answer.
    #[track_caller]
    pub fn hears(&mut self, what: &str, wanted: &str) {
        assert_eq!(self.ask(what), wanted, "{what}");
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it is ours").is_some()
    }

    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "what other tests start as a process of its own"]
fn as_a_clerk() {
    if std::env::var_os(HIRED).is_none() {
        return;
    }
    let mut desk = Desk::default();
    for line in std::io::stdin().lines() {
        let line = line.expect("it is text");
        let (verb, object) = line.split_once(' ').unwrap_or((&line, ""));
        say(&format!("{SAID}{}", desk.done(verb, object)));
    }
    // The process that sends the commands has ended.
    std::process::exit(0);
}

#[derive(Default)]
struct Desk {
    store: Option<Store>,
    executions: BTreeMap<String, Execution>,
}

impl Desk {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("it was opened")
    }

    /// Obeys the command, and returns the outcome as a word.
    fn done(&mut self, verb: &str, object: &str) -> String {
        match verb {
            "open" => self.opened(Store::builder().log_bytes(64 * 1024).open(object)),
            "open-small" => {
                self.opened(small().wait_for_lock(Duration::from_secs(100)).open(object))
            }
            "open-soon" => {
                self.opened(small().wait_for_lock(Duration::from_millis(100)).open(object))
            }
            "open-found" => self.opened(small().create(false).open(object)),
            "open-new" => self.opened(small().create_new(true).open(object)),
            "open-accepting" => self.opened(small().accept_clock(true).open(object)),
            "start" => match permit(self.store(), object).start() {
                Ok(execution) => {
                    self.executions.insert(object.to_owned(), execution);
                    "started".to_owned()
                }
                Err(error) => kind(&error),
            },
            "complete" => match self.executions.remove(object) {
                Some(execution) => {
                    complete_started(execution);
                    "completed".to_owned()
                }
                None => try_complete(self.store(), object)
                    .map_or_else(|error| error, |()| "completed".to_owned()),
            },
            "begin" => answer(self.store(), object),
            "drop" => {
                drop(self.executions.remove(object));
                "dropped".to_owned()
            }
            "settle" => said(self.store().settle(), "settled"),
            "compact" => said(self.store().compact().map(drop), "compacted"),
            "backup" => said(self.store().backup(object), "backed up"),
            "jump" => self.store().stats().clock_jump.to_string(),
            "wall" => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.unwrap_or_default().as_secs().to_string()
            }
            "close" => {
                let store = self.store.take().expect("it was opened");
                store.close().map_or_else(|error| kind(&error), |left| format!("closed {left}"))
            }
            other => panic!("no clerk does this: {other}"),
        }
    }

    fn opened(&mut self, opened: Result<Store, OpenError>) -> String {
        match opened {
            Ok(store) => {
                self.store = Some(store);
                "opened".to_owned()
            }
            Err(error) => kind(&error),
        }
    }
}

fn said<E: std::fmt::Debug>(done: Result<(), E>, what: &str) -> String {
    done.map_or_else(|error| kind(&error), |()| what.to_owned())
}
