//! A chapter for each kind of program: the problem, the pattern, what a kill leaves at each point,
//! what to choose, and common mistakes. One chapter takes an axum service from no idempotency to
//! full idempotency, and one describes what to tell the clients of such a service. The last two are
//! about operating a store and about testing code that uses one.
//!
//! Each block of Rust is a whole file: paste it into the `src/main.rs` of a new crate that depends
//! on idemstore and on the crates and features named in a first line `// Needs: ..`. A program of
//! several files has each file in a block that begins with its name, such as `// src/bank.rs`, and
//! shows parts of them before.
//!
//! This module exists only in the documentation.

// A chapter whose blocks need a feature is always shown, but its blocks run only with that feature.

/// [axum-service.md]: axum_service
/// [axum-service.md#how-long-a-body-may-be]: axum_service#how-long-a-body-may-be
/// [http-contract.md]: http_contract
#[cfg(any(not(doctest), feature = "tower"))]
#[doc = include_str!("../docs/guide/http-handler.md")]
pub mod http_handler {}

/// [http-contract.md]: http_contract
/// [http-handler.md#layers-around-and-within]: http_handler#layers-around-and-within
/// [testing.md]: testing
#[cfg(any(not(doctest), feature = "tower"))]
#[doc = include_str!("../docs/guide/axum-service.md")]
pub mod axum_service {}

#[doc = include_str!("../docs/guide/http-contract.md")]
pub mod http_contract {}

#[doc = include_str!("../docs/guide/async.md")]
pub mod async_service {}

#[doc = include_str!("../docs/guide/webhook.md")]
pub mod webhook {}

#[doc = include_str!("../docs/guide/queue-consumer.md")]
pub mod queue_consumer {}

#[doc = include_str!("../docs/guide/cron-job.md")]
pub mod cron_job {}

#[doc = include_str!("../docs/guide/saga.md")]
pub mod saga {}

#[cfg(any(not(doctest), feature = "transaction"))]
#[doc = include_str!("../docs/guide/business-data.md")]
pub mod business_data {}

#[cfg(any(not(doctest), feature = "typed"))]
#[doc = include_str!("../docs/guide/operations.md")]
pub mod operations {}

#[doc = include_str!("../docs/guide/testing.md")]
pub mod testing {}
