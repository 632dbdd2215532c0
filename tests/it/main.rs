//! One binary, a module for each topic.

#![expect(
    unreachable_pub,
    unused_must_use,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, its numbers are small, it has no users, and it may look at an answer and drop it"
)]

mod batches;
mod bounds;
#[cfg(canary)]
mod canaries;
mod checkpoints;
mod clocks;
mod contract;
mod copies;
mod corpora;
mod crash;
mod faults;
mod files;
mod forget;
mod format;
mod full;
mod futures;
mod handles;
mod histories;
mod hostile;
mod house;
mod inspect;
mod keys;
mod links;
mod load;
mod many;
#[cfg(feature = "transaction")]
mod marks;
mod misuse;
mod model;
mod not_kept;
mod results;
mod retention;
mod rot;
mod run;
mod scopes;
mod segments;
mod stats;
mod support;
mod sweep;
mod threads;
mod time;
#[cfg(feature = "transaction")]
mod transaction;
#[cfg(feature = "typed")]
mod typed;
mod unchanged;
mod wait;
