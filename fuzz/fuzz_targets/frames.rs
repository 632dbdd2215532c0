//! Any bytes as the log, and frames that are written and then damaged: recovery never panics, never
//! reads what was not written, and never loses an acknowledged frame silently.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| idemstore::inside::frames(bytes));
