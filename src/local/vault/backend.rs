//! redb's view of a file of the store.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use crate::canary;
use crate::local::disk::DiskFile;
use crate::sync::{Arc, LeafMutex};

/// The unit in which changes are recorded.
const BLOCK_LEN: usize = 4096;

/// Locking is left to [`crate::local::disk::Disk`], which locks the directory and each file before
/// redb opens the file, so that redb doesn't have to lock anything.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    file: Arc<dyn DiskFile>,
    held: Arc<Held>,
    /// Blocks written since a copy of the file began; `None` while there is no copy.
    changed: Arc<LeafMutex<Option<BTreeSet<u64>>>>,
}

/// Writes that are held back from a file until they are let through: an open that is refused leaves
/// the file as it was.
#[derive(Debug, Default)]
struct Held {
    /// Not the one in [`crate::sync`], since it is read under redb's locks.
    is_on: AtomicBool,
    steps: LeafMutex<Vec<Step>>,
}

#[derive(Debug)]
enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Held {
    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// The length that the file would have.
    fn len(&self, file_len: u64) -> u64 {
        self.steps.lock().iter().fold(file_len, |len, step| match step {
            Step::Write(offset, bytes) => len.max(offset + bytes.len() as u64),
            Step::SetLen(len) => *len,
            Step::Sync => len,
        })
    }

    /// What a read of the file would return.
    fn read(&self, file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (end, mut file_len) = (offset + out.len() as u64, file.len()?);
        if self.len(file_len) < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let steps = self.steps.lock();
        // A file that is truncated and grows again has zeros there.
        for step in &*steps {
            if let Step::SetLen(len) = step {
                file_len = file_len.min(*len);
            }
        }
        let of_file = within(file_len.saturating_sub(offset), out.len());
        let (known, rest) = out.split_at_mut(of_file);
        if !known.is_empty() {
            file.read_at(offset, known)?;
        }
        rest.fill(0);
        for step in &*steps {
            match step {
                Step::Write(at, bytes) => overlay(offset, out, *at, bytes),
                Step::SetLen(len) => {
                    let kept = within(len.saturating_sub(offset), out.len());
                    out.iter_mut().skip(kept).for_each(|byte| *byte = 0);
                }
                Step::Sync => {}
            }
        }
        Ok(())
    }

    fn let_through(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.is_on.store(false, Ordering::Release);
        let steps = std::mem::take(&mut *self.steps.lock());
        let done = steps.into_iter().try_for_each(|step| match step {
            Step::Write(offset, bytes) => file.write_at(offset, &bytes),
            Step::SetLen(len) => file.set_len(len),
            Step::Sync => file.sync(),
        });
        if done.is_err() {
            // redb doesn't know of the failure, and would still write when it closes, over data
            // that a sync may have lost.
            self.is_on.store(true, Ordering::Release);
        }
        done
    }
}

/// `number`, or `max` if that is less.
fn within(number: u64, max: usize) -> usize {
    usize::try_from(number).unwrap_or(max).min(max)
}

/// Copies the bytes written at `at` over what was read from `offset`.
fn overlay(offset: u64, out: &mut [u8], at: u64, bytes: &[u8]) {
    let skipped = within(offset.saturating_sub(at), bytes.len());
    let from = within(at.saturating_sub(offset), out.len());
    let (_, bytes) = bytes.split_at(skipped);
    let (_, out) = out.split_at_mut(from);
    out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
}

impl Backend {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, held: Arc::default(), changed: Arc::default() }
    }

    /// From now on, nothing is written until [`Backend::let_through`].
    pub(super) fn hold(&self) {
        self.held.is_on.store(true, Ordering::Release);
    }

    /// Writes what was held back, in its order and with its syncs, and holds nothing back from now
    /// on.
    pub(super) fn let_through(&self) -> io::Result<()> {
        self.held.let_through(&*self.file)
    }

    /// Performs a step, or keeps it for later.
    fn step(
        &self,
        step: impl FnOnce() -> Step,
        now: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.held.is_on() {
            self.held.steps.lock().push(step());
            return Ok(());
        }
        now(&*self.file)
    }

    /// Length of the file in bytes.
    pub(super) fn file_len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Starts recording which blocks change.
    pub(super) fn watch(&self) {
        *self.changed.lock() = Some(BTreeSet::new());
    }

    /// Stops recording, and returns the changed blocks; `None` if nothing was being recorded.
    pub(super) fn unwatch(&self) -> Option<BTreeSet<u64>> {
        self.changed.lock().take()
    }

    fn note(&self, offset: u64, len: u64) {
        if let Some(changed) = &mut *self.changed.lock() {
            changed.extend(offset / BLOCK_LEN as u64..(offset + len).div_ceil(BLOCK_LEN as u64));
        }
    }

    /// Copies the file in parts, while it may change. Changes in the meantime are recorded.
    pub(super) fn copy_all(&self, to: &dyn DiskFile) -> io::Result<()> {
        const PART_LEN: usize = 1024 * 1024;
        let mut part = vec![0; PART_LEN];
        let (mut offset, len) = (0, self.file.len()?);
        while offset < len {
            let step = usize::try_from(len - offset).unwrap_or(PART_LEN).min(PART_LEN);
            let part = part.get_mut(..step).expect("a step has at most as many bytes");
            match self.file.read_at(offset, part) {
                Ok(()) => to.write_at(offset, part)?,
                // The file has been truncated in the meantime: copy the end of it again later.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.note(offset, len - offset);
                    break;
                }
                Err(error) => return Err(error),
            }
            offset += step as u64;
        }
        Ok(())
    }

    /// Copies these blocks again, while nothing writes to the file, and sets the length of the
    /// copy.
    pub(super) fn copy_blocks(&self, blocks: &BTreeSet<u64>, to: &dyn DiskFile) -> io::Result<()> {
        let len = self.file.len()?;
        to.set_len(len)?;
        let mut block = [0; BLOCK_LEN];
        let offsets = blocks.iter().map(|block| block * BLOCK_LEN as u64);
        for offset in offsets.take_while(|offset| *offset < len) {
            let step = usize::try_from(len - offset).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
            let block = block.get_mut(..step).expect("a step has at most as many bytes");
            self.file.read_at(offset, block)?;
            to.write_at(offset, block)?;
        }
        Ok(())
    }
}

