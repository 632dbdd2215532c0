//! The store: what a program calls.

// rustdoc lists the calls of `Store` in this order.
mod builder;

mod begin;

mod by_key;

mod batch;
mod inspect;
mod stats;
#[cfg(feature = "transaction")]
mod transact;
mod upkeep;

use std::fmt;

use crate::local::Engine;
use crate::sync::Arc;
pub use builder::Builder;
pub use inspect::{KeyInfo, Keys};
pub use stats::Stats;

/// A store that is open for reading and writing. Clones are cheap and share it.
///
/// [`Store::close`] closes the store, and so does dropping the last clone and the last handle.
///
/// ```
/// use idemstore::{Begin, Fingerprint, Key, Store};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let store = Store::open(path)?;
/// let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
///
/// let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
/// let execution = permit.start()?;
/// // Here the effect happens.
/// execution.complete("receipt 17")?;
///
/// let Begin::Replay(completed) = store.begin(&key, request)? else { panic!("it is done") };
/// assert_eq!(completed.result(), b"receipt 17");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

impl Store {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Returns whether both are clones of the same store.
    #[cfg(feature = "tower")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.engine, &other.engine)
    }

    #[cfg(test)]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
