#![doc = include_str!("../README.md")]

// What you call.
mod batch;
mod begin;
mod bound;
mod builder;
mod clock;
mod error;
#[cfg(feature = "async")]
mod futures;
#[cfg(any(doc, doctest))]
pub mod guide;
mod handle;
#[cfg(feature = "tower")]
pub mod http;
mod inspect;
mod key;
mod run;
mod stats;
mod store;
#[cfg(feature = "transaction")]
mod transact;
#[cfg(feature = "serde")]
mod typed;
mod upkeep;
// How it works, from the rules down to the files.
mod index;
mod journal;
mod log;
mod steward;
mod sweeper;
mod transition;
mod vault;
// What it is made of.
mod canary;
mod codec;
#[doc(hidden)]
pub mod disk;
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod observe;
mod origin;
mod record;
mod room;
mod secret;
#[cfg(feature = "serde")]
mod shape;
mod sync;
mod wake;
mod wakers;

pub use begin::Begin;
pub use bound::Bound;
pub use builder::Builder;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
#[cfg(feature = "transaction")]
pub use error::TransactionError;
pub use error::{
    CompleteError, CopyError, Error, FinishError, KeyError, OpenError, RunError, StorageError,
};
#[cfg(feature = "serde")]
pub use error::{DecodeError, EncodeError};
pub use handle::{
    Completable, Completed, Execution, InFlight, Interrupted, Permit, Startable, Tombstone,
};
pub use inspect::{Iter, KeyInfo};
pub use key::{Fingerprint, Key};
pub use limits::{
    CACHE_BYTES_DEFAULT, KEY_LEN_MAX, KEYS_MAX_DEFAULT, LOG_BYTES_DEFAULT, LOG_BYTES_MAX,
    LOG_BYTES_MIN, RESULT_LEN_DEFAULT, RESULT_LEN_MAX, SCOPE_LEN_MAX,
};
pub use run::{Effect, Outcome};
pub use stats::Stats;
pub use store::Store;
pub use transition::Status;
#[cfg(feature = "serde")]
pub use typed::to_bytes;
#[cfg(feature = "transaction")]
pub use {redb, vault::Transaction};
