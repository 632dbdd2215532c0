//! System calls that fail under a process, injected by strace: everything that the process was told
//! is there afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::clerk::Clerk;
use crate::stage::{alone, run, skip};
use crate::words::{answer, close, complete, directory, small};

/// Every name that a store gives to a file, permanently or temporarily.
const NAMES: [&str; 11] = [
    "lock",
    "log-0",
    "log-0.init",
    "log-0.part",
    "log-1",
    "log-1.init",
    "log-1.part",
    "vault.redb",
    "vault.redb.init",
    "vault.redb.part",
    "vault.redb.compact",
];

/// What a process was told: the keys, each with the answer that `begin` must give from then on.
type Told = BTreeMap<String, &'static str>;

/// A process that uses a store in every way while these calls fail.
struct Life<'d> {
    directory: &'d Path,
    calls: &'static str,
    error: &'static str,
    /// Which of them fail, in strace's syntax.
    when: String,
}

impl Life<'_> {
    /// It runs until it is killed, and returns how many calls have failed.
    fn live(&self) -> usize {
        let [store, backup, trace, said] =
            ["store", "backup", "trace", "said"].map(|name| self.directory.join(name));
        let inject = format!("inject={}:error={}:when={}", self.calls, self.error, self.when);
        let trace_calls = format!("trace={}", self.calls);
        let mut wrapper = ["sh", "-c", "exec \"$@\" 2> \"$0\"", text(&said)].to_vec();
        // The process is this one's direct child, and the tracer runs elsewhere.
        wrapper.extend(["strace", "-D", "-f", "-qq", "-o", text(&trace)]);
        wrapper.extend(["-e", &trace_calls, "-e", &inject]);
        // Its other files aren't the store's: without them it would not even start.
        let paths: Vec<_> = [&store, &backup]
            .into_iter()
            .flat_map(|place| NAMES.map(|name| place.join(name)))
            .chain([store.clone(), backup.clone(), self.directory.to_owned()])
            .collect();
        for path in &paths {
            wrapper.extend(["-P", text(path)]);
        }
        let mut clerk = Clerk::with(&wrapper, &[]);
        let told = use_it(&mut clerk, &store, &backup);
        clerk.kill();
        self.check(&store, &told);
        let said = fs::read_to_string(said).expect("it is text");
        assert!(!said.contains("panicked"), "{self:?}: {said}");
        let trace = fs::read_to_string(trace).expect("it is text");
        trace.lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    fn check(&self, store: &Path, told: &Told) {
        // The process has ended, and the system may take a moment to notice.
        let store = small().wait_for_lock(Duration::from_secs(10)).open(store);
        let store = store.unwrap_or_else(|error| panic!("{self:?}: {error:?}"));
        for (name, wanted) in told {
            assert_eq!(answer(&store, name), *wanted, "{name}: {self:?}");
        }
        complete(&store, "afterwards");
        store.settle().expect("nothing fails any more");
        close(store);
    }
}

impl std::fmt::Debug for Life<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} when {}", self.calls, self.error, self.when)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

fn use_it(clerk: &mut Clerk, store: &Path, backup: &Path) -> Told {
    let mut told = Told::new();
    for turn in 0..3 {
        // With the sweeper, which must cope with a failure too.
        let opened = clerk.ask(&format!("open {}", store.display()));
        if opened != "opened" {
            assert!(["DiskFull", "Io", "Storage"].contains(&&*opened), "{opened}");
            continue;
        }
        let started = format!("started {turn}");
        if clerk.ask(&format!("start {started}")) == "started" {
            told.insert(started.clone(), "interrupted");
        }
        let backing_up = format!("backup {}", backup.display());
        for (number, act) in ["settle", "compact", &backing_up, "settle"].into_iter().enumerate() {
            for part in ["before", "after"] {
                let name = format!("{part} act {number} of {turn}");
                if clerk.ask(&format!("complete {name}")) == "completed" {
                    told.insert(name, "replay");
                }
            }
            clerk.ask(act);
        }
        for (name, wanted) in &told {
            let said = clerk.ask(&format!("begin {name}"));
            let is_open = name == &started;
            let may_be = ["Poisoned", "Storage", if is_open { "in flight" } else { wanted }];
            assert!(may_be.contains(&&*said), "{name}: {said}");
        }
        clerk.ask(&format!("drop {started}"));
        clerk.ask("close");
    }
    told
}

/// The calls that a store makes on its files and directories, under all their names.
const CALLS: [&str; 9] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "/^rename",
    "openat",
    "ftruncate",
    "pread64",
    "unlinkat",
    "flock",
];

#[test]
fn whatever_call_fails_what_a_process_was_told_is_there_afterwards() {
    alone(|| {
        if Command::new("strace").arg("--version").output().is_err() {
            return skip("strace is not installed");
        }
        let tracing = ["strace", "-f", "-qq", "-o", "/dev/null"];
        for how in [&[][..], &["-D"]] {
            if run([&tracing, how, &["true"]].concat()).is_err() {
                return skip("no process may be traced here");
            }
        }
        let mut lives = Vec::new();
        for (at, calls) in CALLS.into_iter().enumerate() {
            for (turn, number) in [1, 2, 3, 5, 8, 13, 21].into_iter().enumerate() {
                // One call fails, or all from there on, with various errors.
                let error = if (at + turn) % 2 == 0 { "EIO" } else { "ENOSPC" };
                let and_all_after = if (at + turn) % 4 < 2 { "" } else { "+" };
                lives.push((calls, error, format!("{number}{and_all_after}")));
            }
        }
        let lives = Mutex::new(lives);
        let failed = Mutex::new(BTreeMap::<_, usize>::new());
        let next = || lives.lock().expect("nobody panics with it").pop();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some((calls, error, when)) = next() {
                        let directory = directory();
                        let life = Life { directory: directory.path(), calls, error, when };
                        let number = life.live();
                        let mut failed = failed.lock().expect("nobody panics with it");
                        *failed.entry(calls).or_default() += number;
                    }
                });
            }
        });
        let failed = failed.into_inner().expect("nobody has panicked");
        assert!(failed.values().all(|number| 5 <= *number), "hardly anything failed: {failed:?}");
    });
}
