//! The store's own directory, which counts the writes and syncs of each file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idemstore::sim::{Directory, Disk, DiskFile};
use parking_lot::Mutex;

/// Counts of all files, by their names. A file that is renamed is counted under the name that it
/// was opened with.
pub(crate) type Counts = Arc<Mutex<BTreeMap<String, Arc<Count>>>>;

#[derive(Debug, Default)]
pub(crate) struct Count {
    syncs: AtomicU64,
    bytes: AtomicU64,
    heads: AtomicU64,
}

/// The offset at which a segment of the log starts its frames: a write before that records its
/// length.
const HEAD_LEN: u64 = 4096;

/// Syncs, bytes written, and writes to the header of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) syncs: u64,
    pub(crate) bytes: u64,
    pub(crate) heads: u64,
}

impl Count {
    fn write(&self, offset: u64, bytes: &[u8]) {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.heads.fetch_add(u64::from(offset < HEAD_LEN), Ordering::Relaxed);
    }
}

/// The totals of the files whose names start with this prefix.
pub(crate) fn written(counts: &Counts, prefix: &str) -> Written {
    let mut sum = Written::default();
    for (_, count) in counts.lock().iter().filter(|(name, _)| name.starts_with(prefix)) {
        sum.syncs += count.syncs.load(Ordering::Relaxed);
        sum.bytes += count.bytes.load(Ordering::Relaxed);
        sum.heads += count.heads.load(Ordering::Relaxed);
    }
    sum
}

#[derive(Debug)]
pub(crate) struct CountingDisk {
    directory: Directory,
    counts: Counts,
}

impl CountingDisk {
    pub(crate) fn new(path: &Path) -> (Self, Counts) {
        let counts = Counts::default();
        (Self { directory: Directory::new(path), counts: Arc::clone(&counts) }, counts)
    }

    fn count(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let count = Arc::clone(self.counts.lock().entry(name.to_owned()).or_default());
        Arc::new(CountingFile { file, count })
    }
}

impl Disk for CountingDisk {
    fn enter(&mut self, make: bool) -> io::Result<()> {
        self.directory.enter(make)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.directory.names()
    }

    fn lock(&mut self, wait: Duration) -> io::Result<bool> {
        self.directory.lock(wait)
    }

    fn sign(&self) -> io::Result<()> {
        self.directory.sign()
    }

    fn check(&self) -> io::Result<()> {
        self.directory.check()
    }

    fn is_exposed(&self) -> bool {
        self.directory.is_exposed()
    }

    fn keep(&self, bytes: u64) -> io::Result<()> {
        self.directory.keep(bytes)
    }

    fn kept(&self) -> u64 {
        self.directory.kept()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.count(name, self.directory.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.count(name, self.directory.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_names()
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn DiskFile>,
    count: Arc<Count>,
}

impl DiskFile for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.count.write(offset, bytes);
        self.file.write_at(offset, bytes)
    }

    fn write_if_room_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.count.write(offset, bytes);
        self.file.write_if_room_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.count.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
}
