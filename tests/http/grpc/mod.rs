//! The layer around a server of gRPC, with clients of tonic and of grpcio.

mod bank;
mod calls;
mod foreign;
#[path = "../../support/programs.rs"]
#[expect(dead_code, reason = "other tests have more clients")]
mod programs;
mod refusals;
mod streams;
