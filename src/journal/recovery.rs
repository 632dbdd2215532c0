//! What an open finds on the disk, before anything is written.

use super::latest;
use crate::clock::{Stamp, Time};
use crate::disk::Disk;
use crate::error::{OpenError, StorageError};
use crate::index::{Hash, Index, Loading};
use crate::log::{Log, Recovered};
use crate::observe::Work;
use crate::steward::Steward;
use crate::sync::Arc;
use crate::vault::{Meta, Vault};

/// All that a journal is made of, as it was found on the disk. Nothing has been written yet.
pub(crate) struct Found {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) vault: Vault,
    pub(super) log: Log,
    pub(super) meta: Meta,
    pub(super) index: Index,
    pub(super) steward: Arc<Steward>,
    pub(super) recovered: Recovered,
    pub(super) work: Work,
}

/// Looks at log and vault, and loads the live table from both.
pub(crate) fn find(disk: Arc<dyn Disk>, cache: usize, hash_mask: u64) -> Result<Found, OpenError> {
    let work = Work::open();
    let (vault, mut meta) = Vault::open(&*disk, cache)?;
    let (log, recovered) = Log::open(&*disk, &meta.secrets.key, meta.settled)?;
    // redb names its last commit with one bit that no checksum covers, and the commit before it is
    // whole as well. What a settle has moved out of the log would leave a gap there. A transaction
    // was never in it, so that it left a mark.
    if meta.next_serial < recovered.given_out {
        let detail = "a transaction is missing".to_owned();
        return Err(OpenError::Corrupt { file: crate::vault::NAME, detail });
    }
    let serials = recovered.changes.iter().map(|(id, _)| id.serial + 1);
    meta.next_serial = serials.max().unwrap_or(0).max(meta.next_serial);
    meta.stamp = meta.stamp.max(recovered.stamp);
    // One past the last: see `Log::open`.
    meta.settled = recovered.last + 1;
    let steward = Arc::<Steward>::default();
    let hash = Hash::new(&meta.secrets.hash_key, hash_mask);
    let empty = Index::with_capacity(vault.records()?, hash, Arc::clone(&steward));
    let mut loading = Loading::new(empty);
    let mut keeps = recovered.places().any(|(_, record)| record.is_some_and(|it| it.keep));
    vault.scan(|id, row| {
        keeps |= row.keep;
        loading.add(row.framed_key, id, row.started);
    })?;
    // A sweep of this version would not keep them.
    if keeps {
        let detail = "it has records that only a later version keeps".to_owned();
        return Err(OpenError::Corrupt { file: crate::vault::NAME, detail });
    }
    let index = loading.finish();
    for (id, record) in latest(recovered.places()) {
        match record {
            Some(record) => index.put_at_rest(record),
            // What the vault does not have was not loaded.
            None => vault.with_key(id, |key| index.remove_at_rest(key, id))?,
        }
    }
    index.skip_serials_to(meta.next_serial);
    Ok(Found { disk, vault, log, meta, index, steward, recovered, work })
}

impl Found {
    /// What the store has written last.
    pub(crate) fn stamp(&self) -> Stamp {
        self.meta.stamp
    }

    /// The most bytes of the log, as the store was made with.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        self.log.bytes_max()
    }

    /// Makes the vault have all that the log has. So every open writes the vault, and finds out at
    /// once if it cannot.
    pub(super) fn settle(&mut self, time: &Time) -> Result<(), StorageError> {
        self.meta.stamp = time.stamp();
        self.vault.let_through()?;
        self.vault.settle(latest(self.recovered.places()), &self.meta)
    }
}
