#![doc = include_str!("../README.md")]

// What everything is made of.
mod canary;
mod clock;
mod error;
mod key;
mod limits;
mod observe;
mod sync;
// How it works, from the rules up: each module knows only those above it.
mod handle;
#[cfg(feature = "tower")]
pub mod http;
mod local;
mod rules;
mod run;
#[doc(hidden)]
pub mod sim;
mod store;
#[cfg(feature = "typed")]
pub mod typed;
// Beside these.
#[cfg(any(doc, doctest))]
pub mod guide;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../tests/inside/mod.rs"]
pub mod inside;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
#[cfg(feature = "transaction")]
pub use error::TransactionError;
pub use error::{
    Bound, CheckpointError, CompleteError, CopyError, Error, FinishError, KeyError, OpenError,
    StorageError,
};
#[cfg(feature = "typed")]
pub use error::{DecodeError, EncodeError};
pub use handle::{
    Begin, Completable, Completed, Execution, InFlight, Interrupted, NotKept, Permit, Startable,
};
pub use key::{Fingerprint, Key};
pub use limits::{
    CACHE_BYTES_DEFAULT, KEY_LEN_MAX, KEYS_MAX_DEFAULT, LOG_BYTES_DEFAULT, LOG_BYTES_MAX,
    LOG_BYTES_MIN, RESULT_LEN_DEFAULT, RESULT_LEN_MAX, SCOPE_LEN_MAX,
};
pub use rules::Status;
pub use rules::effect::Effect;
pub use run::{Outcome, RunError};
pub use store::{Builder, KeyInfo, Keys, Stats, Store};
#[cfg(feature = "transaction")]
pub use {local::vault::Transaction, redb};
