//! A directory in memory: the store is lost when its process ends.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::{Disk, DiskFile};
use crate::sync::{Arc, Mutex};

/// Files in memory, which clones share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    files: Arc<Mutex<BTreeMap<String, Arc<File>>>>,
}

const BLOCK_LEN: usize = 4096;
const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// A file that stores only those blocks that have held anything but zeros.
#[derive(Debug, Default)]
struct File {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    len: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

/// Splits a range of bytes at block boundaries: the block, the offset in it, and the length of each
/// part.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, len);
    std::iter::from_fn(move || {
        let within = usize::try_from(at % BLOCK_LEN as u64).expect("it is less than a block");
        let step = left.min(BLOCK_LEN - within);
        let part = (at / BLOCK_LEN as u64, within, step);
        at += step as u64;
        left -= step;
        (0 < step).then_some(part)
    })
}

impl Content {
    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        if self.len < offset.saturating_add(out.len() as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (block, within, step) in parts(offset, out.len()) {
            let (part, rest) = out.split_at_mut(step);
            match self.blocks.get(&block).and_then(|bytes| bytes.get(within..within + step)) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            out = rest;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        self.len = self.len.max(offset + bytes.len() as u64);
        for (block, within, step) in parts(offset, bytes.len()) {
            let (part, rest) = bytes.split_at(step);
            bytes = rest;
            // Comparing equal slices is fast, even in an unoptimised build.
            if !self.blocks.contains_key(&block) && ZEROS.starts_with(part) {
                continue;
            }
            let kept = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK_LEN].into());
            if let Some(kept) = kept.get_mut(within..within + step) {
                kept.copy_from_slice(part);
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let within = usize::try_from(len % BLOCK_LEN as u64).expect("it is less than a block");
            let mut cut = self.blocks.split_off(&(len / BLOCK_LEN as u64));
            // The bytes must be zeros if the file grows again.
            if let (Some(mut last), true) = (cut.remove(&(len / BLOCK_LEN as u64)), 0 < within) {
                last.iter_mut().skip(within).for_each(|byte| *byte = 0);
                self.blocks.insert(len / BLOCK_LEN as u64, last);
            }
        }
        self.len = len;
    }
}

#[cfg(any(test, fuzzing))]
impl Memory {
    pub(crate) fn holding<const LEN: usize>(files: [(&str, Vec<u8>); LEN]) -> Self {
        let memory = Self::default();
        for (name, bytes) in files {
            let file = Arc::<File>::default();
            file.content.lock().write(0, &bytes);
            memory.files.lock().insert(name.to_owned(), file);
        }
        memory
    }

    /// Reads or changes the bytes of a file.
    pub(crate) fn with<T>(&self, name: &str, call: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let file = Arc::clone(self.files.lock().get(name).expect("the file is there"));
        let mut content = file.content.lock();
        let mut bytes = vec![0; usize::try_from(content.len).expect("it is short")];
        content.read(0, &mut bytes).expect("it is as long as that");
        let value = call(&mut bytes);
        *content = Content::default();
        content.write(0, &bytes);
        value
    }
}

impl Disk for Memory {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn lock(&mut self, _: Duration) -> io::Result<bool> {
        Ok(false)
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

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.content.lock().read(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.content.lock().write(offset, bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content.lock().set_len(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_one_run_of_bytes_would() {
        let (mut content, mut model) = (Content::default(), Vec::new());
        for step in 0..2_000_u64 {
            let random = *blake3::hash(&step.to_le_bytes()).as_bytes();
            let number = |at: usize| usize::from(u16::from_le_bytes([random[at], random[at + 1]]));
            let (from, len) = (number(0) % 30_000, number(8) % 9_000);
            let (offset, to) = (from as u64, from + len);
            if step.is_multiple_of(7) {
                content.set_len(offset);
                model.resize(from, 0);
            } else {
                let byte = if step.is_multiple_of(3) { 0 } else { random[20] };
                content.write(offset, &vec![byte; len]);
                model.resize(model.len().max(to), 0);
                model[from..to].fill(byte);
            }
            assert_eq!(content.len, model.len() as u64);
            let mut read = vec![1; model.len()];
            content.read(0, &mut read).expect("it is as long as that");
            assert!(read == model, "step {step}");
            assert!(content.read(1, &mut read).is_err() || model.is_empty());
        }
    }
}
