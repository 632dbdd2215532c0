//! A disk that answers no sync for a while, as one does that is broken or overloaded.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use idemstore::sim::{Directory, Disk, DiskFile};

/// A directory whose log waits with every sync while it is stuck.
#[derive(Debug)]
pub struct StuckDisk {
    directory: Directory,
    gate: Gate,
}

/// Makes a disk stuck, and lets it go.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn shut(&self) {
        *self.0.0.lock().expect("no thread panics") = true;
    }

    pub fn open(&self) {
        *self.0.0.lock().expect("no thread panics") = false;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.0.lock().expect("no thread panics");
        drop(self.0.1.wait_while(shut, |shut| *shut).expect("no thread panics"));
    }
}

impl StuckDisk {
    pub fn new(path: &Path) -> (Self, Gate) {
        let gate = Gate::default();
        (Self { directory: Directory::new(path), gate: gate.clone() }, gate)
    }

    fn gated(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if !name.starts_with("log") {
            return file;
        }
        Arc::new(StuckFile { file, gate: self.gate.clone() })
    }
}

impl Disk for StuckDisk {
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

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(name, self.directory.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(name, self.directory.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_names()
    }
}

#[derive(Debug)]
struct StuckFile {
    file: Arc<dyn DiskFile>,
    gate: Gate,
}

impl DiskFile for StuckFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }
}
