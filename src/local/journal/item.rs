//! How a change is kept in the queue.

use super::reserve::Promise;
use crate::error::Error;
use crate::local::change::Change;
use crate::local::codec;
use crate::local::log::commit::{Place, Queued};
use crate::local::log::frame::{self, Put};
use crate::sync::Arc;

/// A change on its way into the log. It's encoded only when it is written, so that until then its
/// record is the only copy of its bytes.
pub(crate) struct Item {
    pub(super) change: Change,
    /// Length of the encoded change.
    encoded_len: usize,
    claim: Claim,
    /// Held by a start until it is durable.
    pub(super) promise: Option<Promise>,
}

/// What a change is entitled to.
#[derive(Clone)]
pub(crate) enum Claim {
    /// A start uses its scope's share of the queue, and is refused if that is full.
    Start,
    /// A change that ends an operation, or a checkpoint, is always accepted. A long one already has
    /// its place.
    End { _place: Option<Arc<Place>> },
}

/// A change that is submitted.
pub(crate) type Submission = (Change, Claim);

impl Item {
    /// Creates the item. A start is promised room on the disk.
    pub(super) fn new(
        (change, claim): Submission,
        promise: impl FnOnce(&[u8]) -> Result<Promise, Error>,
    ) -> Result<Self, Error> {
        let encoded_len = codec::change_len(&change.kind)
            .expect("every length in a change was checked against `limits` before");
        let promise = match claim {
            Claim::Start => Some(promise(change.kind.record().key.scope())?),
            Claim::End { .. } => None,
        };
        Ok(Self { change, encoded_len, claim, promise })
    }

    /// Bytes that it takes up in a frame.
    pub(super) fn len(&self) -> usize {
        frame::change_len(self.encoded_len)
    }
}

impl Queued for Item {
    fn len(&self) -> usize {
        self.len()
    }

    fn starts_in(&self) -> Option<&[u8]> {
        match self.claim {
            Claim::Start => Some(self.change.kind.record().key.scope()),
            Claim::End { .. } => None,
        }
    }
}

impl Put for &Item {
    fn put(self, out: &mut Vec<u8>) {
        codec::encode_change_into(&self.change.kind, out).expect("a change whose length was told");
    }
}
