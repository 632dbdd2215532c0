//! What every handle is made of: the exclusive hold on one key.

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

/// A key that this handle alone has in hand. Dropping it lets go of the key, and what is durable
/// decides then: nothing of it is stored, so it is free; or an execution has started, so it is
/// interrupted.
pub(crate) struct Hold {
    engine: Arc<Engine>,
    at: Located,
    held: bool,
    /// The change of the key that a future has sent last, if it has not seen the outcome.
    sent: Option<Box<Sent>>,
}

/// A change that is on its way while its future may be dropped.
struct Sent {
    pending: Pending,
    leaves: Left,
}

/// What a change leaves of the hold once it is durable and its future was dropped.
pub(crate) enum Left {
    /// Nothing: the key is at rest.
    Rest,
    /// An execution that its holder has dropped: it is interrupted.
    Interrupted,
    /// An execution that has not run: the key of this record is freed.
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

    /// Whether this is a copy in a forked child. The key is held in the parent, and a lock may be held
    /// by a thread that the child does not have.
    fn is_elsewhere(&self) -> bool {
        self.engine.journal.check_process().is_err()
    }

    /// A step in the life of the key, on its way into the journal.
    pub(crate) fn change(&self, kind: ChangeKind) -> Change {
        Change { hash: self.at.hash, kind }
    }

    /// The change after which nothing is stored of the key. It ends something, so it is never refused
    /// for what others have in the queue.
    pub(crate) fn removal(&self, record: Arc<Record>) -> Submission {
        (self.change(ChangeKind::Remove(record)), Claim::End { _place: None })
    }

    /// A durable change has put the key at rest: it is another's to hold now.
    pub(crate) fn has_ended(mut self) {
        self.held = false;
    }

    /// Left the execution to be finished by its key.
    pub(crate) fn detach(self) {
        if self.is_elsewhere() {
            return;
        }
        self.engine.index.detach(self.at.by_ref());
        self.has_ended();
    }

    /// Makes a change of the key durable, and blocks meanwhile.
    pub(super) fn append(&self, change: Submission) -> Result<(), Error> {
        self.engine.journal.append(change)
    }

    /// Makes a change of the key durable, also if nobody waits for it any more.
    pub(super) async fn send(&mut self, change: Submission, leaves: Left) -> Result<(), Error> {
        self.submit(change, leaves);
        self.arrival().await
    }

    /// Hands a change of the key in. [`Hold::arrival`] waits for it.
    pub(super) fn submit(&mut self, change: Submission, leaves: Left) {
        let pending = self.engine.journal.submit(change);
        self.has_sent(pending, leaves);
    }

    /// A change of the key was handed in.
    pub(super) fn has_sent(&mut self, pending: Pending, leaves: Left) {
        // One that was sent before arrives before.
        self.sent = Some(Box::new(Sent { pending, leaves }));
    }

    /// Waits for what was sent, and says whether it is durable.
    pub(super) async fn arrival(&mut self) -> Result<(), Error> {
        let outcome = match &mut self.sent {
            Some(sent) => (&mut sent.pending).await,
            None => Ok(()),
        };
        self.sent = None;
        outcome
    }

    /// Lets go of the key when the change that is on its way has arrived: before that, it would
    /// find the key with nobody who holds it, or with somebody else who does.
    fn let_go_after(&self, Sent { pending, leaves }: Sent) {
        let mut left = Self::new(Arc::clone(&self.engine), self.at.clone());
        pending.then(move |outcome| match (outcome, leaves) {
            (Ok(()), Left::Rest) => left.has_ended(),
            // If it is refused, the key is let go, and so interrupted.
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
