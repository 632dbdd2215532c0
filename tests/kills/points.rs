//! A disk with a numbered point before, within and after each operation that changes it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use idemstore::sim::{Directory, Disk, DiskFile};

pub const VAULT: &str = "vault.redb";

/// A disk that reports its points. Clones are the same place, not yet locked, and continue the
/// count.
pub struct PointDisk {
    disk: Box<dyn Disk>,
    again: Arc<dyn Fn() -> Box<dyn Disk> + Send + Sync>,
    points: Arc<Points>,
}

struct Points {
    next: AtomicU64,
    /// Whether a vault with its final name was seen. Looking for it would mean waiting for its
    /// lock.
    has_vault: AtomicBool,
    /// The only point to report; otherwise all are reported.
    only: Option<u64>,
    /// Is called at a point, before or after the operation. It need not return.
    watch: Box<dyn Fn(&str) + Send + Sync>,
}

impl PointDisk {
    pub fn new(
        again: impl Fn() -> Box<dyn Disk> + Send + Sync + 'static,
        only: Option<u64>,
        watch: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let points = Points {
            next: AtomicU64::new(0),
            has_vault: AtomicBool::new(false),
            only,
            watch: Box::new(watch),
        };
        Self { disk: again(), again: Arc::new(again), points: Arc::new(points) }
    }

    /// The directory of the file system at `path`.
    pub fn at(
        path: &Path,
        only: Option<u64>,
        watch: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let path = path.to_owned();
        Self::new(move || Box::new(Directory::new(&path)), only, watch)
    }

    fn file(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(PointFile { file, title: self.title(name), points: Arc::clone(&self.points) })
    }

    /// The kind of a file, from its name: a vault that has no final name yet counts differently if
    /// it is the store's first.
    fn title(&self, name: &str) -> String {
        let has_vault = self.points.has_vault.load(Ordering::Relaxed);
        match name.split_once(".init").or(name.split_once(".compact")) {
            Some((VAULT, _)) if has_vault => "the smaller vault".to_owned(),
            Some((VAULT, _)) => "the first vault".to_owned(),
            Some((log, _)) => format!("the first {log}"),
            None => name.to_owned(),
        }
    }
}

impl Clone for PointDisk {
    fn clone(&self) -> Self {
        Self {
            disk: (self.again)(),
            again: Arc::clone(&self.again),
            points: Arc::clone(&self.points),
        }
    }
}

impl fmt::Debug for PointDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PointDisk").finish_non_exhaustive()
    }
}

impl Points {
    /// A file of this name exists.
    fn meet(&self, name: &str) {
        self.has_vault.fetch_or(name == VAULT, Ordering::Relaxed);
    }

    fn show(&self, point: u64, when: &str, what: &str, title: &str) {
        if self.only.is_none_or(|only| only == point) {
            (self.watch)(&format!("{when} {what} {title}"));
        }
    }

    fn around<T>(
        &self,
        what: &str,
        title: &str,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let first = self.next.fetch_add(2, Ordering::Relaxed);
        self.show(first, "before", what, title);
        let done = operation()?;
        self.show(first + 1, "after", what, title);
        Ok(done)
    }

    /// A write has a point in its middle too, when half of its bytes are there.
    fn around_write(
        &self,
        title: &str,
        file: &dyn DiskFile,
        at: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let first = self.next.fetch_add(3, Ordering::Relaxed);
        self.show(first, "before", "write", title);
        if self.only == Some(first + 1) {
            file.write_at(at, &bytes[..bytes.len() / 2])?;
        }
        self.show(first + 1, "within", "write", title);
        file.write_at(at, bytes)?;
        self.show(first + 2, "after", "write", title);
        Ok(())
    }
}

impl Disk for PointDisk {
    fn enter(&mut self, make: bool) -> io::Result<()> {
        self.disk.enter(make)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn lock(&mut self, wait: Duration) -> io::Result<bool> {
        self.points.around("lock", "the directory", || self.disk.lock(wait))
    }

    fn sign(&self) -> io::Result<()> {
        self.points.around("sign", "the directory", || self.disk.sign())
    }

    fn check(&self) -> io::Result<()> {
        self.disk.check()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.points.around("remove", &self.title(name), || self.disk.remove(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name)?;
        self.points.meet(name);
        Ok(self.file(name, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let title = self.title(name);
        let file = self.points.around("create", &title, || self.disk.create(name))?;
        Ok(self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.points.around("rename", &self.title(from), || self.disk.rename(from, to))?;
        self.points.meet(to);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.points.around("sync", "names", || self.disk.sync_names())
    }
}

struct PointFile {
    file: Arc<dyn DiskFile>,
    title: String,
    points: Arc<Points>,
}

impl fmt::Debug for PointFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PointFile").field("title", &self.title).finish_non_exhaustive()
    }
}

impl DiskFile for PointFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.points.around_write(&self.title, &*self.file, offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.points.around("set the length of", &self.title, || self.file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.points.around("sync", &self.title, || self.file.sync())
    }
}
