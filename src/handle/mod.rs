//! The handles that `begin` returns. Each handle has the calls that are legal in its state, and the
//! call that finishes it consumes it, so a key can't be finished twice.
//!
//! A call that waits is written once and has two [doors](door); the change that it makes durable is
//! a [step](step). This file contains what the handles have in common.

mod begin;
mod completed;
mod door;
mod downstream;
mod execution;
mod hold;
mod in_flight;
mod interrupted;
mod permit;
mod step;

pub use begin::Begin;
pub(crate) use begin::begin;
pub use completed::{Completed, NotKept};
pub(crate) use door::{Door, block};
pub(crate) use downstream::Downstream;
pub use execution::Execution;
pub(crate) use hold::{Hold, Left};
pub use in_flight::InFlight;
pub use interrupted::Interrupted;
pub use permit::Permit;
pub(crate) use step::{Completion, Removal, Start, Step};

use std::fmt;

use crate::clock::Timestamp;
use crate::error::{CompleteError, Error};
use crate::key::Key;
use crate::local::log::commit::Place;
use crate::rules::record::{Digest, Record};
use crate::sync::Arc;
use sealed::Sealed;
use step::{Placing, fitting};

/// A handle whose operation can be completed: a [`Permit`], an [`Execution`] or an [`Interrupted`].
/// [`Store::complete_many`](crate::Store::complete_many) accepts any of them.
pub trait Completable: Sealed {}

impl Completable for Permit {}
impl Completable for Execution {}
impl Completable for Interrupted {}

/// A handle whose operation can be started: a [`Permit`], or an [`Interrupted`], whose operation is
/// then retried. [`Store::start_many`](crate::Store::start_many) accepts either.
pub trait Startable: Sealed {}

impl Startable for Permit {}
impl Startable for Interrupted {}

pub(crate) mod sealed {
    use super::{Arc, Error, Hold, Record};

    /// Prevents other crates from implementing a handle.
    #[expect(private_interfaces, reason = "the trait is sealed, so no other crate can name it")]
    pub trait Sealed: Sized {
        /// Whether the operation was started, so that its end is never refused because of other
        /// operations in the queue.
        #[doc(hidden)]
        const STARTED: bool;

        #[doc(hidden)]
        fn hold(&self) -> &Hold;

        #[doc(hidden)]
        fn hold_mut(&mut self) -> &mut Hold;

        #[doc(hidden)]
        fn into_hold(self) -> Hold;

        /// Returns the record of the running execution, or of the execution that would be started
        /// now.
        #[doc(hidden)]
        fn started(&self) -> Result<Arc<Record>, Error>;

        /// Returns the record that a completion replaces.
        #[doc(hidden)]
        fn completing(&self) -> Result<Arc<Record>, Error> {
            self.started()
        }
    }
}

/// Starts the operation of a handle, and returns once the start is durable.
pub(crate) async fn start<H: Startable>(door: Door, handle: H) -> Result<Execution, Error> {
    door.append(Start::new(handle)?).await
}

/// Stores a result, and returns once it is durable.
pub(crate) async fn complete<H: Completable>(
    door: Door,
    handle: H,
    result: impl AsRef<[u8]>,
) -> Result<Completed, CompleteError<H>> {
    let len = result.as_ref().len();
    let handle = fitting(handle, len)?;
    let place = place(&handle, len);
    let placing = Placing::new(handle, result);
    let placed = door.place(place).await;
    door.append(placing.placed(placed)?).await
}

/// Stores the length and digest of a result, and returns once they are durable.
pub(crate) async fn complete_digest<H: Completable>(
    door: Door,
    handle: H,
    result: impl AsRef<[u8]>,
) -> Result<NotKept, CompleteError<H>> {
    let digest = Digest::of(result.as_ref());
    door.append(Completion::new(handle, digest).map_err(CompleteError::refused)?).await
}

/// Removes the record of a key, and returns once the removal is durable. The key is then free and
/// no longer held.
pub(crate) async fn remove(door: Door, hold: Hold, record: Arc<Record>) -> Result<(), Error> {
    door.append(Removal::new(hold, record)).await
}

/// Returns a place for a result of this length, which the caller must wait for. An operation that
/// is completed without a start uses its scope's share of the queue instead.
fn place<H: Completable>(handle: &H, len: usize) -> Result<Option<Place>, Error> {
    if H::STARTED { handle.hold().engine().journal.place(len) } else { Ok(None) }
}

