//! The inputs that the fuzzer has kept still run as they did. The published package doesn't contain
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::damage::{self, Verdict};
use crate::support::faults::FaultyProgram;
use crate::support::model::{Seen, World};
use crate::support::ops::Program;

/// Runs the inputs of a target; `false` if they were not published.
fn replay(target: &str, mut run: impl FnMut(&[u8])) -> bool {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        return false;
    }
    let mut inputs = 0;
    for entry in fs::read_dir(fuzz.join("corpus").join(target)).expect("there is a corpus") {
        run(&fs::read(entry.expect("it is listed").path()).expect("it can be read"));
        inputs += 1;
    }
    assert!(0 < inputs, "the corpus is empty");
    true
}

#[test]
fn the_programs_of_the_fuzzer_run_as_they_did() {
    replay("ops", |bytes| World::play(&Program::from_bytes(bytes)));
}

#[test]
fn the_programs_whose_disk_fails_run_as_they_did() {
    let mut all = Seen::default();
    if replay("faults", |bytes| all += World::play_faulty(&FaultyProgram::from_bytes(bytes))) {
        all.expect_each();
    }
}

#[test]
fn the_damaged_stores_of_the_fuzzer_are_refused_or_right() {
    let mut verdicts = BTreeMap::<_, u64>::new();
    if replay("open", |bytes| *verdicts.entry(damage::play(bytes)).or_default() += 1) {
        println!("{verdicts:?}");
        // Without redb its tables can't be forged.
        let forged = cfg!(feature = "transaction").then_some(Verdict::Forged);
        for verdict in [Verdict::Refused, Verdict::Right].into_iter().chain(forged) {
            assert!(verdicts.contains_key(&verdict), "{verdict:?} was not reached");
        }
    }
}
