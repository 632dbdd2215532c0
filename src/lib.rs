#![cfg_attr(docsrs, feature(doc_cfg))]
//! An embedded idempotency store: an operation runs at most once for each idempotency key, through
//! retries, races, restarts and kills.
//!
//! Call [`Store::begin`] before an effect that must not happen twice, and [`Execution::complete`]
//! after it. A retry gets the stored result. If the process dies in between, the next caller gets
//! [`Begin::Interrupted`]: the effect may or may not have happened.
//!
//! ```no_run
//! use idemstore::{Begin, Fingerprint, Key, Store};
//!
//! # fn charge(_: &str) -> &'static str { "receipt 17" }
//! # fn find(_: &str) -> Option<&'static str> { None }
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let store = Store::open("payments")?;
//!     let key = Key::scoped("payments", "order-1")?;
//!     let receipt = match store.begin(&key, Fingerprint::of("2 apples"))? {
//!         Begin::Fresh(permit) => {
//!             // The start is durable before the effect, and the result before it's returned.
//!             let run = permit.start()?;
//!             let receipt = charge(&run.downstream_key("charge"));
//!             run.complete(receipt)?
//!         }
//!         Begin::Replay(receipt) => receipt,
//!         Begin::Interrupted(doubt) => match find(&doubt.downstream_key("charge")) {
//!             Some(receipt) => doubt.resolve(receipt)?,
//!             None => return Err("not charged yet: `retry` or `abandon`".into()),
//!         },
//!         Begin::InFlight(_) => return Err("ask again".into()),
//!         Begin::Mismatch => return Err("this key was used for another order".into()),
//!         Begin::NotKept(_) => return Err("paid before".into()),
//!     };
//!     assert_eq!(receipt.result(), b"receipt 17");
//!     Ok(())
//! }
//! ```
//!
//! | to do this | see |
//! |---|---|
//! | open a store and set its options | [`Store::open`], [`Store::builder`] |
//! | handle each answer | [`Begin`] |
//! | do all of it in one call | [`Store::run`] |
//! | run an effect that may be repeated, with a single fsync | [`Permit::complete`] |
//! | finish an operation whose outcome arrives elsewhere | [`Execution::detach`], [`Store::complete`] |
//! | resume an operation where it stopped | [`Execution::checkpoint`] |
//! | handle many operations at a time | [`Store::begin_many`], [`Store::complete_many`] |
//! | await calls as futures | [`Permit::start_async`], [`Execution::complete_async`] |
//! | inspect keys and maintain a store | [`Store::keys`], [`Store::stats`], [`Store::backup`] |
#![cfg_attr(feature = "tower", doc = "| serve HTTP or gRPC | [`http`] |")]
#![cfg_attr(not(feature = "tower"), doc = "| serve HTTP or gRPC | the feature `tower` |")]
#![cfg_attr(feature = "typed", doc = "| store results as typed values | [`typed`] |")]
#![cfg_attr(
    not(feature = "typed"),
    doc = "| store results as typed values | the feature `typed` |"
)]
#![cfg_attr(
    feature = "transaction",
    doc = "| write your own data in the same transaction | [`Permit::complete_with`] |"
)]
#![cfg_attr(
    not(feature = "transaction"),
    doc = "| write your own data in the same transaction | the feature `transaction` |"
)]
//!
//! The [guide](crate::guide) has a chapter for each kind of program. Only one process at a time can
//! have a store open. Within it, share the [`Store`]: clones are cheap.
//!
//! # The states of a key
//!
#![doc = include_str!("../docs/state-machine.svg")]

// The foundation.
mod canary;
mod clock;
mod error;
mod key;
mod limits;
mod observe;
mod sync;
// What a program calls. It's declared first, so that the documentation of a type starts with these
// calls.
mod store;
// The implementation.
mod handle;
#[cfg(feature = "tower")]
pub mod http;
mod local;
mod rules;
mod run;
#[doc(hidden)]
pub mod sim;
#[cfg(feature = "typed")]
pub mod typed;
// Documentation and tests.
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
