//! A future that waits for an item to be written.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::turn::Turn;
use crate::error::Error;
use crate::local::wakers::Place;
use crate::sync::Arc;

/// An item that was submitted. As a future, it resolves to the outcome of the item's batch. The
/// item is written whether or not the future is awaited.
pub(crate) struct Pending {
    turn: Arc<Turn>,
    /// Where the turn keeps this future's waker, which is dropped when the batch ends at the
    /// latest.
    place: Option<Place>,
}

impl Pending {
    pub(super) fn new(turn: Arc<Turn>) -> Self {
        Self { turn, place: None }
    }

    /// An item that was refused.
    pub(crate) fn refused(error: Error) -> Self {
        let turn = Turn::default();
        turn.finish(Err(error));
        Self::new(Arc::new(turn))
    }

    /// Stops waiting, and leaves `done` to be called once the outcome is known.
    pub(crate) fn then(self, done: impl FnOnce(&Result<(), Error>) + Send + 'static) {
        self.turn.then(self.place, done);
    }
}

impl Future for Pending {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { turn, place } = self.get_mut();
        turn.poll(context.waker().clone(), place).map_or(Poll::Pending, Poll::Ready)
    }
}
