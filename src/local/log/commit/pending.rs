//! What a future waits for: an item on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::turn::Turn;
use crate::error::Error;
use crate::local::wakers::Place;
use crate::sync::Arc;

/// An item that was handed in. As a future it is the outcome of its batch; the item is written
/// whether anybody waits for that or not.
pub(crate) struct Pending {
    turn: Arc<Turn>,
    /// Where the turn keeps this one's waker, which ends with its batch at the latest.
    place: Option<Place>,
}

impl Pending {
    pub(super) fn new(turn: Arc<Turn>) -> Self {
        Self { turn, place: None }
    }

    /// An item that was not taken.
    pub(crate) fn refused(error: Error) -> Self {
        let turn = Turn::default();
        turn.finish(Err(error));
        Self::new(Arc::new(turn))
    }

    /// Waits no longer, and leaves word what is to be done when the outcome is known.
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
