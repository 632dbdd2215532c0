//! What the fuzzer does with bytes, inside the crate: `fuzz/` calls it, and `cargo test` runs it
//! over the corpora there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what does not hold is a finding"
)]

mod codec;
mod frames;
#[cfg(test)]
mod tests;
#[cfg(feature = "typed")]
mod typed;

use crate::clock::Timestamp;
use crate::key::{Fingerprint, Key};
use crate::local::change::{ChangeKind, RecordId};
use crate::local::codec::{Logged, encode_change, encode_mark, encode_wall};
use crate::rules::record::{Digest, Kept, Record, State};
use crate::sync::Arc;

/// Rows, changes and typed results, from arbitrary bytes and from values made of them.
///
/// # Panics
///
/// If the codec breaks its promises.
pub fn codec(bytes: &[u8]) {
    records(bytes);
    #[cfg(feature = "typed")]
    typed(bytes);
}

/// The part of [`codec`] that decodes rows and changes. It allocates little more than it is given.
///
/// # Panics
///
/// If the codec breaks its promises.
pub fn records(bytes: &[u8]) {
    codec::run(bytes);
}

/// The part of [`codec`] that decodes typed results.
///
/// # Panics
///
/// If the codec breaks its promises.
#[cfg(feature = "typed")]
pub fn typed(bytes: &[u8]) {
    typed::run(bytes);
}

/// The log, from arbitrary bytes and from frames that are written and then damaged.
///
/// # Panics
///
/// If an acknowledged frame is lost silently, or one is found that was not written.
pub fn frames(bytes: &[u8]) {
    frames::run(bytes);
}

/// Decisions made from bytes. Once the bytes are used up, each decision is zero.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u64 {
        self.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A number below this one, which is at most 65,536.
    fn below(&mut self, end: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % end
    }

    /// This many bytes, or those that are left.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// This many bytes, even if fewer are left.
    fn filled(&mut self, len: usize) -> Vec<u8> {
        let mut filled = self.take(len.min(64)).to_vec();
        filled.resize(len, b'x');
        filled
    }

    fn time(&mut self) -> Timestamp {
        Timestamp::from_unix_ms(self.number())
    }

    fn id(&mut self) -> RecordId {
        RecordId { expires_at: self.time(), serial: self.number() }
    }

    fn key(&mut self) -> Key {
        let (scope, key) = (usize::from(self.byte()), usize::from(self.byte()).max(1));
        Key::scoped(self.filled(scope), self.filled(key)).expect("it is a key")
    }

    /// A record whose result or checkpoint has at most this many bytes.
    fn record(&mut self, len_max: usize) -> Record {
        let (algorithm, digest) = (self.byte(), [self.byte(); 32]);
        let RecordId { expires_at, serial } = self.id();
        Record {
            expires_at,
            serial,
            key: self.key(),
            fingerprint: Fingerprint::from_stored(algorithm, digest),
            begun_at: self.time(),
            attempt: u32::try_from(self.number() >> 32).unwrap_or_default(),
            keep: self.byte() & 1 == 1,
            note: if self.byte() & 1 == 1 { Some(self.filled(9).into()) } else { None },
            state: self.state(len_max),
        }
    }

    fn state(&mut self, len_max: usize) -> State {
        let kind = self.byte() % 4;
        let len = self.below(len_max + 1);
        match kind {
            0 => State::Started { checkpoint: None },
            1 => State::Started { checkpoint: Some(self.filled(len).into()) },
            2 => State::Completed {
                completed_at: self.time(),
                kept: Kept::Whole(self.filled(len).into()),
            },
            _ => State::Completed {
                completed_at: self.time(),
                kept: Kept::Digest(Digest { len: self.number(), blake3: [self.byte(); 32] }),
            },
        }
    }
}

/// The bytes of the change that puts this record, moved from another place, or that removes the
/// record at this place.
fn encoded(from: Option<RecordId>, id: RecordId, record: Option<&Record>) -> Vec<u8> {
    let change = if let Some(record) = record {
        let to = Arc::new(record.clone());
        from.map_or(ChangeKind::Put(Arc::clone(&to)), |from| ChangeKind::Move { from, to })
    } else {
        let RecordId { expires_at, serial } = id;
        let record = Record { expires_at, serial, ..Source(&[]).record(0) };
        ChangeKind::Remove(Arc::new(record))
    };
    encode_change(&change).expect("it is as long as the codec takes")
}

/// The bytes of what was read from the log.
fn encoded_logged(logged: Logged) -> Vec<u8> {
    match logged {
        Logged::Put { from, record } => encoded(from, RecordId::of(&record), Some(&record)),
        Logged::Remove(id) => encoded(None, id, None),
        Logged::Mark(serial) => encode_mark(serial).expect("it is short"),
        Logged::Wall(wall) => {
            let (bytes, len) = encode_wall(wall);
            bytes[..len].to_vec()
        }
    }
}
