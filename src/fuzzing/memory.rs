//! Two segments of a log in memory.

use std::collections::BTreeMap;
use std::io;

use crate::disk::{Disk, DiskFile};
use crate::sync::{Arc, Mutex};

/// Files in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    files: Arc<Mutex<BTreeMap<String, Arc<File>>>>,
}

#[derive(Debug, Default)]
struct File {
    bytes: Mutex<Vec<u8>>,
}

impl Memory {
    pub(super) fn holding<const LEN: usize>(files: [(&str, Vec<u8>); LEN]) -> Self {
        let file = |bytes| Arc::new(File { bytes: Mutex::new(bytes) });
        let files = files.map(|(name, bytes)| (name.to_owned(), file(bytes)));
        Self { files: Arc::new(Mutex::new(files.into())) }
    }

    /// Looks at the bytes of a file, or changes them.
    pub(super) fn with<T>(&self, name: &str, call: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let file = Arc::clone(self.files.lock().get(name).expect("the file is there"));
        let mut bytes = file.bytes.lock();
        call(&mut bytes)
    }
}

impl Disk for Memory {
    fn lock(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.lock().get(name).map(Arc::clone).ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::<File>::default();
        self.files.lock().insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).expect("it is short");
        let bytes = self.bytes.lock();
        let read = bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn write_at(&self, offset: u64, written: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).expect("it is short");
        let mut bytes = self.bytes.lock();
        let end = bytes.len().max(from + written.len());
        bytes.resize(end, 0);
        bytes[from..from + written.len()].copy_from_slice(written);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().resize(usize::try_from(len).expect("it is short"), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
