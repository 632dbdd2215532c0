//! Any bytes as a row, a change or a typed result, and records made of them: decoding never panics
//! or asks for memory that the bytes do not justify, and what is decoded comes back.

#![no_main]

mod largest;

use idemstore::inside;
use libfuzzer_sys::fuzz_target;

/// Rows and changes borrow. What a choice makes from one record takes a few kilobytes.
const RECORDS_MAX: usize = 8 * 1024;
/// serde reserves room for up to 1 MiB of elements before it reads the first.
const TYPED_MAX: usize = 1024 * 1024 + 8 * 1024;

fn bounded(bytes: &[u8], max: usize, run: fn(&[u8])) {
    let largest = largest::largest(|| run(bytes));
    assert!(largest <= 4 * bytes.len() + max, "{largest} bytes for {}", bytes.len());
}

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, RECORDS_MAX, inside::records);
    bounded(bytes, TYPED_MAX, inside::typed);
});
