//! A separate process, all of whose output is captured.

use std::env;
use std::process::Command;
use std::sync::Mutex;

use super::canary::{MARK, Secret};
use super::tour::PANIC;
use crate::turn;

/// Tells the process its task.
const ROLE: &str = "IDEMSTORE_TEST_ROLE";
const TEST: &str = "secrets::process::a_process_that_goes_through_all_of_it_says_nothing";

#[test]
fn a_process_that_goes_through_all_of_it_says_nothing() {
    let _turn = turn();
    match env::var(ROLE).as_deref() {
        Err(_) => {
            assert_eq!(said("silent"), "");
            assert_eq!(said("loud"), "to stdout to stderr");
        }
        Ok("silent") => between_marks(go_through_all_of_it),
        // Shows that a line would be captured.
        Ok(_) => between_marks(|| {
            print!("to stdout ");
            eprint!("to stderr");
        }),
    }
}

fn between_marks(run: impl FnOnce()) {
    println!("<<<");
    run();
    println!(">>>");
}

/// Everything that this test prints in a separate process, besides the harness's output.
fn said(role: &str) -> String {
    let output = Command::new(env::current_exe().expect("it runs"))
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("RUST_BACKTRACE", "full")
        .output()
        .expect("it runs once more");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{stdout}{stderr}");
    let (_, rest) = stdout.split_once("<<<\n").expect("it has begun");
    let (said, _) = rest.split_once(">>>\n").expect("it has ended");
    format!("{said}{stderr}")
}

fn go_through_all_of_it() {
    static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    std::panic::set_hook(Box::new(|panic| {
        PANICS.lock().expect("nothing panics in here").push(panic.to_string());
    }));
    drop(super::all_of_it());
    drop(std::panic::take_hook());
    let panics = PANICS.lock().expect("nothing panics in here");
    let secret = Secret::new("mark", MARK.as_bytes());
    for panic in &*panics {
        assert_eq!(secret.find(panic), None, "{panic}");
        assert!(panic.contains(PANIC), "nothing but the closures of this test panics: {panic}");
    }
    assert_eq!(panics.len(), if cfg!(feature = "transaction") { 2 } else { 1 });
}
