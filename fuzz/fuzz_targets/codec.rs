//! Any bytes as a row, a change or a typed result, and records made of them: decoding never panics
//! or asks for memory that the bytes do not justify, and what is decoded comes back.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use idemstore::fuzzing;
use libfuzzer_sys::fuzz_target;

/// Rows and changes borrow. What is made of one record has some kilobytes.
const RECORDS_MAX: usize = 8 * 1024;
/// serde makes room for up to 1 MiB of elements before it reads the first.
const TYPED_MAX: usize = 1024 * 1024 + 8 * 1024;

/// The largest piece of memory that was asked for.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Watched;

fn note(bytes: usize) {
    LARGEST.fetch_max(bytes, Ordering::Relaxed);
}

// SAFETY: everything is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn bounded(bytes: &[u8], max: usize, run: fn(&[u8])) {
    LARGEST.store(0, Ordering::Relaxed);
    run(bytes);
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest <= 4 * bytes.len() + max, "{largest} bytes for {}", bytes.len());
}

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, RECORDS_MAX, fuzzing::records);
    bounded(bytes, TYPED_MAX, fuzzing::typed);
});
