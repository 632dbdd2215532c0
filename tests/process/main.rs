//! Tests that start processes. They are in a separate binary, and take turns in it: between fork
//! and exec a child holds all files of its parent, and so its locks. A store that is closed
//! meanwhile couldn't be reopened immediately.

#![expect(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, its numbers are small, and it has no users"
)]

#[cfg(unix)]
mod planted;
mod secrets;
#[cfg(unix)]
mod starting;
#[expect(dead_code, reason = "most of it is for the other tests")]
#[path = "../it/support/mod.rs"]
mod support;
#[cfg(all(feature = "tracing", feature = "metrics"))]
mod told;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The right to start processes, and to open stores in real directories.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has finished with it too.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
