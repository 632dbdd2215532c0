//! The layer around a gRPC server, with tonic and grpcio clients.

mod bank;
mod calls;
mod foreign;
#[path = "../../support/programs.rs"]
#[expect(dead_code, reason = "other tests have more clients")]
mod programs;
mod refusals;
mod streams;
