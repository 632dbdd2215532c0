//! The store in the world: real directories, processes, mounts and clocks, and what can happen to
//! them under a store. Nothing is simulated here.
//!
//! Each test runs in a separate process: this binary, started again. So it may change its working
//! directory, fork, and be sure that no other process has a copy of its locks.

#![cfg(unix)]
#![expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, and it has no users"
)]

mod aliases;
mod clerk;
mod clocks;
mod compaction;
mod copies;
mod crowd;
mod descriptors;
mod exposure;
mod failing;
mod forged;
mod forks;
mod full;
mod gone;
mod hot;
mod kept;
mod limits;
mod locks;
mod making;
mod memory;
mod nowhere;
mod paths;
mod refused;
mod room;
mod secrets;
mod stage;
mod words;
