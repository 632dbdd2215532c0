//! The example `customers_api`, as its clients see it. These tests start processes, so they are a
//! separate binary.

#![expect(
    unreachable_pub,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and it has no users"
)]

#[path = "../support/answer.rs"]
mod answer;
mod client;
mod day;
#[path = "../../examples/customers_api"]
mod example {
    pub mod answers;
    pub mod api;
    pub mod exchange;
    pub mod fields;
    pub mod objects;
    pub mod provider;
    pub mod server;
    pub mod verification;
}
mod fields;
mod foreign;
mod inside;
mod process;
#[path = "../support/programs.rs"]
mod programs;
mod provider;
mod transcript;
mod verification;
