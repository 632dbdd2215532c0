//! What opening a store finds on the disk, before it writes anything.

use super::{latest, reserve};
use crate::clock::{Stamp, Time};
use crate::error::OpenError;
use crate::limits::CHANGE_OVERHEAD_MAX;
use crate::local::disk::Disk;
use crate::local::files::VAULT;
use crate::local::helper::Helper;
use crate::local::index::{Hash, Index, Loading};
use crate::local::log::{Log, Recovered};
use crate::local::room::{Bounds, Stage};
use crate::local::vault::{Meta, Vault};
use crate::observe::Work;
use crate::rules::record::Record;
use crate::sync::Arc;

/// All parts of a journal, as found on the disk. Nothing has been written yet.
pub(crate) struct Found {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) vault: Vault,
    pub(super) log: Log,
    pub(super) meta: Meta,
    pub(super) index: Index,
    pub(super) helper: Arc<Helper>,
    pub(super) recovered: Recovered,
    pub(super) work: Work,
}

/// Reads the log and the vault, and loads the live table from both.
pub(crate) fn find(
    disk: Arc<dyn Disk>,
    cache: usize,
    hash_mask: u64,
    bounds: impl FnOnce(u64) -> Result<Bounds, OpenError>,
) -> Result<Found, OpenError> {
    let work = Work::open();
    let (vault, mut meta) = Vault::open(&*disk, cache)?;
    let (log, recovered) = Log::open(&*disk, &meta.secrets.key, meta.settled)?;
    // redb selects its last commit by one bit that no checksum covers, and the commit before it is
    // intact too. If that bit rots, what a lost settle had moved out of the log leaves a gap there.
    // A lost transaction was never in the log, so it left a mark there instead.
    if meta.next_serial < recovered.given_out {
        let detail = "a transaction is missing".to_owned();
        return Err(OpenError::Corrupt { file: VAULT, detail });
    }
    let serials = recovered.changes.iter().map(|(id, _)| id.serial + 1);
    meta.next_serial = serials.max().unwrap_or(0).max(meta.next_serial);
    meta.stamp = meta.stamp.max(recovered.stamp);
    // One past the last frame: see `Log::open`.
    meta.settled = recovered.last + 1;
    let helper = Arc::<Helper>::default();
    let hash = Hash::new(&meta.secrets.hash_key, hash_mask);
    let bounds = bounds(log.bytes_max())?;
    let empty = Index::with_capacity(vault.records()?, hash, bounds, Arc::clone(&helper));
    let mut loading = Loading::new(empty);
    let mut keeps = recovered.places().any(|(_, record)| record.is_some_and(|it| it.keep));
    vault.scan(|id, row| {
        keeps |= row.keep;
        loading.add(row.framed_key, id, row.stage);
    })?;
    // This version's sweep would delete them.
    if keeps {
        let detail = "it has records that need a later version of idemstore".to_owned();
        return Err(OpenError::Corrupt { file: VAULT, detail });
    }
    let index = loading.finish();
    for (id, record) in latest(recovered.places()) {
        // A record that the vault doesn't have was not loaded.
        if record.is_none_or(|record| index.has(index.locate(&record.key).hash, id)) {
            vault.with_row(id, |row| index.remove_at_rest(row.framed_key, id, row.stage))?;
        }
        if let Some(record) = record {
            index.put_at_rest(record);
        }
    }
    index.skip_serials_to(meta.next_serial);
    Ok(Found { disk, vault, log, meta, index, helper, recovered, work })
}

impl Found {
    /// The longest result that the store takes.
    pub(crate) fn result_len_max(&self) -> usize {
        self.index.room().result_len_max()
    }

    /// The last stamp that the store has written.
    pub(crate) fn stamp(&self) -> Stamp {
        self.meta.stamp
    }

    /// The limit on the log's length that the store was created with.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        self.log.bytes_max()
    }

    /// Brings the vault up to date with the log. So every open writes the vault, and finds out at
    /// once if it cannot.
    pub(super) fn settle(&mut self, time: &Time) -> Result<(), OpenError> {
        self.meta.stamp = time.stamp();
        let (needed, kept) = (self.needed(), self.disk.kept());
        if kept < needed {
            // On a full disk, the reserve of an earlier run may do.
            let _ = self.disk.keep(needed);
        }
        let settled = self
            .vault
            .let_through()
            .and_then(|()| self.vault.settle(latest(self.recovered.places()), &self.meta));
        settled.map_err(|source| {
            let error = OpenError::Storage { file: VAULT, source };
            error.needing(needed.saturating_sub(kept))
        })
    }

    /// Bytes that may be written to the disk before everything in the log, and everything that
    /// started operations may still store, is settled.
    fn needed(&self) -> u64 {
        let bytes = |record: &Record| {
            let result_len = match Stage::of(record) {
                Stage::Completed(len) => len,
                Stage::Reserved | Stage::Started => 0,
            };
            CHANGE_OVERHEAD_MAX as u64 + result_len
        };
        let unsettled = self.recovered.places().filter_map(|(_, record)| record.map(bytes)).sum();
        let room = self.index.room();
        reserve::needed(0, unsettled, room.started(), room.result_len_max())
    }
}
