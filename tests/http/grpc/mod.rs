//! The layer around a server of gRPC, with clients of tonic and of grpcio.

mod bank;
mod calls;
mod foreign;
mod refusals;
mod streams;
