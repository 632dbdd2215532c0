//! A disk with limited room.

use std::collections::BTreeSet;

const BLOCK: u64 = 4096;
/// The least that a write gets from the reserved room.
const GIVEN_MIN: u64 = 1 << 18;

/// The written blocks of files, if the disk is bounded.
#[derive(Clone, Default)]
pub(super) struct Room {
    /// `None` if there is no bound.
    capacity: Option<u64>,
    blocks: BTreeSet<(usize, u64)>,
    /// Bytes that are reserved for the store.
    pub(super) kept: u64,
}

impl Room {
    fn used(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK + self.kept
    }

    /// From now on there is room for this many bytes more than the files have.
    pub(super) fn bound(&mut self, free: u64, files: impl Iterator<Item = (usize, u64)>) {
        self.blocks = files
            .flat_map(|(file, len)| (0..len.div_ceil(BLOCK)).map(move |block| (file, block)))
            .collect();
        self.capacity = Some(self.used() + free);
    }

    /// Takes room for a write, including reserved room if the write may take that. Returns whether
    /// there was enough.
    pub(super) fn take(&mut self, file: usize, offset: u64, len: u64, may_take: bool) -> bool {
        let Some(capacity) = self.capacity else { return true };
        let range = offset / BLOCK..(offset + len).div_ceil(BLOCK);
        let new: Vec<_> =
            range.map(|block| (file, block)).filter(|block| !self.blocks.contains(block)).collect();
        let bytes = new.len() as u64 * BLOCK;
        while capacity < self.used() + bytes {
            if self.kept == 0 || !may_take {
                return false;
            }
            self.kept = self.kept.saturating_sub(bytes.max(GIVEN_MIN));
        }
        self.blocks.extend(new);
        true
    }

    /// The reserved room, on a disk without a bound.
    pub(super) fn kept_alone(&self) -> Self {
        Self { kept: self.kept, ..Self::default() }
    }

    /// Counts the reserved room as used, so that no write gets any of it.
    pub(super) fn put_aside(&mut self) -> u64 {
        self.capacity = self.capacity.map(|capacity| capacity - self.kept);
        std::mem::take(&mut self.kept)
    }

    pub(super) fn put_back(&mut self, kept: u64) {
        self.capacity = self.capacity.map(|capacity| capacity + kept);
        self.kept += kept;
    }

    /// A file has this length now.
    pub(super) fn cut(&mut self, file: usize, len: u64) {
        if self.capacity.is_some() {
            self.blocks.retain(|(of, block)| *of != file || *block < len.div_ceil(BLOCK));
        }
    }

    /// Reserves this many bytes for the store. Returns whether there was enough room.
    pub(super) fn keep(&mut self, bytes: u64) -> bool {
        let free = self.capacity.map(|capacity| capacity.saturating_sub(self.used()));
        let fits = free.is_none_or(|free| bytes <= self.kept + free);
        if fits {
            self.kept = bytes;
        }
        fits
    }
}
