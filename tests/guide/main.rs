//! The guide's chapters on an HTTP service: their programs are built, run and killed, and what they
//! tell clients is compared with the code. These tests start processes, so they are a separate
//! binary.

#![cfg(unix)]
#![expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, and it has no users"
)]

#[path = "../support/answer.rs"]
mod answer;
mod chapter;
mod client;
mod clients;
mod contract;
mod limits;
#[path = "../support/programs.rs"]
#[expect(dead_code, reason = "other tests have more clients")]
mod programs;
mod project;
mod service;
mod with;
mod without;
