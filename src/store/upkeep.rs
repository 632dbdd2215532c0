//! Maintaining a store: the work that the background thread does by itself, and the work it does
//! not do.

use std::path::Path;
use std::time::Duration;

use super::Stats;
use super::Store;
use crate::error::{CopyError, Error};
use crate::local::disk::{Directory, Disk};
use crate::local::files;

impl Store {
    /// Deletes one bounded slice of expired records, and returns how many it deleted; 0 when none
    /// is left.
    ///
    /// The background thread does this by itself. Whether a key has expired does not depend on
    /// sweeping: an expired record counts for nothing even before it's deleted.
    ///
    /// # Errors
    ///
    /// Any [`Error`] except `Overloaded`.
    #[doc(alias = "evict")]
    pub fn sweep(&self) -> Result<usize, Error> {
        self.engine.journal.sweep_some()
    }

    /// Moves everything in the log into the vault.
    ///
    /// The background thread does this by itself, and so does a call that finds the log full.
    ///
    /// # Errors
    ///
    /// Any [`Error`] except `Overloaded`.
    #[doc(alias = "flush")]
    #[doc(alias = "checkpoint")]
    pub fn settle(&self) -> Result<(), Error> {
        self.engine.journal.settle()
    }

    /// Returns what the store contains now, and what it has done since it was opened.
    ///
    /// This call walks the live table, shard by shard, which takes some milliseconds for a million
    /// keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.engine)
    }

    /// Writes a copy of the store into a directory while the store keeps working. The directory is
    /// created if it does not exist. The copy contains everything that was acknowledged before this
    /// call.
    ///
    /// The copy is a whole store, including the caller's own tables, and redb has read it once to
    /// check it. Operations that were in flight are interrupted in the copy. **A restored backup
    /// does not know what has happened since**: operations of that time look as if they had never
    /// run.
    ///
    /// Most of the copying runs beside other calls. During its last phase, writes continue until
    /// the log is full.
    ///
    /// The copy is a separate store: its files can't be exchanged with those of this store. A
    /// failed backup leaves nothing but the directory. The files left by a kill are refused by an
    /// open, and replaced by the next backup into this directory.
    ///
    /// ```
    /// # use idemstore::Store;
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::in_memory()?;
    /// let path = directory.path().join("backup");
    /// store.backup(&path)?;
    /// let restored = Store::builder().create(false).open(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CopyError`].
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), CopyError> {
        self.backup_disk(Directory::new(path.as_ref()))
    }

    /// Backs the store up on a disk.
    pub(crate) fn backup_disk(&self, mut disk: impl Disk) -> Result<(), CopyError> {
        self.engine.journal.check()?;
        disk.enter(true)?;
        files::check_room_for_copy(&disk)?;
        disk.lock(Duration::ZERO).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => CopyError::Exists,
            _ => CopyError::Io(error),
        })?;
        files::check_room_for_copy(&disk)?;
        files::remove_copy(&disk)?;
        let copied = self.engine.journal.backup(&disk).and_then(|()| Ok(disk.sign()?));
        if copied.is_err() {
            // An open refuses files that could not be removed.
            let _ = files::remove_copy(&disk);
        }
        copied
    }

    /// Makes the vault's file as small as possible, and returns by how many bytes it has shrunk.
    ///
    /// redb reuses free room in its file, so compacting helps only after many records or large
    /// results have gone for good. The file is replaced by a compacted copy, so this needs the room
    /// for a second file while it runs, and a failure or a kill leaves either the old file or the
    /// new one. Replays continue meanwhile, and writes continue for as long as the log has room.
    ///
    /// # Errors
    ///
    /// [`CopyError`].
    #[doc(alias = "vacuum")]
    pub fn compact(&self) -> Result<u64, CopyError> {
        self.engine.journal.compact()
    }
}
