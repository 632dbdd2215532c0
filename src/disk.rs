//! The one seam between the store and the file system, under the log and the vault alike.
//!
//! It is public only so that the store's own tests can put a simulated disk below it. It is no
//! part of the API, and changes without notice.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sync::Arc;

/// One directory that holds one store.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes the directory if it is missing, and takes its exclusive lock until this is dropped.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if another holds the lock, `NotADirectory` if the path is something else.
    fn lock(&mut self) -> io::Result<()>;

    /// Opens a file for reading and writing, with an exclusive lock.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none, `WouldBlock` if another holds its lock.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a new, empty file and opens it as [`Disk::open`] does. What had the name is gone.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn sync_names(&self) -> io::Result<()>;
}

/// One file of the store.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads all of `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before, or as the file system says.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    ///
    /// As the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    ///
    /// As the file system says. What was written since the last sync is then unknown for ever.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    locked: Option<File>,
}

impl Directory {
    /// The directory at `path`, not yet looked at.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), locked: None }
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
    }

    /// Makes the directory and those above it. The name of each is durable before another is made
    /// in it, so that a kill leaves one at most that is not.
    fn make(&self) -> io::Result<()> {
        let with_parents = self.path.ancestors().zip(self.path.ancestors().skip(1));
        let missing: Vec<_> = with_parents.take_while(|(path, _)| !path.exists()).collect();
        if let Some((_, there)) = missing.last() {
            sync_name(there)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        for (path, parent) in missing.into_iter().rev() {
            // Opened first: whoever may not do that could not make the new name durable.
            let parent = open_directory(parent)?;
            match builder.create(path) {
                // Somebody else has made it meanwhile.
                Err(_) if path.is_dir() => {}
                made => made?,
            }
            sync_directory(parent)?;
        }
        Ok(())
    }
}

/// Only Unix lets a directory be opened and synced; elsewhere names are durable with their files.
fn open_directory(path: &Path) -> io::Result<Option<File>> {
    // A relative path of one part has the empty path as its parent.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    cfg!(unix).then(|| File::open(path)).transpose()
}

fn sync_directory(opened: Option<File>) -> io::Result<()> {
    opened.map_or(Ok(()), |directory| directory.sync_all())
}

/// Makes the name of a directory durable that was there before: a kill may have come between its
/// making and that.
fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent().map_or(Ok(None), open_directory) {
        // Then it was made by somebody else, who may list what is above it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => sync_directory(opened?),
    }
}

/// Whether both are of one file. Elsewhere than on Unix that cannot be told.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }
    #[cfg(not(unix))]
    {
        one.file_type() == other.file_type()
    }
}

/// How often a lock is asked for while another has it, and how long to wait in between. A process
/// that this one is just starting has all its locks, also those that it has let go of since, until it
/// runs its own program.
const LOCK_TRIES: u32 = 50;
const LOCK_EVERY: Duration = Duration::from_millis(10);

fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

impl Disk for Directory {
    fn lock(&mut self) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make()?,
            Err(error) => return Err(error),
        }
        if cfg!(unix) {
            let directory = File::open(&self.path)?;
            lock(&directory)?;
            self.locked = Some(directory);
        }
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        // Opening a FIFO would wait for ever, and a symbolic link leads out of the store.
        let looked_at = std::fs::symlink_metadata(&path)?;
        if !looked_at.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = Self::options().open(path)?;
        // Between the look and the open somebody may have put a link in its place.
        if !is_same(&looked_at, &file.metadata()?) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the file it was"));
        }
        lock(&file)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = Self::options().create_new(true).open(path)?;
        lock(&file)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_directory(open_directory(&self.path)?)?;
        sync_name(&self.path)
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, out, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.0, out, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    out = out.split_at_mut(read).1;
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    bytes = bytes.split_at(written).1;
                    offset += written as u64;
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
