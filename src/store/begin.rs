//! Beginning an operation, and closing a store.

use super::Store;
use crate::error::Error;
use crate::handle::{self, Begin};
use crate::key::{Fingerprint, Key};

impl Store {
    /// Asks what to do about a request: `key` names the operation, and `fingerprint` tells this
    /// request apart from any other with the same key.
    ///
    /// This call never stores anything. It answers from memory for a fresh key and for one in
    /// flight; for a key at rest, it reads the record.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let store = Store::in_memory()?;
    /// let key = Key::scoped("tenant-7", "order-1")?;
    /// let request = Fingerprint::of("2 apples");
    ///
    /// let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let execution = permit.start()?;
    /// assert!(matches!(store.begin(&key, request)?, Begin::InFlight(_)));
    /// execution.complete("receipt 17")?;
    /// assert!(matches!(store.begin(&key, request)?, Begin::Replay(_)));
    /// assert!(matches!(store.begin(&key, Fingerprint::of("3 pears"))?, Begin::Mismatch));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`Error`] except `OutcomeUnknown`. After an error, the operation must not run.
    pub fn begin(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        handle::begin(&self.engine, self.engine.index.locate(key), fingerprint)
    }

    /// [`Store::begin`] as a future. This engine answers at once; the future is for engines that
    /// are asked over a network.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`].
    #[expect(clippy::unused_async, reason = "other engines wait for their answer")]
    pub async fn begin_async(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        self.begin(key, fingerprint)
    }

    /// Closes the store for all clones and handles, and returns how many started operations still
    /// have a handle.
    ///
    /// Calls that are waiting for their fsync still get their answer; later calls fail with
    /// [`Error::Closed`]. A running execution is interrupted when the store is opened again. **The
    /// directory stays locked until the last [`Execution`](crate::Execution) of this store is
    /// dropped**: until then its effect may still be under way, so no caller may be told that it
    /// was interrupted. Closing a store twice isn't an error, and the second call returns 0.
    ///
    /// In a process that was forked from the one that opened the store, this does nothing.
    ///
    /// # Errors
    ///
    /// `Poisoned` if the log could not be settled, `OutcomeUnknown` if the vault's file could not
    /// be closed. Either way, everything that was acknowledged is safe in the log.
    pub fn close(self) -> Result<usize, Error> {
        self.engine.close()
    }
}
