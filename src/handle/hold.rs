//! What every handle is made of: the exclusive hold on one key.

use crate::error::Error;
use crate::key::Key;
use crate::record::{Change, ChangeKind, Record};
use crate::store::Shared;
use crate::sync::Arc;

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

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A step in the life of the key, on its way into the journal.
    pub(crate) fn change(&self, kind: ChangeKind) -> Change {
        Change { hash: self.hash, kind }
    }

    /// Makes a record durable, and true for all.
    pub(crate) fn put(&self, record: &Arc<Record>) -> Result<(), Error> {
        self.shared.journal.append(self.change(ChangeKind::Put(Arc::clone(record))))
    }

    /// Makes it durable that nothing is stored of the key any more. It is free then, and no longer
    /// held.
    pub(crate) fn remove(self, record: &Arc<Record>) -> Result<(), Error> {
        let removed = self.change(ChangeKind::Remove(Arc::clone(record)));
        self.shared.journal.append(removed)?;
        self.has_ended();
        Ok(())
    }

    /// A durable change has put the key at rest: it is another's to hold now.
    pub(crate) fn has_ended(mut self) {
        self.held = false;
    }

    /// Leaves the execution to whoever finishes it by its key.
    pub(crate) fn detach(self) {
        self.shared.index.detach(&self.key, self.hash);
        self.has_ended();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.held {
            self.shared.index.let_go(&self.key, self.hash);
        }
    }
}
