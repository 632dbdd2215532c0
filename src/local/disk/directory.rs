//! A directory in the file system.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::kept::Kept;
use super::names::{self, Identity, Names};
use super::{Disk, DiskFile};
use crate::error::is_full;
use crate::sync::{Arc, LeafMutex};
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file whose lock is the lock of the directory. Its mode is 0600, so that no other user can
/// hold it.
pub(crate) const LOCK: &str = "lock";

/// The contents of the lock file once there is a store.
const SIGNATURE: &[u8] = b"This directory is a store of idemstore. Copy and move it as a whole.\n";

/// How often to retry a lock that another process holds.
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// A directory in the file system, and its open files.
///
/// It belongs to the process that opened it: a forked child shares its descriptors, and must not
/// write through them.
pub struct Directory {
    path: PathBuf,
    process: u32,
    entered: Option<Names>,
    locked: Option<File>,
    /// `None` before the directory is locked.
    kept: Option<Arc<Kept>>,
    /// Until when to wait for locks.
    deadline: Option<Instant>,
    /// Whether there was no lock file before. It is then removed again if no store is created.
    made_lock: bool,
    signed: LeafMutex<bool>,
    /// The file that was opened under each name.
    opened: LeafMutex<BTreeMap<String, Opened>>,
}

/// An open file.
struct Opened {
    identity: Identity,
    /// Whether it's a file of the store, and not one that is still being created.
    is_named: Arc<AtomicBool>,
}

