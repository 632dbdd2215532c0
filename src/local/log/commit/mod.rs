//! Group commit: callers that wait at the same time share one fsync.
//!
//! A caller that finds no leader becomes the leader: it takes the first batch, writes it and makes
//! it durable, while the next batch fills. So a lone caller doesn't pay for a hand-over to another
//! thread. When its batch is done, the leader passes the lead to a caller of the next batch
//! *before* it wakes the callers of its own, so that the disk is never idle while threads wake up.
//! Batches are written in the order in which they were filled, and each is finished separately, so
//! no caller starves.
//!
//! A future cannot lead. A batch for which no caller blocks is led by the
//! [helper](crate::local::helper).

mod pending;
mod places;
mod starts;
mod turn;

use std::collections::VecDeque;
use std::mem;

use crate::canary;
use crate::error::{Error, StorageError};
use crate::limits::BATCH_ITEMS_MAX;
use crate::local::helper::Helper;
use crate::sync::{Arc, Condvar, Mutex};
pub(crate) use pending::Pending;
pub(crate) use places::arrival;
pub(crate) use places::{Place, Places, wait};
use starts::Starts;
use turn::Turn;

pub(crate) struct GroupCommit<T> {
    /// Most bytes of a batch with more than one item.
    batch_bytes_max: usize,
    queue: Mutex<Queue<T>>,
    /// Signalled when there is no leader any longer, and when the helper is called.
    idle: Condvar,
    helper: Arc<Helper>,
}

struct Queue<T> {
    batches: VecDeque<Batch<T>>,
    /// The starts in the queue.
    starts: Starts,
    lead: Lead,
    /// Why nothing is accepted any longer.
    refusal: Option<Error>,
}

/// The state of the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Nobody,
    /// A caller of the first batch, or the helper, is about to lead.
    Due,
    /// A leader is writing a batch, and will then pass the lead on.
    Writing,
}

/// An item that can be queued.
pub(crate) trait Queued {
    /// Bytes that it takes up in its batch.
    fn len(&self) -> usize;

    /// The scope of a start, which uses its scope's share of the queue. `None` for an item that is
    /// always accepted, since it ends what was started.
    fn starts_in(&self) -> Option<&[u8]>;
}

struct Batch<T> {
    items: Vec<T>,
    bytes: usize,
    turn: Arc<Turn>,
    /// Whether a caller blocks until the batch is done, and so can lead it.
    blocks: bool,
}

impl<T: Queued> GroupCommit<T> {
    pub(crate) fn new(batch_bytes_max: usize, starts_max: usize, helper: Arc<Helper>) -> Self {
        let queue = Queue {
            batches: VecDeque::new(),
            starts: Starts::new(starts_max),
            lead: Lead::Nobody,
            refusal: None,
        };
        Self { batch_bytes_max, queue: Mutex::new(queue), idle: Condvar::new(), helper }
    }

