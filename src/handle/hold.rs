//! What every handle is made of: the exclusive hold on one key.

#[cfg(feature = "async")]
use crate::canary;
use crate::error::Error;
use crate::journal::{Claim, Submission};
use crate::key::Key;
#[cfg(feature = "async")]
use crate::log::commit::Pending;
use crate::observe::{self, Made};
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
    /// The change of the key that a future has sent last, if it has not seen the outcome.
    #[cfg(feature = "async")]
    sent: Option<Box<Sent>>,
}

impl Hold {
    /// Takes over a key that the live table has just reserved for this caller.
    pub(crate) fn new(shared: Arc<Shared>, key: Key, hash: u64) -> Self {
        Self {
            shared,
            key,
            hash,
            held: true,
            #[cfg(feature = "async")]
            sent: None,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether this is a copy in a forked child. The key is held in the parent, and a lock may be held
    /// by a thread that the child does not have.
    fn is_elsewhere(&self) -> bool {
        self.shared.journal.check_process().is_err()
    }

    /// A step in the life of the key, on its way into the journal.
    pub(crate) fn change(&self, kind: ChangeKind) -> Change {
        Change { hash: self.hash, kind }
    }

    /// Makes it durable that nothing is stored of the key any more. It is free then, and no longer
    /// held.
    pub(crate) fn remove(self, record: &Arc<Record>) -> Result<(), Error> {
        let appended = self.shared.journal.append(self.removal(Arc::clone(record)));
        self.removed(appended)
    }

    /// The change after which nothing is stored of the key. It ends something, so it is never refused
    /// for what others have in the queue.
    pub(crate) fn removal(&self, record: Arc<Record>) -> Submission {
        (self.change(ChangeKind::Remove(record)), Claim::End { _place: None })
    }

    /// What becomes of the hold when its record was to be removed, as the journal says.
    pub(crate) fn removed(self, appended: Result<(), Error>) -> Result<(), Error> {
        observe::made(Made::Freed, appended.as_ref().err().map(|error| error as _));
        appended?;
        self.has_ended();
        Ok(())
    }

    /// A durable change has put the key at rest: it is another's to hold now.
    pub(crate) fn has_ended(mut self) {
        self.held = false;
    }

    /// Leaves the execution to whoever finishes it by its key.
    pub(crate) fn detach(self) {
        if self.is_elsewhere() {
            return;
        }
        self.shared.index.detach(&self.key, self.hash);
        self.has_ended();
    }
}

/// A change that is on its way while its future may be dropped.
#[cfg(feature = "async")]
struct Sent {
    pending: Pending,
    leaves: Leaves,
}

/// What a change leaves of the hold once it is durable and its future was dropped.
#[cfg(feature = "async")]
pub(crate) enum Leaves {
    /// Nothing: the key is at rest.
    Rest,
    /// An execution that its holder has dropped: it is interrupted.
    Execution,
    /// A first execution that nobody was told of, so that it has not run: the key is freed.
    Unrun(Arc<Record>),
}

#[cfg(feature = "async")]
impl Hold {
    /// Makes a change of the key durable, also if nobody waits for it any more.
    pub(crate) async fn append(&mut self, change: Submission, leaves: Leaves) -> Result<(), Error> {
        self.send(change, leaves);
        self.arrival().await
    }

    /// Hands a change of the key in. [`Hold::arrival`] waits for it.
    pub(crate) fn send(&mut self, change: Submission, leaves: Leaves) {
        let pending = self.shared.journal.submit(change);
        self.has_sent(pending, leaves);
    }

    /// A change of the key was handed in.
    pub(crate) fn has_sent(&mut self, pending: Pending, leaves: Leaves) {
        // One that was sent before arrives before.
        self.sent = Some(Box::new(Sent { pending, leaves }));
    }

    /// Waits for what was sent, and says whether it is durable.
    pub(crate) async fn arrival(&mut self) -> Result<(), Error> {
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
        let mut left = Self::new(Arc::clone(&self.shared), self.key.clone(), self.hash);
        pending.then(move |outcome| match (outcome, leaves) {
            (Ok(()), Leaves::Rest) => left.has_ended(),
            (Ok(()), Leaves::Unrun(record)) => {
                // If it is refused, the key is let go, and so interrupted.
                left.send(left.removal(record), Leaves::Rest);
            }
            (Ok(()), Leaves::Execution) | (Err(_), _) => {}
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.held || self.is_elsewhere() {
            return;
        }
        #[cfg(feature = "async")]
        if let Some(sent) = self.sent.take()
            && !canary::sings("lets go of what is on its way")
        {
            return self.let_go_after(*sent);
        }
        self.shared.index.let_go(&self.key, self.hash);
    }
}
