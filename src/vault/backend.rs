//! redb's view of a file of the store.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::StorageBackend;

use crate::canary;
use crate::disk::DiskFile;
use crate::sync::{Arc, LeafMutex};

/// The unit in which changes are noted.
const BLOCK_LEN: usize = 4096;

/// Locking is left to [`crate::disk::Disk`], which locks the directory and each file before redb
/// sees it, so that redb finds no lock to take.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    file: Arc<dyn DiskFile>,
    /// Blocks written since a copy of the file was begun; `None` while nobody copies.
    changed: Arc<LeafMutex<Option<BTreeSet<u64>>>>,
}

impl Backend {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, changed: Arc::default() }
    }

    /// Bytes of the file.
    pub(super) fn file_len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Begins to note which blocks change.
    pub(super) fn watch(&self) {
        *self.changed.lock() = Some(BTreeSet::new());
    }

    /// Ends noting, and gives out what has changed.
    pub(super) fn unwatch(&self) -> BTreeSet<u64> {
        self.changed.lock().take().unwrap_or_default()
    }

    fn note(&self, offset: u64, len: u64) {
        if let Some(changed) = &mut *self.changed.lock() {
            changed.extend(offset / BLOCK_LEN as u64..(offset + len).div_ceil(BLOCK_LEN as u64));
        }
    }

    /// Copies the file while it may change, a part at a time. What changes meanwhile is noted.
    pub(super) fn copy_all(&self, to: &dyn DiskFile) -> io::Result<()> {
        const PART_LEN: usize = 1024 * 1024;
        let mut part = vec![0; PART_LEN];
        let (mut offset, len) = (0, self.file.len()?);
        while offset < len {
            let step = usize::try_from(len - offset).unwrap_or(PART_LEN).min(PART_LEN);
            let part = part.get_mut(..step).unwrap_or_default();
            match self.file.read_at(offset, part) {
                Ok(()) => to.write_at(offset, part)?,
                // It has been cut meanwhile: what is there in the end is copied again.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.note(offset, len - offset);
                    break;
                }
                Err(error) => return Err(error),
            }
            offset += step as u64;
        }
        Ok(())
    }

    /// Copies these blocks once more, while nobody writes the file, and gives the copy its length.
    pub(super) fn copy_blocks(&self, blocks: &BTreeSet<u64>, to: &dyn DiskFile) -> io::Result<()> {
        let len = self.file.len()?;
        to.set_len(len)?;
        let mut block = [0; BLOCK_LEN];
        let offsets = blocks.iter().map(|block| block * BLOCK_LEN as u64);
        for offset in offsets.take_while(|offset| *offset < len) {
            let step = usize::try_from(len - offset).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
            let block = block.get_mut(..step).unwrap_or_default();
            self.file.read_at(offset, block)?;
            to.write_at(offset, block)?;
        }
        Ok(())
    }
}

/// Runs a call that redb makes, and makes an error of a panic in it. redb holds locks of its own
/// meanwhile; a panic would poison them, and redb panics again when it is dropped with such a lock,
/// which ends the process.
fn contained<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(io::Error::other("the file has panicked")))
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        contained(|| self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        contained(|| self.file.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        contained(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        if canary::sings("lies about the vault's fsync") {
            return Ok(());
        }
        contained(|| self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        contained(|| {
            // Noted before it is done: a copy that reads in between has the block noted.
            self.note(offset, data.len() as u64);
            let written = self.file.write_at(offset, data);
            // And after it: a copy that was begun in between has noted nothing before.
            self.note(offset, data.len() as u64);
            written
        })
    }
}
