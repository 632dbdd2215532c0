//! A settle that includes the caller's own writes.

use std::cell::RefCell;
use std::mem;

use super::{Journal, PoisonIfPanicking};
use crate::error::{Error, TransactionError};
use crate::local::change::Change;
use crate::local::codec;
use crate::local::vault::{Transaction, Uncommitted};
use crate::observe::Work;
use crate::sync::thread_local;

impl Journal {
    /// Commits what `own` writes, the change that it returns, and everything in the log, in one
    /// transaction of the vault, or none of it.
    ///
    /// Each transaction takes a serial number. So the vault has given out that number exactly if
    /// the transaction, or a later commit, is in the vault. A mark in the log records the number.
    pub(crate) fn transact<T, E>(
        &self,
        scope: &[u8],
        own: impl FnOnce(&Transaction<'_>) -> Result<(T, Option<Change>), TransactionError<E>>,
    ) -> Result<T, TransactionError<E>> {
        self.check_caller()?;
        let _promise = self.promise(scope)?;
        let mut settled = self.settling.lock();
        self.check()?;
        self.check_place().map_err(|error| self.poisoned(error))?;
        let mark = codec::encode_mark(self.index.take_serial()?).expect("a number has an encoding");
        self.seal_all(&mut settled).map_err(|error| self.poisoned(error))?;
        let sealed = self.sealed.lock().clone();
        let last = sealed.as_ref().map_or(settled.last, |sealed| sealed.last);
        let work = Work::settle(sealed.as_ref().map_or(0, |sealed| sealed.changes.len()));
        let inside = Inside::enter(self);
        let committed = self.vault.settle_with(
            sealed.iter().flat_map(|sealed| sealed.places()),
            || self.meta(last),
            own,
            |(_, change)| change.as_ref().map(|change| &change.kind),
            |error| self.poison(error),
        );
        drop(inside);
        let (value, change) = committed.map_err(|uncommitted| match uncommitted {
            Uncommitted::Caller(error) => error,
            Uncommitted::Reserved => TransactionError::ReservedTable,
            Uncommitted::Unfinished => TransactionError::Unfinished,
            Uncommitted::Failed(error) => TransactionError::Store(Error::Poisoned(error)),
            Uncommitted::Unknown(error) => TransactionError::Store(Error::OutcomeUnknown(error)),
        })?;
        work.settled();
        if let Some(sealed) = sealed {
            self.free_sealed(&mut settled, &sealed);
        }
        // Before any caller can see what was committed.
        self.mark(mark);
        if let Some(change) = change {
            self.index.apply(&change);
            self.index.settled(change.hash, change.kind.record());
        }
        Ok(value)
    }

    /// Writes a mark into the log. If that fails, the transaction is durable all the same, and its
    /// caller gets its result, but the contents of the log are no longer known.
    fn mark(&self, mark: Vec<u8>) {
        let Some(tail) = &mut *self.tail.lock() else { return };
        // Nothing is written to a log that has failed.
        if matches!(self.check(), Err(Error::Poisoned(_))) {
            return;
        }
        let unwinding = PoisonIfPanicking(self);
        if let Err(error) = tail.log.mark(self.time.stamp(), mark) {
            self.poison(&error.into());
        }
        mem::forget(unwinding);
    }

    /// Checks that the caller may call: in the process that opened the store, and not from within
    /// one of the store's transactions, where the call would wait for itself.
    pub(crate) fn check_caller(&self) -> Result<(), Error> {
        self.check_process()?;
        let is_inside = INSIDE.with(|inside| inside.borrow().contains(&self.address()));
        if is_inside { Err(Error::InTransaction) } else { Ok(()) }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

thread_local! {
    /// The journals whose transactions are running on this thread, innermost last.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

struct Inside;

impl Inside {
    fn enter(journal: &Journal) -> Self {
        INSIDE.with(|inside| inside.borrow_mut().push(journal.address()));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.borrow_mut().pop());
    }
}
