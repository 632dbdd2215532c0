//! Everything that the layer asks of a store.

use std::time::Duration;

use super::permit::StartError;
use crate::error::{CompleteError, Error};
use crate::handle::{self, Begin, Completable, Door, Execution, Interrupted, Permit};
use crate::key::{Fingerprint, Key};
use crate::observe;
use crate::rules::effect::{Leaves, did_not_happen};
use crate::store::Store;

/// The store behind a layer.
#[derive(Clone)]
pub(super) struct Backing {
    store: Store,
    pub(super) limit: Limit,
}

impl Backing {
    pub(super) fn new(store: Store) -> Self {
        Self { store, limit: Limit(None) }
    }

    /// Whether this is the same store.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.store.is(&other.store)
    }

    /// What the store answers to a request. Waits for the outcome of a key in flight, if `wait` is
    /// set.
    pub(super) async fn begin(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        wait: Option<Duration>,
    ) -> Result<Begin, Error> {
        let begin = self.store.begin_async(key, fingerprint).await?;
        let (Begin::InFlight(in_flight), Some(at_most)) = (&begin, wait) else {
            return Ok(begin);
        };
        let outcome = tokio::time::timeout(at_most, in_flight.clone().wait_async()).await;
        outcome.unwrap_or(Ok(begin))
    }
}

/// How long the store may take to make something durable.
#[derive(Clone, Copy)]
pub(super) struct Limit(pub(super) Option<Duration>);

impl Limit {
    /// The output of a call; `None` if the call takes longer than the limit. It then continues in a
    /// separate task, which passes its output to `late`.
    async fn within<T: Send + 'static, L: Future<Output = ()> + Send + 'static>(
        self,
        call: impl Future<Output = T> + Send + 'static,
        late: impl FnOnce(T) -> L + Send + 'static,
    ) -> Option<T> {
        let Some(at_most) = self.0 else { return Some(call.await) };
        let mut call = Box::pin(call);
        let in_time = tokio::time::timeout(at_most, &mut call).await;
        if in_time.is_err() {
            tokio::spawn(async move { late(call.await).await });
        }
        in_time.ok()
    }
}

/// In the extensions of a request that runs: the store that holds its key, and the key. A handler
/// may send requests of its own with these extensions, under other keys.
#[derive(Clone)]
pub(super) struct Within {
    pub(super) backing: Backing,
    pub(super) key: Key,
}

impl Within {
    /// Whether this is the request with this key in this store.
    pub(super) fn is(&self, backing: &Backing, name: &[u8]) -> bool {
        self.backing.is(backing) && self.key.as_bytes() == name
    }
}

/// An operation that may be started: for the first time, or again after it was interrupted.
pub(super) enum Claim {
    Fresh(Permit),
    Interrupted(Interrupted),
}

impl Claim {
    /// Sets another retention. An interrupted operation keeps the one that is already stored.
    pub(super) fn with_retention(self, retention: Duration) -> Self {
        match self {
            Self::Fresh(permit) => Self::Fresh(permit.with_retention(retention)),
            interrupted @ Self::Interrupted(_) => interrupted,
        }
    }

    /// Starts the operation. A start that misses the limit counts as not run.
    pub(super) async fn start(self, limit: Limit) -> Result<Execution, StartError> {
        let start = async {
            match self {
                Self::Fresh(permit) => permit.start_async().await,
                Self::Interrupted(interrupted) => interrupted.retry_async().await,
            }
        };
        let started = limit.within(start, |late| async {
            if let Ok(execution) = late {
                // No caller is left to report a failure to. The key is then interrupted.
                let _ = leave_now(execution).await;
            }
        });
        Ok(started.await.ok_or(StartError::Timeout)??)
    }
}

/// Ends an attempt that had no effect: its key becomes free, or interrupted as before. Returns
/// whether that succeeded.
pub(super) async fn leave(execution: Execution, limit: Limit) -> bool {
    limit.within(leave_now(execution), |_| async {}).await.is_some_and(|left| left.is_ok())
}

async fn leave_now(execution: Execution) -> Result<(), Error> {
    match did_not_happen(execution.attempt()) {
        Leaves::Free => execution.abandon_async().await,
        // Dropping the execution leaves the key interrupted.
        Leaves::Interrupted => Ok(()),
    }
}

/// Stores the bytes of a response, or only that there was one if they are too long or to be left
/// out. Returns whether it was stored.
pub(super) async fn keep<H>(handle: H, bytes: Vec<u8>, is_left_out: bool, limit: Limit) -> bool
where
    H: Completable + Send + 'static,
{
    let keep = async move {
        let is_stored = if is_left_out {
            keep_digest(handle, &bytes).await
        } else {
            match handle::complete(Door::Future, handle, &bytes).await {
                Ok(_) => true,
                Err(CompleteError::TooLarge { handle, .. }) => keep_digest(handle, &bytes).await,
                Err(_) => false,
            }
        };
        if is_stored {
            observe::responded(observe::Response::Stored);
        }
        is_stored
    };
    limit.within(keep, |_| async {}).await.unwrap_or(false)
}

async fn keep_digest<H: Completable>(handle: H, bytes: &[u8]) -> bool {
    handle::complete_digest(Door::Future, handle, bytes).await.is_ok()
}
