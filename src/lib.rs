#![doc = include_str!("../README.md")]

// What you call.
mod begin;
mod builder;
mod clock;
mod error;
mod key;
mod stats;
mod store;
// How it works, from the rules down to the files.
mod hold;
mod index;
mod journal;
mod log;
mod sweeper;
mod transition;
mod vault;
// What it is made of.
mod codec;
#[doc(hidden)]
pub mod disk;
mod limits;
mod record;
mod sync;
mod wake;

pub use begin::{Begin, Completed, Execution, InFlight, Interrupted, Permit};
pub use builder::Builder;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use error::{CompleteError, Error, FinishError, KeyError, OpenError, StorageError};
pub use key::{Fingerprint, Key};
pub use limits::{
    CACHE_BYTES_DEFAULT, KEY_LEN_MAX, KEYS_MAX_DEFAULT, LOG_BYTES_DEFAULT, LOG_BYTES_MAX,
    LOG_BYTES_MIN, RESULT_LEN_DEFAULT, RESULT_LEN_MAX, SCOPE_LEN_MAX,
};
pub use stats::Stats;
pub use store::Store;
