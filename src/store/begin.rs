//! The question that begins an operation, and the end of a store.

use super::Store;
use crate::error::Error;
use crate::handle::{self, Begin};
use crate::key::{Fingerprint, Key};

impl Store {
    /// Asks what to do about a request: `key` names the operation, and `fingerprint` tells this
    /// request from any other of the same key.
    ///
    /// Nothing is stored by this call, whatever the answer. A fresh key and one in flight are
    /// answered from memory; for one at rest its record is read.
    ///
    /// # Errors
    ///
    /// Any of [`Error`] but `OutcomeUnknown`. The operation must not run then.
    pub fn begin(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        handle::begin(&self.engine, self.engine.index.locate(key), fingerprint)
    }

    /// [`Store::begin`] as a future. This engine answers at once: a future that waits for an answer
    /// is for stores that are asked over a network.
    ///
    /// # Errors
    ///
    /// As [`Store::begin`].
    #[expect(clippy::unused_async, reason = "other engines wait for their answer")]
    pub async fn begin_async(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begin, Error> {
        self.begin(key, fingerprint)
    }

    /// Closes the store for all clones and handles, and says how many started operations still have a
    /// handle.
    ///
    /// Calls that are waiting for their fsync get their answer; later calls get
    /// [`Error::Closed`]. An execution that is under way is interrupted when the store is opened
    /// again. **The directory stays locked until the last [`Execution`](crate::Execution) of this store is dropped**:
    /// until then its effect may be at work, and nobody is to be told that it was interrupted.
    /// Closing twice is no error, and the second time says 0.
    ///
    /// In a process that was forked from the one that opened the store this does nothing.
    ///
    /// # Errors
    ///
    /// `Poisoned` if the log could not be settled, `OutcomeUnknown` if the vault's file could not
    /// be closed. What was acknowledged is safe in the log either way.
    pub fn close(self) -> Result<usize, Error> {
        self.engine.close()
    }
}
