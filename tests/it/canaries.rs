//! Planted bugs, each of which the harness must notice: a test that misses a canary proves nothing
//! about the store. `src/canary.rs` says how to let them out.
//!
//! ```text
//! RUSTFLAGS="--cfg canary" cargo test --release --all-features --test it canaries::
//! ```

use std::process::{Command, Output};
use std::thread;

/// The canary, and a test that fails when it is out. The ones that only some thread schedules
/// reveal are in `tests/schedules/canaries.rs`.
const CANARIES: [(&str, &str); 12] = [
    ("answers before the fsync", "crash::a_power_cut_after_every_operation_loses_nothing"),
    ("lies about the vault's fsync", "crash::a_power_cut_after_every_operation_loses_nothing"),
    ("leaves the directory unsynced", "crash::a_power_cut_after_every_operation_loses_nothing"),
    ("takes stale frames", "crash::a_kill_after_every_operation_loses_nothing"),
    ("ends the log at rot", "rot::flips::a_flipped_bit"),
    ("expires a moment late", "retention::"),
    ("expires a moment late", "model::the_store_answers_as_the_model_does"),
    ("sweeps what is held", "retention::a_key_in_flight_never_becomes_free"),
    ("sweeps what is held", "model::the_store_answers_as_the_model_does"),
    ("lets go of what is on its way", "futures::dropped::a_start_that_nobody_was_told_of"),
    ("compares hashes only", "threads::every_operation_runs_once_when_keys_collide"),
    ("compares hashes only", "model::the_store_answers_as_the_model_does"),
];

/// Runs the tests of this name in a separate process, with or without a bug.
fn run(tests: &str, canary: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this is a program"));
    command.arg(tests).env_remove("CANARY");
    if let Some(canary) = canary {
        command.env("CANARY", canary);
    }
    command.output().expect("it runs")
}

/// The line with which a test process ends.
fn summary(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().rfind(|line| line.starts_with("test result")).unwrap_or("none").to_owned()
}

#[test]
fn every_canary_is_noticed_by_its_harness() {
    thread::scope(|scope| {
        for row in 0..2 {
            scope.spawn(move || {
                for (canary, tests) in CANARIES.iter().skip(row).step_by(2) {
                    let noticed = summary(&run(tests, Some(canary)));
                    assert!(
                        noticed.starts_with("test result: FAILED"),
                        "{canary}: {tests} says {noticed}"
                    );
                    println!("{canary}: {noticed}");
                }
            });
        }
    });
}

#[test]
fn without_a_canary_every_harness_is_content() {
    let mut harnesses: Vec<_> = CANARIES.iter().map(|(_, tests)| *tests).collect();
    harnesses.sort_unstable();
    harnesses.dedup();
    for tests in harnesses {
        let output = run(tests, None);
        let said = summary(&output);
        assert!(output.status.success() && !said.contains(" 0 passed"), "{tests} says {said}");
    }
}
