//! Tests that start processes. They are a binary of their own, and take turns in it: a process that
//! is being started has all files of the one that starts it, and so its locks, until it runs its own
//! program. A store that is closed meanwhile could not be opened again at once.

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
    // A test that failed has done with it too.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
