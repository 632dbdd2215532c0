//! Any bytes are a store whose files are damaged or forged: it reports that, or answers as before.
//! It never panics, never loops forever, and never asks for memory that the files don't justify.

#![no_main]

mod largest;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests have more need of it")]
mod support;

use std::panic;

use libfuzzer_sys::fuzz_target;
use support::damage;

/// redb's page cache gets a part of this, and the files of a store are shorter.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The fuzzer stops at each panic, but the store catches redb's panics: they are no finding unless
/// they reach the caller.
fn let_redb_panic() {
    let end = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("/redb-")) {
            end(panic);
        }
    }));
}

fuzz_target!(init: let_redb_panic(), |bytes| {
    let largest = largest::largest(|| {
        damage::play(bytes);
    });
    assert!(largest <= BYTES_MAX, "{largest} bytes at one time");
});
