//! A slow clock and a slow disk, so that the calls of many threads overlap on few cores.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::sim::{Disk, DiskFile};
use idemstore::{Clock, ManualClock, Timestamp};

use crate::support::model::splitmix;

/// Lets other threads run, occasionally for longer.
pub fn pause() {
    static TURN: AtomicU64 = AtomicU64::new(0);
    match splitmix(TURN.fetch_add(1, Ordering::Relaxed)) % 32 {
        0 => thread::sleep(Duration::from_micros(20)),
        1..12 => thread::yield_now(),
        _ => {}
    }
}

/// Shows a time that may be over by the time it is used, as with any clock.
pub struct SlowClock(pub ManualClock);

impl Clock for SlowClock {
    fn now(&self) -> Timestamp {
        let now = self.0.now();
        pause();
        now
    }
}

/// Runs before each operation on a file.
#[derive(Clone)]
pub struct Before(Arc<dyn Fn() + Send + Sync>);

impl Before {
    pub fn new(before: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(before))
    }
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Before").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct SlowDisk<D> {
    pub disk: D,
    pub before: Before,
}

impl<D: Disk> SlowDisk<D> {
    fn slow(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(SlowFile { file, before: self.before.clone() })
    }
}

impl<D: Disk> Disk for SlowDisk<D> {
    fn enter(&mut self, make: bool) -> io::Result<()> {
        self.disk.enter(make)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn lock(&mut self, wait: Duration) -> io::Result<bool> {
        self.disk.lock(wait)
    }

    fn sign(&self) -> io::Result<()> {
        self.disk.sign()
    }

    fn check(&self) -> io::Result<()> {
        self.disk.check()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.slow(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name).map(|file| self.slow(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn DiskFile>,
    before: Before,
}

impl DiskFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        (self.before.0)();
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.before.0)();
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        (self.before.0)();
        self.file.sync()
    }
}
