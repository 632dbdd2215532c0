//! Random operations, with restarts, kills and power cuts between them: the store answers as the
//! model does.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::support::model::World;
use crate::support::ops::{self, Program};
use crate::support::size;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: size("MODEL_CASES", 300) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_answers_as_the_model_does(
        ops in prop::collection::vec(ops::random::op(), 1..120),
        // With no bit of their hash left all keys are one to the live table.
        hash_mask in prop_oneof![Just(u64::MAX), Just(0)],
    ) {
        World::play(&Program { hash_mask, ops });
    }
}

/// What the fuzzer has found to be worth keeping. The published package is without it.
#[test]
fn the_programs_of_the_fuzzer_run_as_they_did() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        return;
    }
    let mut programs = 0;
    for entry in fs::read_dir(fuzz.join("corpus/ops")).expect("there is a corpus") {
        let bytes = fs::read(entry.expect("it is listed").path()).expect("it can be read");
        World::play(&Program::from_bytes(&bytes));
        programs += 1;
    }
    assert!(0 < programs, "the corpus is empty");
}
