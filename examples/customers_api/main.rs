//! The API in the README beside this file, as a service: create and update customers and vendors,
//! and send each request as often as you like.
//!
//! ```text
//! cargo run --features tower --example customers_api -- --listen 127.0.0.1:8080
//! ```

#![expect(unreachable_pub, reason = "it has no users")]

mod answers;
mod api;
mod exchange;
mod fields;
mod objects;
mod provider;
mod server;
mod verification;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match server::serve(server::Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("customers_api: {error}");
            ExitCode::FAILURE
        }
    }
}
