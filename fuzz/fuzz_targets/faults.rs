//! Any bytes are a program whose disk fails on the way: each answer is the model's or says that the
//! disk has failed, and each key ends up as it was last reported.

#![no_main]

#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests have more need of it")]
mod support;

use libfuzzer_sys::fuzz_target;
use support::faults::FaultyProgram;
use support::model::World;

fuzz_target!(|bytes: &[u8]| {
    World::play_faulty(&FaultyProgram::from_bytes(bytes));
});
