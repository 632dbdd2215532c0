//! Looking after a store: what the background thread does by itself, and what it does not.

use std::path::Path;
use std::time::Duration;

use super::Stats;
use super::Store;
use crate::error::{CopyError, Error};
use crate::local::disk::{Directory, Disk};
use crate::local::files;

impl Store {
    /// Deletes one bounded slice of expired records, and says how many those were; 0 when none is
    /// left.
    ///
    /// The background thread does this by itself. Whether a key has expired does not depend on
    /// it: an expired record that is not deleted yet counts for nothing.
    ///
    /// # Errors
    ///
    /// Any of [`Error`] but `Overloaded`.
    #[doc(alias = "evict")]
    pub fn sweep(&self) -> Result<usize, Error> {
        self.engine.journal.sweep_some()
    }

    /// Moves everything that the log holds into the vault.
    ///
    /// The background thread does this by itself, and so does a call that finds the log full.
    ///
    /// # Errors
    ///
    /// Any of [`Error`] but `Overloaded`.
    #[doc(alias = "flush")]
    #[doc(alias = "checkpoint")]
    pub fn settle(&self) -> Result<(), Error> {
        self.engine.journal.settle()
    }

    /// What the store holds now, and what it has done since it was opened.
    ///
    /// It walks the live table, shard by shard: some milliseconds for a million keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.engine)
    }

    /// Writes a copy of the store into a directory, which is made if it is not there, while the
    /// store goes on. All that was acknowledged before this call is in it.
    ///
    /// The copy is a whole store, with the caller's own tables in it, and redb has read it once to
    /// check it. What was in flight is interrupted in it. **A backup that is put back does not
    /// know what has happened since**: operations of that time look as if they had never run.
    ///
    /// Most of the copying runs beside other calls. During its last phase, writes continue until the log is
    /// full.
    ///
    /// The copy is a store of its own: no file of it fits into this store, nor the other way round.
    /// A backup that fails leaves nothing behind but the directory. What a kill leaves is refused by an
    /// open, and replaced by the next backup into this directory.
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
            // What cannot be removed is refused by an open.
            let _ = files::remove_copy(&disk);
        }
        copied
    }

    /// Makes the vault's file as small as it can be, and says by how many bytes it has shrunk.
    ///
    /// redb uses free room in its file again, so this is only of use after many records or large
    /// results have gone for good. A copy is made smaller and then takes the place of the file, so
    /// that takes as much room again while it runs, and a failure or a kill leaves the one or the
    /// other. Replays go on meanwhile; writes go on for as long as the log has room.
    ///
    /// # Errors
    ///
    /// [`CopyError`].
    #[doc(alias = "vacuum")]
    pub fn compact(&self) -> Result<u64, CopyError> {
        self.engine.journal.compact()
    }
}
