//! All that the layer asks of a store.

use std::time::Duration;

use crate::error::{CompleteError, Error};
use crate::handle::{self, Begin, Completable, Door, Execution, Interrupted, Permit};
use crate::key::{Fingerprint, Key};
use crate::observe;
use crate::rules::effect::{Leaves, did_not_happen};
use crate::store::Store;

/// The store behind a layer.
#[derive(Clone)]
pub(super) struct Backing(Store);

impl Backing {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// Whether this is the same store.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }

    /// What the store says of a request, after waiting for an outcome if that is wanted.
    pub(super) async fn begin(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        wait: Option<Duration>,
    ) -> Result<Begin, Error> {
        let begin = self.0.begin_async(key, fingerprint).await?;
        let (Begin::InFlight(in_flight), Some(at_most)) = (&begin, wait) else {
            return Ok(begin);
        };
        let outcome = tokio::time::timeout(at_most, in_flight.clone().wait_async()).await;
        outcome.unwrap_or(Ok(begin))
    }
}

/// In the extensions of a request that runs: the store that has its key in hand, and that key. A
/// handler may send requests of its own with these extensions, which have other keys.
#[derive(Clone)]
pub(super) struct Within {
    pub(super) backing: Backing,
    pub(super) key: Key,
}

impl Within {
    /// Whether this is the request of that key in that store.
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
    pub(super) async fn start(self) -> Result<Execution, Error> {
        match self {
            Self::Fresh(permit) => permit.start_async().await,
            Self::Interrupted(interrupted) => interrupted.retry_async().await,
        }
    }
}

/// Ends an attempt that has not had its effect: its key is free, or interrupted as before.
pub(super) async fn leave(execution: Execution) -> Result<(), Error> {
    match did_not_happen(execution.attempt()) {
        Leaves::Free => execution.abandon_async().await,
        // Dropping the execution leaves it.
        Leaves::Interrupted => Ok(()),
    }
}

/// Stores the bytes of a response; or that there was one, if they are to be left out or too many.
/// Whether it has.
pub(super) async fn keep<H: Completable>(handle: H, bytes: &[u8], is_left_out: bool) -> bool {
    let is_stored = if is_left_out {
        keep_digest(handle, bytes).await
    } else {
        match handle::complete(Door::Future, handle, bytes).await {
            Ok(_) => true,
            Err(CompleteError::TooLarge { handle, .. }) => keep_digest(handle, bytes).await,
            Err(_) => false,
        }
    };
    if is_stored {
        observe::responded(observe::Response::Stored);
    }
    is_stored
}

async fn keep_digest<H: Completable>(handle: H, bytes: &[u8]) -> bool {
    handle::complete_digest(Door::Future, handle, bytes).await.is_ok()
}
