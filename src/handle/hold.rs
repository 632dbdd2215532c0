//! What every handle contains: the exclusive hold on one key.

use crate::canary;
use crate::error::Error;
use crate::key::Key;
use crate::local::Engine;
use crate::local::change::{Change, ChangeKind};
use crate::local::index::Located;
use crate::local::journal::{Claim, Submission};
use crate::local::log::commit::Pending;
use crate::rules::record::Record;
use crate::sync::Arc;

/// A key that only this handle holds. Dropping it releases the key, and the durable state decides
/// what follows: if nothing is stored, the key is free; if an execution has started, the key is
/// interrupted.
pub(crate) struct Hold {
    engine: Arc<Engine>,
    at: Located,
    held: bool,
    /// The last change of the key that a future has sent without seeing its outcome.
    sent: Option<Box<Sent>>,
}

/// A change that is on its way although its future may be dropped.
struct Sent {
    pending: Pending,
    leaves: Left,
}

/// What a change leaves of the hold once the change is durable and its future was dropped.
pub(crate) enum Left {
    /// Nothing: the key is at rest.
    Rest,
    /// An execution that its holder has dropped, so it's interrupted.
    Interrupted,
    /// An execution that has not run, so the key of this record is freed.
    Free(Arc<Record>),
}

impl Hold {
    /// Takes over a key that the live table has just reserved for this caller.
    pub(crate) fn new(engine: Arc<Engine>, at: Located) -> Self {
        Self { engine, at, held: true, sent: None }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.at.key
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns whether this is a copy in a forked child. The key is then held in the parent, and a
    /// lock may be held by a thread that the child does not have.
    fn is_elsewhere(&self) -> bool {
        self.engine.journal.check_process().is_err()
    }

    /// Builds a change of the key for the journal.
    pub(crate) fn change(&self, kind: ChangeKind) -> Change {
        Change { hash: self.at.hash, kind }
    }

    /// Builds the change that removes the key's record. It ends an operation, so it's never refused
    /// because of other operations in the queue.
    pub(crate) fn removal(&self, record: Arc<Record>) -> Submission {
        (self.change(ChangeKind::Remove(record)), Claim::End { _place: None })
    }

    /// Marks the hold as ended: a durable change has put the key at rest, and another caller may
    /// hold it now.
    pub(crate) fn has_ended(mut self) {
        self.held = false;
    }

    /// Leaves the execution to be finished by its key.
    pub(crate) fn detach(self) {
        if self.is_elsewhere() {
            return;
        }
        self.engine.index.detach(self.at.by_ref());
        self.has_ended();
    }

    /// Makes a change of the key durable, and blocks until it is.
    pub(super) fn append(&self, change: Submission) -> Result<(), Error> {
        self.engine.journal.append(change)
    }

    /// Makes a change of the key durable, even if the future is dropped meanwhile.
    pub(super) async fn send(&mut self, change: Submission, leaves: Left) -> Result<(), Error> {
        self.submit(change, leaves);
        self.arrival().await
    }

    /// Submits a change of the key. [`Hold::arrival`] waits for it.
    pub(super) fn submit(&mut self, change: Submission, leaves: Left) {
        let pending = self.engine.journal.submit(change);
        self.has_sent(pending, leaves);
    }

    /// Records that a change of the key was submitted.
    pub(super) fn has_sent(&mut self, pending: Pending, leaves: Left) {
        // A change that was sent earlier also arrives earlier, so only the last is kept.
        self.sent = Some(Box::new(Sent { pending, leaves }));
    }

    /// Waits for the change that was sent, and returns whether it's durable.
    pub(super) async fn arrival(&mut self) -> Result<(), Error> {
        let outcome = match &mut self.sent {
            Some(sent) => (&mut sent.pending).await,
            None => Ok(()),
        };
        self.sent = None;
        outcome
    }

    /// Releases the key once the change on its way has arrived. If it were released earlier, the
    /// change would find the key without a holder, or with another one.
    fn let_go_after(&self, Sent { pending, leaves }: Sent) {
        let mut left = Self::new(Arc::clone(&self.engine), self.at.clone());
        pending.then(move |outcome| match (outcome, leaves) {
            (Ok(()), Left::Rest) => left.has_ended(),
            // If the removal is refused, the key is released, and so interrupted.
            (Ok(()), Left::Free(record)) => left.submit(left.removal(record), Left::Rest),
            (Ok(()), Left::Interrupted) | (Err(_), _) => {}
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.held || self.is_elsewhere() {
            return;
        }
        if let Some(sent) = self.sent.take()
            && !canary::sings("lets go of what is on its way")
        {
            return self.let_go_after(*sent);
        }
        self.engine.index.let_go(self.at.by_ref());
    }
}
