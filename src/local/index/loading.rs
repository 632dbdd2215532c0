//! How opening a store fills the live table.

use super::entry::Entry;
use super::{Index, SHARD_BITS};
use crate::local::change::RecordId;
use crate::local::room::Stage;

/// Entries of one shard that are inserted together.
const GATHERED: usize = 64;

/// The live table while the scan at open reads through the vault.
///
/// The entries are first gathered by shard, so that a shard's table is in the processor's cache for
/// many of them at once. Inserted one by one, in the order of the vault, each entry would wait for
/// main memory, and together they would take a third of the open.
pub(crate) struct Loading {
    index: Index,
    gathered: Vec<Vec<Entry>>,
    next_serial: u64,
}

impl Loading {
    /// Fills an index that was created with enough room for all entries.
    pub(crate) fn new(index: Index) -> Self {
        Self { index, gathered: vec![Vec::new(); 1 << SHARD_BITS], next_serial: 0 }
    }

    /// Adds a record of the vault.
    pub(crate) fn add(&mut self, framed_key: &[u8], id: RecordId, stage: Stage) {
        self.next_serial = self.next_serial.max(id.serial + 1);
        self.index.room.add(framed_key, stage);
        let hash = self.index.hash(framed_key);
        let at = Index::shard_at(hash);
        #[expect(clippy::indexing_slicing, reason = "there are as many as shards")]
        let gathered = &mut self.gathered[at];
        gathered.push(Entry::new(hash, id, stage == Stage::Started));
        if gathered.len() == GATHERED {
            self.index.insert_all(at, gathered.drain(..));
        }
    }

    /// The table with everything that was added.
    pub(crate) fn finish(self) -> Index {
        let Self { index, gathered, next_serial } = self;
        for (at, entries) in gathered.into_iter().enumerate().filter(|(_, some)| !some.is_empty()) {
            index.insert_all(at, entries);
        }
        index.skip_serials_to(next_serial);
        index
    }
}
