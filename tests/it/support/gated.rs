//! A disk that can get stuck, like one that is broken or overloaded.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use idemstore::sim::{Disk, DiskFile};

/// A disk on which each sync of the log waits while the gate is shut.
#[derive(Clone, Debug)]
pub struct GatedDisk<D> {
    pub disk: D,
    pub gate: Arc<Gate>,
}

#[derive(Debug, Default)]
pub struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn shut(&self) {
        *self.shut.lock().expect("no thread panics") = true;
    }

    pub fn open(&self) {
        *self.shut.lock().expect("no thread panics") = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().expect("no thread panics");
        drop(self.opened.wait_while(shut, |shut| *shut).expect("no thread panics"));
    }
}

impl<D> GatedDisk<D> {
    fn gated(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if name.starts_with("log") {
            Arc::new(GatedFile { file, gate: Arc::clone(&self.gate) })
        } else {
            file
        }
    }
}

impl<D: Disk> Disk for GatedDisk<D> {
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
        Disk::remove(&self.disk, name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(name, self.disk.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(name, self.disk.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GatedFile {
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
