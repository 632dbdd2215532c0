//! Real processes on a real directory, killed with SIGKILL, and what they leave to the next one.
//!
//! A separate binary: between fork and exec, a child briefly holds copies of all open files of its
//! parent, and so of their locks. No store that is open in this process may run into them, so the
//! parent opens none: it reads the files that a kill has left into a simulated disk, and looks at
//! them there.

#![cfg(unix)]
#![expect(
    unreachable_pub,
    dead_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, its numbers are small, it has no users, and this one needs not all that the others share"
)]

mod child;
mod clients;
mod life;
mod named;
mod points;
mod random;
#[path = "../it/support/mod.rs"]
mod support;
mod tally;

use child::{Task, Work};
use support::size;

#[test]
fn a_child_that_nobody_started_does_nothing() {
    let Some(task) = Task::of_this_process() else { return };
    child::end_without_a_kill();
    match task.work {
        Work::Script | Work::GoOn => named::run(&task),
        Work::Clients => clients::run(&task),
    }
}

/// How many kills all tests make together.
fn kills() -> u64 {
    size("KILLS", 40)
}

/// The seed of all random choices.
fn seed() -> u64 {
    size("KILLS_SEED", 1)
}