/// The facts of a record that several handles expose.
macro_rules! record_facts {
    ($($handle:ty),* $(,)?) => {$(
        impl $handle {
            /// Returns the key of the operation.
            #[must_use]
            pub fn key(&self) -> &Key {
                &self.record.key
            }

            /// Returns when the operation was first begun. Its retention is counted from this time,
            /// unless the operation was completed after its retention had ended.
            ///
            /// This is the store's own time: the wall clock's, as long as that is right. A stored
            /// time isn't changed when the clock is corrected later.
            #[must_use]
            pub fn begun_at(&self) -> Timestamp {
                self.record.begun_at
            }

            /// Returns when the retention ends. From this moment on the key is free, unless a
            /// caller holds it.
            #[must_use]
            pub fn expires_at(&self) -> Timestamp {
                self.record.expires_at
            }

            /// Returns which execution of the operation this is, counted from 1 since the key was
            /// last free. The count starts at 1 again after `abandon`, after `forget`, and when the
            /// retention ends, so two executions that were both intended can have the same key and
            /// attempt. [`begun_at`](Self::begun_at) distinguishes such lives of a key. To derive a
            /// key for another service, use [`Execution::downstream_key`].
            #[must_use]
            pub fn attempt(&self) -> u32 {
                self.record.attempt
            }
        }
    )*};
}

record_facts!(Execution, Interrupted, Completed, NotKept);

/// What the handles of a started operation have in common.
macro_rules! started_facts {
    ($($handle:ty),* $(,)?) => {$(
        impl $handle {
            /// Returns the last checkpoint that the operation has stored, in this attempt or an
            /// earlier one: see [`Execution::checkpoint`].
            #[must_use]
            pub fn last_checkpoint(&self) -> Option<&[u8]> {
                self.record.state.checkpoint()
            }

            /// Returns an idempotency key for a service that the operation calls: 64 hexadecimal
            /// digits, different for each label. It's the same in every attempt, in every copy of
            /// the store and after a backup is restored. It's derived by keyed BLAKE3 from scope,
            /// key, fingerprint and label, and reveals none of them.
            ///
            /// It's also the same for a second life of the key, after `abandon` or the end of the
            /// retention. If the other service is to treat that as another request, put
            /// [`begun_at`](Self::begun_at) into the label.
            ///
            /// ```
            /// # use idemstore::{Begin, Fingerprint, Key, Store};
            /// # let store = Store::in_memory()?;
            /// # let (key, request) = (Key::scoped("tenant-7", "order-1")?, Fingerprint::of("2"));
            /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("new") };
            /// let execution = permit.start()?;
            /// let charge = execution.downstream_key("charge");
            /// // bank.charge(.., idempotency_key: charge)
            /// # drop(execution);
            /// # let Begin::Interrupted(interrupted) = store.begin(&key, request)? else { panic!() };
            /// assert_eq!(interrupted.downstream_key("charge"), charge);
            /// assert_ne!(interrupted.downstream_key("refund"), charge);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[must_use]
            pub fn downstream_key(&self, label: &str) -> String {
                self.downstream().key(label)
            }

            pub(crate) fn downstream(&self) -> Downstream {
                let Record { key, fingerprint, .. } = &*self.record;
                Downstream::new(self.hold.engine().callee_secret(), key, fingerprint)
            }

            /// Frees the key: the effect did not happen, and the operation may be tried again.
            ///
            /// Returns once this is durable.
            ///
            /// # Errors
            ///
            /// Any [`Error`]. The operation is then interrupted; if the outcome is unknown, it may
            /// turn out to be free once the store is opened again.
            #[doc(alias = "abort")]
            pub fn abandon(self) -> Result<(), Error> {
                block(remove(Door::Blocking, self.hold, self.record))
            }

            /// `abandon` as a future. If it's dropped before it's ready, the key is freed anyway,
            /// unless the future was never polled: then the operation is interrupted.
            ///
            /// # Errors
            ///
            /// As `abandon`.
            pub async fn abandon_async(self) -> Result<(), Error> {
                remove(Door::Future, self.hold, self.record).await
            }
        }
    )*};
}

started_facts!(Execution, Interrupted);

/// No handle shows its key or its result.
macro_rules! opaque_debug {
    ($($handle:ty => $name:literal),* $(,)?) => {$(
        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )*};
}

opaque_debug!(
    Permit => "Permit",
    Execution => "Execution",
    Interrupted => "Interrupted",
    InFlight => "InFlight",
    Completed => "Completed",
    NotKept => "NotKept",
);