    /// Returns once the item is durable. `write` makes a whole batch durable. The leader calls it
    /// for all callers, so they must all pass the same function.
    ///
    /// # Errors
    ///
    /// `Overloaded`, `Closed` and `Poisoned` if the item was not written, `OutcomeUnknown` if
    /// writing it failed.
    pub(crate) fn submit(
        &self,
        item: T,
        write: impl Fn(Vec<T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        let turn = self.enqueue(&mut queue, item, true)?;
        let lead = queue.claim_lead();
        drop(queue);
        self.follow(&turn, lead, write)
    }

    /// Submits items that wait together, and returns once each is durable or refused. They are
    /// adjacent in the queue, so that they share as few batches as they fit in.
    ///
    /// # Errors
    ///
    /// For each item, as [`GroupCommit::submit`].
    pub(crate) fn submit_many(
        &self,
        items: Vec<Result<T, Error>>,
        write: impl Fn(Vec<T>) -> Result<(), Error>,
    ) -> Vec<Result<(), Error>> {
        let mut queue = self.queue.lock();
        let turns: Vec<_> =
            items.into_iter().map(|item| self.enqueue(&mut queue, item?, true)).collect();
        let mut lead = turns.iter().any(Result::is_ok) && queue.claim_lead();
        drop(queue);
        // In the order of the batches: each batch's leader passes the lead on to the next.
        turns
            .into_iter()
            .map(|turn| turn.and_then(|turn| self.follow(&turn, mem::take(&mut lead), &write)))
            .collect()
    }

    /// Submits an item for a caller that doesn't block.
    pub(crate) fn hand_in(&self, item: T) -> Pending {
        let mut queue = self.queue.lock();
        let pending = self.enqueue_pending(&mut queue, item);
        self.call_to_lead(&mut queue);
        pending
    }

    /// Submits items for callers that don't block. They are adjacent in the queue, as with
    /// [`GroupCommit::submit_many`].
    pub(crate) fn hand_in_many(&self, items: Vec<Result<T, Error>>) -> Vec<Pending> {
        let mut queue = self.queue.lock();
        let pending = items
            .into_iter()
            .map(|item| match item {
                Ok(item) => self.enqueue_pending(&mut queue, item),
                Err(refused) => Pending::refused(refused),
            })
            .collect();
        self.call_to_lead(&mut queue);
        pending
    }

    fn enqueue_pending(&self, queue: &mut Queue<T>, item: T) -> Pending {
        match self.enqueue(queue, item, false) {
            Ok(turn) => Pending::new(turn),
            Err(refused) => Pending::refused(refused),
        }
    }

    /// Makes the helper lead what was queued, if there is no leader.
    fn call_to_lead(&self, queue: &mut Queue<T>) {
        if !queue.batches.is_empty() && queue.claim_lead() {
            self.call_helper();
        }
    }

    /// Leaves the next batch to the helper, or to the thread that is closing the store.
    fn call_helper(&self) {
        self.helper.call();
        self.idle.notify_all();
    }

    /// Waits for the outcome of a batch, and leads when it's this caller's turn.
    fn follow(
        &self,
        turn: &Turn,
        mut lead: bool,
        write: impl Fn(Vec<T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            if lead {
                self.lead(&write);
            }
            match turn.wait() {
                None => lead = true,
                Some(outcome) => return outcome,
            }
        }
    }

    fn enqueue(&self, queue: &mut Queue<T>, item: T, blocks: bool) -> Result<Arc<Turn>, Error> {
        if let Some(refusal) = &queue.refusal {
            return Err(refusal.clone());
        }
        let bytes = item.len();
        if let Some(scope) = item.starts_in() {
            queue.starts.take(scope, bytes).map_err(|bound| Error::Overloaded { bound })?;
        }
        let last = queue.batches.back_mut();
        Ok(if let Some(batch) = last.filter(|batch| batch.has_room(bytes, self.batch_bytes_max)) {
            batch.push(item, bytes, blocks)
        } else {
            let mut batch =
                Batch { items: Vec::new(), bytes: 0, turn: Arc::default(), blocks: false };
            let turn = batch.push(item, bytes, blocks);
            queue.batches.push_back(batch);
            turn
        })
    }

    /// Writes the first batch, and passes the lead on.
    pub(crate) fn lead(&self, write: impl Fn(Vec<T>) -> Result<(), Error>) {
        let Some(batch) = self.take_first() else { return };
        let unwinding = PoisonIfPanicking { commit: self, turn: &batch.turn };
        if canary::sings("answers before the write") {
            batch.turn.finish(Ok(()));
        }
        let written = write(batch.items);
        mem::forget(unwinding);
        match written {
            Ok(()) => {
                self.pass_lead();
                batch.turn.finish(Ok(()));
                batch.turn.announce();
            }
            Err(error) => self.fail(&batch.turn, error),
        }
    }

    fn take_first(&self) -> Option<Batch<T>> {
        let mut queue = self.queue.lock();
        let batch = queue.batches.pop_front();
        if let Some(batch) = &batch {
            assert_eq!(queue.lead, Lead::Due, "one leads at a time");
            queue.lead = Lead::Writing;
            queue.starts.leave(&batch.items);
        }
        batch
    }

    fn pass_lead(&self) {
        let mut queue = self.queue.lock();
        if let Some(next) = queue.batches.front() {
            if !canary::sings("forgets to pass the lead") {
                self.hand_lead(next);
            }
            queue.lead = Lead::Due;
        } else {
            self.retire(&mut queue);
        }
    }

    fn hand_lead(&self, batch: &Batch<T>) {
        if !batch.blocks {
            return self.call_helper();
        }
        batch.turn.hand_lead();
    }

    fn retire(&self, queue: &mut Queue<T>) {
        queue.lead = Lead::Nobody;
        self.idle.notify_all();
    }

    /// Finishes a batch with this error. The batches behind it were never written, whatever is
    /// known of this one.
    fn fail(&self, turn: &Turn, error: Error) {
        self.refuse(&match &error {
            Error::OutcomeUnknown(source) => Error::Poisoned(source.clone()),
            error => error.clone(),
        });
        turn.finish(Err(error));
        self.pass_lead();
        turn.announce();
    }

    /// Accepts nothing more, and finishes every unwritten batch with the same error. The first
    /// reason stays, except that a failure replaces a close.
    ///
    /// The caller may hold locks.
    pub(crate) fn refuse(&self, reason: &Error) {
        let mut queue = self.queue.lock();
        if queue.refusal.is_none() || matches!(reason, Error::Poisoned(_)) {
            queue.refusal = Some(reason.clone());
        }
        for batch in mem::take(&mut queue.batches) {
            queue.starts.leave(&batch.items);
            batch.turn.finish(Err(reason.clone()));
            if batch.turn.has_listeners() {
                self.helper.send(Box::new(move || batch.turn.announce()));
            }
        }
        // A caller that was about to lead will find nothing to write.
        if queue.lead == Lead::Due {
            self.retire(&mut queue);
        }
    }

    /// Accepts nothing more, and returns once everything accepted is written. It leads instead of
    /// the helper, which may be the thread that is closing the store.
    pub(crate) fn close(&self, write: impl Fn(Vec<T>) -> Result<(), Error>) {
        let mut queue = self.queue.lock();
        queue.refusal.get_or_insert(Error::Closed);
        while queue.lead != Lead::Nobody {
            if self.helper.take_call() {
                drop(queue);
                self.lead(&write);
                queue = self.queue.lock();
                continue;
            }
            self.idle.wait(&mut queue);
        }
    }
}

impl<T> Queue<T> {
    /// Makes the caller, which has just queued an item, the leader if there is none. Returns
    /// whether it did.
    fn claim_lead(&mut self) -> bool {
        let claimed = self.lead == Lead::Nobody;
        if claimed {
            self.lead = Lead::Due;
        }
        claimed
    }
}

impl<T> Batch<T> {
    fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.items.len() < BATCH_ITEMS_MAX && self.bytes + bytes <= bytes_max
    }

    fn push(&mut self, item: T, bytes: usize, blocks: bool) -> Arc<Turn> {
        self.items.push(item);
        self.bytes += bytes;
        self.blocks |= blocks;
        Arc::clone(&self.turn)
    }
}

/// If a leader panics, the others must not wait for ever.
struct PoisonIfPanicking<'a, T: Queued> {
    commit: &'a GroupCommit<T>,
    turn: &'a Turn,
}

impl<T: Queued> Drop for PoisonIfPanicking<'_, T> {
    fn drop(&mut self) {
        let error = Error::OutcomeUnknown(StorageError::new(WriterPanicked));
        self.commit.fail(self.turn, error);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the thread that was writing has panicked")]
pub(crate) struct WriterPanicked;
