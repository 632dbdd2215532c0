//! Planted bugs that show only under some schedule, and the scene that must notice each of them.
//! `src/canary.rs` says how to let them out.
//!
//! ```text
//! cargo test --manifest-path tests/schedules/Cargo.toml canaries::
//! ```

use std::process::Command;

/// The canary, and a scene that fails when it is out.
const CANARIES: [(&str, &str); 11] = [
    ("answers before the write", "commits::what_is_acknowledged_is_durable_by_then"),
    ("answers before the fsync", "commits::what_is_acknowledged_is_durable_by_then"),
    ("forgets to pass the lead", "commits::what_is_acknowledged_is_durable_by_then"),
    ("forgets to wake", "calls::of_callers_of_one_key_one_runs_and_all_have_its_result"),
    ("reserves unchecked", "calls::of_callers_of_keys_that_the_vault_has_"),
    ("compares hashes only", "upkeep::a_settle_beside_callers_changes_no_answer"),
    ("sweeps what is held", "upkeep::a_key_that_expires_in_hand_is_its_holders_until_it_ends"),
    ("goes by an old time", "upkeep::a_key_that_was_free_for_one_caller_is_not_interrupted_"),
    ("lets go of what is on its way", "futures::a_start_that_is_dropped_leaves_its_key_to_others"),
    ("forgets to pass the lead", "futures::futures_and_threads_share_batches_that_are_durable"),
    ("frees a segment before its settle", "commits::a_log_that_is_full_holds_writers_up_"),
];

#[test]
fn every_canary_is_noticed_by_its_scene() {
    for (canary, scene) in CANARIES {
        let output = Command::new(std::env::current_exe().expect("this is a program"))
            .args([scene, "--nocapture"])
            .env("CANARY", canary)
            .env("SCHEDULES", "5000")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("test result: FAILED"), "{canary}: {scene} says {said}");
    }
}
