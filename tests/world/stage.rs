//! How a test is staged: in a separate process and, where it needs that, with separate mounts.

use std::any::type_name;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the process of a test.
const STAGED: &str = "IDEMSTORE_WORLD_STAGED";
/// Set where skipping a test is not allowed.
const CI: &str = "IDEMSTORE_CI";
/// Printed by a test that cannot run here.
const SKIPPED: &str = "skipped: ";
/// The longest wait for something that must come.
const WITHIN: Duration = Duration::from_secs(120);

/// Runs a test in a separate process.
pub fn alone<T: Fn()>(test: T) {
    staged(&[], test);
}

/// Runs a test in a separate process that may mount anything, invisible to other processes.
pub fn among_own_mounts<T: Fn()>(test: T) {
    if is_staged() {
        return test();
    }
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let wrappers: [&[&str]; 2] = [&["unshare", "-Urm"], &["unshare", "-m"]];
    let can_mount = |wrapper: &&&[&str]| {
        let mount = ["mount", "-t", "tmpfs", "none"].map(OsStr::new);
        let words = wrapper.iter().map(OsStr::new).chain(mount).chain([directory.path().as_ref()]);
        run(words).is_ok()
    };
    match wrappers.iter().find(can_mount) {
        Some(wrapper) => staged(wrapper, test),
        None => skip("nothing can be mounted here"),
    }
}

/// Ends a test that cannot run here, and reports that. Where skipping is not allowed, the test
/// fails.
pub fn skip(reason: &str) {
    assert!(std::env::var_os(CI).is_none(), "it cannot be tried: {reason}");
    say(&format!("{SKIPPED}{reason}"));
}

fn is_staged() -> bool {
    std::env::var_os(STAGED).is_some()
}

fn staged<T: Fn()>(wrapper: &[&str], test: T) {
    if is_staged() {
        return test();
    }
    let name = name_of::<T>();
    // Whatever it can't remove because something was mounted there is removed after it.
    let place = tempfile::tempdir().expect("there is room for a directory");
    let mut command = again(wrapper, name);
    let output = command.env(STAGED, "").env("TMPDIR", place.path()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    for skipped in said.lines().filter(|line| line.starts_with(SKIPPED)) {
        // Bypasses the harness, which hides the output of a test that has passed.
        let _ = writeln!(std::io::stderr(), "{name}, {skipped}");
    }
}

/// This binary, started again for one test.
pub fn again(wrapper: &[&str], test: &str) -> Command {
    let this = std::env::current_exe().expect("it has a path");
    let mut words = wrapper.iter().map(OsStr::new).chain([this.as_ref()]);
    let mut command = Command::new(words.next().expect("there is one at least"));
    command.args(words).args(["--include-ignored", "--exact", test, "--nocapture"]);
    command
}

/// The name of the test that contains this closure.
fn name_of<T>() -> &'static str {
    let name = type_name::<T>();
    let name = name.strip_suffix("::{{closure}}").unwrap_or(name);
    name.split_once("::").map_or(name, |(_, within)| within)
}

/// Prints a line on the standard output, bypassing the harness.
pub fn say(line: &str) {
    let mut stdout = std::io::stdout();
    // The harness may have begun a line.
    writeln!(stdout, "\n{line}").and_then(|()| stdout.flush()).expect("somebody listens");
}

/// Runs a system command, and reports why it failed.
pub fn run<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Result<(), String> {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().expect("a command has a name"));
    let output = command.args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Mounts an empty file system of this many bytes over a directory.
pub fn mount(bytes: u64, at: &Path) {
    let options = format!("size={bytes},mode=0700");
    let words = ["mount", "-t", "tmpfs", "-o", &options, "none"].map(OsStr::new);
    run(words.into_iter().chain([at.as_ref()])).expect("it was tried before");
}

/// Mounts what is at one path at another path too.
pub fn bind(from: &Path, at: &Path) {
    let words = ["mount", "--bind"].map(OsStr::new);
    run(words.into_iter().chain([from.as_ref(), at.as_ref()])).expect("there are mounts here");
}

/// Remounts what is mounted there, with other options. With its source only these options apply:
/// not every user may set the others again.
pub fn remount(options: &str, at: &Path) {
    let words = ["mount", "-o", options, "none"].map(OsStr::new);
    run(words.into_iter().chain([at.as_ref()])).expect("it is ours");
}

/// Signals the end when it is dropped, so that other threads end even when a test fails.
pub struct Ending<'b>(pub &'b AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until something is there.
pub fn until<T>(what: impl Debug, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < WITHIN, "it does not come: {what:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