/// Runs a call that redb makes, and turns a panic in it into an error. redb holds its own locks
/// during the call. A panic would poison them, and redb panics again when it is dropped with a
/// poisoned lock, which aborts the process.
fn contained<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(io::Error::other("the file has panicked")))
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        contained(|| {
            let len = self.file.len()?;
            Ok(if self.held.is_on() { self.held.len(len) } else { len })
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        contained(|| {
            if self.held.is_on() {
                return self.held.read(&*self.file, offset, out);
            }
            self.file.read_at(offset, out)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        contained(|| self.step(|| Step::SetLen(len), |file| file.set_len(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        if canary::sings("lies about the vault's fsync") {
            return Ok(());
        }
        contained(|| self.step(|| Step::Sync, DiskFile::sync))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        contained(|| {
            // Recorded before the write, so that a copy that reads in between has the block
            // recorded. Recorded again after it, since a copy that began in between has discarded
            // that record, and read the old bytes.
            self.note(offset, data.len() as u64);
            let held = || Step::Write(offset, data.to_vec());
            let written = self.step(held, |file| file.write_at(offset, data));
            self.note(offset, data.len() as u64);
            written
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::disk::{Disk, Memory};

    #[test]
    fn what_is_held_reads_as_if_it_were_written_and_is_not() {
        let before: Vec<u8> = (0..100).collect();
        let disk = Memory::holding([("file", before.clone()), ("written", before.clone())]);
        let open = |name| disk.open(name).expect("it is there");
        let (held, written) = (Backend::new(open("file")), Backend::new(open("written")));
        held.hold();
        let same = || {
            let len = StorageBackend::len(&written).expect("it is known");
            assert_eq!(StorageBackend::len(&held).expect("it is known"), len);
            for offset in 0..len {
                let rest = within(len - offset, usize::MAX);
                let (of_held, of_written) = (&mut vec![1; rest], &mut vec![2; rest]);
                held.read(offset, of_held).expect("it is there");
                written.read(offset, of_written).expect("it is there");
                assert_eq!(of_held, of_written);
            }
            assert!(held.read(len, &mut [0]).is_err());
        };
        let changes: [fn(&Backend) -> io::Result<()>; 6] = [
            |backend| backend.write(10, &[200; 30]),
            |backend| backend.write(95, &[201; 30]),
            |backend| backend.set_len(20),
            |backend| backend.sync_data(),
            |backend| backend.set_len(60),
            |backend| backend.write(50, &[202; 3]),
        ];
        for change in changes {
            change(&held).and_then(|()| change(&written)).expect("there is room");
            same();
            assert_eq!(disk.with("file", |bytes| bytes.clone()), before);
        }
        held.let_through().expect("there is room");
        same();
        assert_eq!(disk.with("file", |bytes| bytes.clone()), disk.with("written", |b| b.clone()));
    }

    /// A file of which a copy begins in the middle of each write, before the bytes are there.
    #[derive(Debug)]
    struct CopiedMidway {
        file: Arc<dyn DiskFile>,
        copy: Arc<dyn DiskFile>,
        backend: std::sync::OnceLock<Backend>,
    }

    impl DiskFile for CopiedMidway {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read_at(offset, out)
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let backend = self.backend.get().expect("it is set");
            backend.watch();
            backend.copy_all(&*self.copy)?;
            self.file.write_at(offset, bytes)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn sync(&self) -> io::Result<()> {
            self.file.sync()
        }
    }

    #[test]
    fn a_write_that_a_copy_is_begun_under_is_in_the_copy() {
        let disk = Memory::holding([("file", vec![1; 10_000]), ("copy", Vec::new())]);
        let open = |name| disk.open(name).expect("it is there");
        let (file, copy, backend) = (open("file"), open("copy"), std::sync::OnceLock::new());
        let file = Arc::new(CopiedMidway { file, copy, backend });
        let backend = Backend::new(Arc::clone(&file) as _);
        file.backend.set(backend.clone()).expect("it is not set");
        backend.write(5_000, &[2; 100]).expect("there is room");
        backend
            .copy_blocks(&backend.unwatch().expect("it was watched"), &*file.copy)
            .expect("there is room");
        assert!(disk.with("copy", |copy| copy.clone()) == disk.with("file", |file| file.clone()));
    }
}
