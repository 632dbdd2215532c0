//! The contents of a file: as reads see them, and as they are after a power cut.

use std::ops::Range;
use std::sync::Arc;

use super::bytes::{Bytes, PAGE};
use super::cut::{Cut, Fate};
use super::fault::{Cache, FailedSync};

/// The unit that a disk writes atomically.
const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub struct Content {
    /// What a read sees.
    live: Bytes,
    /// The contents at the last sync.
    durable: Bytes,
    /// The operations since then.
    pending: Vec<Pending>,
    /// Whether a write marks whole pages dirty, including what a failed sync has left in them.
    whole_pages: bool,
}

#[derive(Clone)]
struct Pending {
    /// The number of the operation.
    number: u64,
    change: Change,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

impl Content {
    /// All of it durable.
    pub fn durable(bytes: Bytes) -> Self {
        Self { live: bytes.clone(), durable: bytes, ..Self::default() }
    }

    pub fn live(&self) -> &Bytes {
        &self.live
    }

    pub fn write(&mut self, number: u64, at: usize, bytes: &[u8]) {
        self.live.write(at, bytes);
        let change = if self.whole_pages {
            let from = at / PAGE * PAGE;
            let to = (at + bytes.len()).next_multiple_of(PAGE).min(self.live.len());
            let mut pages = vec![0; to - from];
            assert!(self.live.read(from, &mut pages), "it has just been written");
            Change::Write { at: from, bytes: pages.into() }
        } else {
            Change::Write { at, bytes: bytes.into() }
        };
        self.pending.push(Pending { number, change });
    }

    pub fn set_len(&mut self, number: u64, len: usize) {
        self.live.set_len(len);
        self.pending.push(Pending { number, change: Change::SetLen(len) });
    }

    /// Makes everything since the last sync durable. A length is durable with the next successful
    /// sync, whatever happened to the bytes.
    pub fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            pending.change.apply(&mut self.durable);
        }
        self.durable.set_len(self.live.len());
    }

    /// A sync that has failed: what it covered is marked clean, whether or not it reached the disk.
    pub fn fail_sync(&mut self, failed: FailedSync) {
        self.durable = self.after_cut(&mut Cut::each(&mut *failed.choices()));
        self.pending.clear();
        match failed.cache {
            Cache::Keeps => {}
            Cache::KeepsPages => self.whole_pages = true,
            Cache::Drops => {
                let len = self.live.len();
                self.live = self.durable.clone();
                self.live.set_len(len);
            }
            Cache::Reverts => self.live = self.durable.clone(),
        }
    }

    /// What a power cut leaves.
    pub fn after_cut(&self, cut: &mut Cut<'_>) -> Bytes {
        let mut bytes = self.durable.clone();
        for Pending { number, change } in &self.pending {
            match (cut.fate(*number), change) {
                (Fate::There, change) => change.apply(&mut bytes),
                (Fate::Lost, Change::SetLen(_)) => {}
                (Fate::Torn, Change::SetLen(len)) => {
                    if cut.choose(2) == 1 {
                        bytes.set_len(*len);
                    }
                }
                (Fate::Lost, Change::Write { at, bytes: written }) => {
                    cut.perhaps_grow(&mut bytes, at + written.len());
                }
                (Fate::Torn, Change::Write { at, bytes: written }) => {
                    cut.perhaps_grow(&mut bytes, at + written.len());
                    for sector in sectors(*at, written.len()) {
                        tear(&mut bytes, at + sector.start, &written[sector], cut);
                    }
                }
            }
        }
        bytes
    }

    /// The operations that were not synced.
    pub fn unsynced(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().map(|pending| pending.number)
    }

    /// The most outcomes that a power cut can have.
    pub fn ways(&self) -> u64 {
        let ways = |pending: &Pending| match &pending.change {
            Change::SetLen(_) => 3,
            Change::Write { at, bytes } => {
                let grows = 1 + u64::from(self.durable.len() < at + bytes.len());
                let torn = 1_u64.checked_shl(sectors(*at, bytes.len()).count() as u32);
                torn.unwrap_or(u64::MAX).saturating_mul(grows).saturating_add(grows + 1)
            }
        };
        self.pending.iter().map(ways).fold(1, u64::saturating_mul)
    }
}

impl Change {
    fn apply(&self, to: &mut Bytes) {
        match self {
            Self::Write { at, bytes } => to.write(*at, bytes),
            Self::SetLen(len) => to.set_len(*len),
        }
    }
}

/// The parts of a write that are in one sector each.
fn sectors(at: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let to = len.min(((at + from) / SECTOR + 1) * SECTOR - at);
        let sector = from..to;
        from = to;
        (!sector.is_empty()).then_some(sector)
    })
}

/// What survives of one sector that was being written.
fn tear(to: &mut Bytes, at: usize, new: &[u8], cut: &mut Cut<'_>) {
    // redb's own header is entirely in the first page, and redb relies on the medium for it.
    let beyond = cut.beyond && PAGE <= at;
    match cut.choose(if beyond { 5 } else { 2 }) {
        0 => {}
        1 => to.write(at, new),
        2 => to.write(at, &new[..cut.choose(new.len() as u64) as usize]),
        3 => to.write(at, &vec![0; new.len()]),
        _ => {
            let garbage: Vec<_> = new.iter().map(|_| cut.choose(256) as u8).collect();
            to.write(at, &garbage);
        }
    }
}
