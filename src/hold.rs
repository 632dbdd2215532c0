//! What every handle is made of: the exclusive hold on one key.

use crate::begin::Completed;
use crate::error::{CompleteError, Error};
use crate::key::Key;
use crate::record::{Change, ChangeKind, Record};
use crate::store::Shared;
use crate::sync::Arc;
use crate::transition;

/// A key that this handle alone has in hand. Dropping it lets go of the key, and what is durable
/// decides then: nothing of it is stored, so it is free; or an execution has started, so it is
/// interrupted.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    key: Key,
    hash: u64,
    held: bool,
}

impl Hold {
    /// Takes over a key that the live table has just reserved for this caller.
    pub(crate) fn new(shared: Arc<Shared>, key: Key, hash: u64) -> Self {
        Self { shared, key, hash, held: true }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Makes a record durable, and true for all.
    pub(crate) fn put(&self, record: Record) -> Result<Arc<Record>, Error> {
        let record = Arc::new(record);
        self.append(ChangeKind::Put(Arc::clone(&record)))?;
        Ok(record)
    }

    /// Makes it durable that the effect did not happen. The key is free then, and no longer held.
    pub(crate) fn remove(mut self, record: &Arc<Record>) -> Result<(), Error> {
        self.append(ChangeKind::Remove(Arc::clone(record)))?;
        self.held = false;
        Ok(())
    }

    /// Makes the result of a started record durable. The key is at rest then, and no longer held.
    /// A refused result leaves all as it was.
    pub(crate) fn complete(
        &mut self,
        started: Record,
        result: &[u8],
    ) -> Result<Completed, CompleteError<()>> {
        let max = self.shared.options.result_len_max;
        if max < result.len() {
            return Err(CompleteError::TooLarge { len: result.len(), max, handle: () });
        }
        let now = self.shared.time.now();
        match self.put(transition::complete(started, result.into(), now)) {
            Ok(record) => {
                self.held = false;
                Ok(Completed::new(record))
            }
            Err(Error::Overloaded { bound, max }) => {
                Err(CompleteError::Overloaded { bound, max, handle: () })
            }
            Err(error) => Err(CompleteError::Store(error)),
        }
    }

    /// Leaves the execution to whoever finishes it by its key.
    pub(crate) fn detach(mut self) {
        self.shared.index.detach(&self.key, self.hash);
        self.held = false;
    }

    fn append(&self, kind: ChangeKind) -> Result<(), Error> {
        self.shared.journal.append(Change { hash: self.hash, kind })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // After a finished change the key is another's to hold.
        if self.held {
            self.shared.index.let_go(&self.key, self.hash);
        }
    }
}
