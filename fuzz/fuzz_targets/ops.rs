//! Any bytes are a program of operations, kills and power cuts: the store answers as the model
//! does. `tests/it/model.rs` runs the same programs.

#![no_main]

#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests have more need of it")]
mod support;

use libfuzzer_sys::fuzz_target;
use support::model::World;
use support::ops::Program;

fuzz_target!(|bytes: &[u8]| World::play(&Program::from_bytes(bytes)));
