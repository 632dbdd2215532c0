//! What the queue holds of a change.

use super::reserve::Promise;
use crate::error::Error;
use crate::local::change::Change;
use crate::local::codec;
use crate::local::log::commit::{Place, Queued};
use crate::local::log::frame::{self, Put};
use crate::sync::Arc;

/// A change on its way into the log. It is encoded when it is written: until then its record is the
/// one copy of its bytes.
pub(crate) struct Item {
    pub(super) change: Change,
    /// Bytes of the change once it is encoded.
    encoded_len: usize,
    claim: Claim,
    /// Until a start is durable.
    pub(super) promise: Option<Promise>,
}

/// What a change has a claim to.
#[derive(Clone)]
pub(crate) enum Claim {
    /// A start has its scope's share of the queue, and is refused if that is full.
    Start,
    /// What ends an operation, or is a checkpoint of it, is always taken: long bytes have their place
    /// already.
    End { _place: Option<Arc<Place>> },
}

/// A change that is handed in.
pub(crate) type Submission = (Change, Claim);

impl Item {
    /// The item; a start has room promised to it.
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

    /// Bytes that it takes in a frame.
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