impl Directory {
    /// The directory at `path`, which isn't accessed yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            process: std::process::id(),
            entered: None,
            locked: None,
            kept: None,
            deadline: None,
            made_lock: false,
            signed: LeafMutex::default(),
            opened: LeafMutex::default(),
        }
    }

    fn entered(&self) -> io::Result<&Names> {
        self.entered.as_ref().ok_or_else(|| io::Error::other("the directory was not entered"))
    }

    /// The names, for a call that changes them.
    fn own(&self) -> io::Result<&Names> {
        check_process(self.process)?;
        self.entered()
    }

    /// Creates the directory and its missing parents. Each name is durable before the next
    /// directory is created in it, so that a kill leaves at most one name that isn't durable.
    fn make(&self) -> io::Result<()> {
        let with_parents = self.path.ancestors().zip(self.path.ancestors().skip(1));
        let missing: Vec<_> = with_parents.take_while(|(path, _)| !path.exists()).collect();
        if let Some((_, there)) = missing.last() {
            sync_name(&Names::of(nonempty(there))?)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        for (path, parent) in missing.into_iter().rev() {
            // Open the parent first: a user who may not open it couldn't make the new name durable.
            let parent = Names::of(nonempty(parent))?;
            match builder.create(path) {
                // Someone else has created it in the meantime.
                Err(_) if path.is_dir() => {}
                made => made?,
            }
            parent.sync()?;
        }
        Ok(())
    }

    /// Opens the lock file, and creates it if it is missing.
    fn lock_file(&mut self) -> io::Result<File> {
        let names = self.entered()?;
        loop {
            match names.open(LOCK) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
            match names.create(LOCK) {
                // Someone else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Ok(file) => {
                    self.made_lock = true;
                    return Ok(file);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Locks an open file, and returns it as a file of the store.
    fn take(&self, name: &str, file: File, is_named: bool) -> io::Result<Arc<dyn DiskFile>> {
        wait_for_lock(&file, self.deadline)?;
        let is_named = Arc::new(AtomicBool::new(is_named));
        let kept = self.kept.as_ref().map(Arc::downgrade).unwrap_or_default();
        let opened = Opened { identity: names::identity(&file)?, is_named: Arc::clone(&is_named) };
        self.opened.lock().insert(name.to_owned(), opened);
        Ok(Arc::new(RealFile { file, process: self.process, kept, is_named }))
    }
}

/// The parent of a relative path with one component is the empty path.
fn nonempty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Makes the name of an existing directory durable: a kill may have come after its creation and
/// before its sync.
fn sync_name(names: &Names) -> io::Result<()> {
    match names.parent() {
        // Then another user created it, one who may list its parent.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        parent => parent?.sync(),
    }
}

fn wait_for_lock(file: &File, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        // `None` is a deadline that is never reached.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        std::thread::sleep(LOCK_EVERY);
    }
}

/// A forked child has its parent's descriptors, and would write to the parent's files.
fn check_process(process: u32) -> io::Result<()> {
    if std::process::id() == process {
        Ok(())
    } else {
        Err(io::Error::other("another process has opened this store"))
    }
}

fn moved(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what} was removed, moved or replaced"))
}

impl Disk for Directory {
    fn enter(&mut self, make: bool) -> io::Result<()> {
        if self.path.as_os_str().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is empty"));
        }
        self.entered = Some(match Names::of(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                self.make()?;
                Names::of(&self.path)?
            }
            entered => entered?,
        });
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.entered()?.list()
    }

    fn lock(&mut self, wait: Duration) -> io::Result<bool> {
        self.deadline = Instant::now().checked_add(wait);
        let file = loop {
            let file = self.lock_file()?;
            wait_for_lock(&file, self.deadline)?;
            // The open that held the lock before may have removed the file from the directory.
            match self.entered()?.identity(LOCK) {
                Ok(identity) if identity == names::identity(&file)? => break file,
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        };
        let opened = Opened { identity: names::identity(&file)?, is_named: Arc::default() };
        self.opened.lock().insert(LOCK.to_owned(), opened);
        let mut signature = Vec::new();
        (&file).take(1 + SIGNATURE.len() as u64).read_to_end(&mut signature)?;
        // The reserve follows the signature, after zeros.
        while signature.pop_if(|last| *last == 0).is_some() {}
        // All zeros: a power cut came before the signature was durable. A part of the signature
        // comes from an unfinished copy of a store, so it counts as signed.
        let signed = signature.iter().any(|byte| *byte != 0);
        if signed && !SIGNATURE.starts_with(&signature) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the lock of a store"));
        }
        if !signed && names::is_shared(&file)? {
            // Signing it would write into a file that has another name elsewhere.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the lock has another name"));
        }
        *self.signed.lock() = signed;
        self.kept = Some(Arc::new(Kept::of(&file)?));
        self.locked = Some(file);
        Ok(signed)
    }

    fn sign(&self) -> io::Result<()> {
        check_process(self.process)?;
        let mut signed = self.signed.lock();
        if let (false, Some(file)) = (*signed, self.locked.as_ref()) {
            write_at(file, 0, SIGNATURE)?;
            file.sync_data()?;
            self.entered()?.sync()?;
            *signed = true;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        let names = self.own()?;
        if names.is_removed()? {
            return Err(moved("the directory"));
        }
        for (name, opened) in &*self.opened.lock() {
            match names.identity(name) {
                Ok(found) if found == opened.identity => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return Err(moved(&format!("`{name}`"))),
            }
        }
        Ok(())
    }

    fn is_exposed(&self) -> bool {
        const OTHERS: u32 = 0o007;
        const OTHERS_WRITE: u32 = 0o002;
        let Ok(names) = self.entered() else { return false };
        let has = |mode: io::Result<u32>, bits| mode.is_ok_and(|mode| mode & bits != 0);
        has(names.mode(), OTHERS_WRITE)
            || self.opened.lock().keys().any(|name| has(names.mode_of(name), OTHERS))
    }

    fn keep(&self, bytes: u64) -> io::Result<()> {
        check_process(self.process)?;
        self.kept.as_ref().map_or(Ok(()), |kept| kept.keep(bytes))
    }

    fn kept(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.bytes())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.take(name, self.own()?.open(name)?, true)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.remove(name)?;
        self.take(name, self.own()?.create(name)?, false)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.own()?.rename(from, to)?;
        let mut opened = self.opened.lock();
        if let Some(file) = opened.remove(from) {
            file.is_named.store(true, Ordering::Release);
            opened.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.opened.lock().remove(name);
        match self.own()?.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        let names = self.own()?;
        names.sync()?;
        sync_name(names)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // An open that is refused leaves the directory as it was.
        if self.made_lock && self.locked.is_some() && !*self.signed.lock() {
            let _ = self.remove(LOCK);
        }
    }
}

/// Doesn't reveal the path.
impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

struct RealFile {
    file: File,
    process: u32,
    /// Weak: a file that outlives the directory must not keep the directory locked.
    kept: Weak<Kept>,
    is_named: Arc<AtomicBool>,
}

impl RealFile {
    /// Whether to retry a failed write, since the reserve has made room for it on the disk.
    fn makes_room(&self, error: &io::Error, bytes: usize) -> bool {
        let may_take = is_full(error) && self.is_named.load(Ordering::Acquire);
        may_take && self.kept.upgrade().is_some_and(|kept| kept.give(bytes as u64))
    }
}

impl fmt::Debug for RealFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealFile").finish_non_exhaustive()
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_at(&self.file, offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_process(self.process)?;
        loop {
            match write_at(&self.file, offset, bytes) {
                Err(error) if self.makes_room(&error, bytes.len()) => {}
                written => return written,
            }
        }
    }

    fn write_if_room_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_process(self.process)?;
        write_at(&self.file, offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        check_process(self.process)?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        check_process(self.process)?;
        self.file.sync_data()?;
        if names::is_unlinked(&self.file)? { Err(moved("a file of the store")) } else { Ok(()) }
    }
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
pub(super) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
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
pub(super) fn write_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                bytes = bytes.split_at(written).1;
                offset += written as u64;
            }
        }
    }
    Ok(())
}
