//! A directory of the file system.

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

/// The file whose lock is that of the directory. It has mode 0600, so that nobody else can hold it.
pub(crate) const LOCK: &str = "lock";

/// What the lock's file says once there is a store.
const SIGNATURE: &[u8] = b"This directory is a store of idemstore. Copy and move it as a whole.\n";

/// How often a lock is asked for while another has it.
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// A directory of the file system, and what of it is open.
///
/// It belongs to the process that has opened it: a child that was forked shares its descriptors,
/// and must not write through them.
pub struct Directory {
    path: PathBuf,
    process: u32,
    entered: Option<Names>,
    locked: Option<File>,
    /// `None` before the directory is locked.
    kept: Option<Arc<Kept>>,
    /// Until when locks are waited for.
    deadline: Option<Instant>,
    /// Whether there was no lock's file before, so that it goes again if no store comes of it.
    made_lock: bool,
    signed: LeafMutex<bool>,
    /// What was opened under each name.
    opened: LeafMutex<BTreeMap<String, Opened>>,
}

/// A file that is open.
struct Opened {
    identity: Identity,
    /// Whether it is a file of the store, and not one that is being made.
    is_named: Arc<AtomicBool>,
}

impl Directory {
    /// The directory at `path`, not yet looked at.
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

    /// Makes the directory and those above it. The name of each is durable before another is made
    /// in it, so that a kill leaves one at most that is not.
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
            // Opened first: a user who may not do that could not make the new name durable.
            let parent = Names::of(nonempty(parent))?;
            match builder.create(path) {
                // Somebody else has made it meanwhile.
                Err(_) if path.is_dir() => {}
                made => made?,
            }
            parent.sync()?;
        }
        Ok(())
    }

    /// Opens the lock's file, and makes it if it is not there.
    fn lock_file(&mut self) -> io::Result<File> {
        let names = self.entered()?;
        loop {
            match names.open(LOCK) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
            match names.create(LOCK) {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Ok(file) => {
                    self.made_lock = true;
                    return Ok(file);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A file that is open and locked, as one of the store's.
    fn take(&self, name: &str, file: File, is_named: bool) -> io::Result<Arc<dyn DiskFile>> {
        wait_for_lock(&file, self.deadline)?;
        let is_named = Arc::new(AtomicBool::new(is_named));
        let kept = self.kept.as_ref().map(Arc::downgrade).unwrap_or_default();
        let opened = Opened { identity: names::identity(&file)?, is_named: Arc::clone(&is_named) };
        self.opened.lock().insert(name.to_owned(), opened);
        Ok(Arc::new(RealFile { file, process: self.process, kept, is_named }))
    }
}

/// A relative path of one part has the empty path as its parent.
fn nonempty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Makes the name of a directory durable that was there before: a kill may have come between its
/// making and that.
fn sync_name(names: &Names) -> io::Result<()> {
    match names.parent() {
        // Then it was made by somebody else, who may list what is above it.
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
        // No deadline is one that is never reached.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        std::thread::sleep(LOCK_EVERY);
    }
}

/// A forked child has the descriptors of its parent, and would write under it.
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
            // The open that had the lock before may have taken its name away.
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
        // What is kept of the disk lies behind.
        while signature.pop_if(|last| *last == 0).is_some() {}
        // A power cut before it was durable may have left zeros. A part of it is that of a copy, and
        // so of a store.
        let signed = signature.iter().any(|byte| *byte != 0);
        if signed && !SIGNATURE.starts_with(&signature) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the lock of a store"));
        }
        if !signed && names::is_shared(&file)? {
            // To sign it would write into a file that somebody else has a name for.
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
        // An open that is refused leaves a directory as it was.
        if self.made_lock && self.locked.is_some() && !*self.signed.lock() {
            let _ = self.remove(LOCK);
        }
    }
}

/// It shows no path.
impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

struct RealFile {
    file: File,
    process: u32,
    /// A file that outlives the directory must not keep its lock.
    kept: Weak<Kept>,
    is_named: Arc<AtomicBool>,
}

impl RealFile {
    /// Whether a write that has failed is to be tried again, since the disk has room for it now.
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
