//! The HTTP layer, around handlers of axum on a socket, driven by a client that writes its own
//! bytes. A module for each topic.

#![expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed, and it has no users"
)]

mod authorize;
mod bodies;
mod burst;
#[cfg(feature = "json")]
mod checkout;
mod conflict;
mod disconnect;
mod effect;
mod failing;
mod fingerprint;
mod grpc;
mod headers;
mod interrupted;
mod meaning;
mod methods;
mod options;
mod outcome;
mod panic;
mod patience;
mod replay;
mod scope;
mod services;
mod stacks;
mod start;
mod streams;
mod support;
