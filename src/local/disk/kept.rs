//! Disk space that the store reserves for itself, so that started operations can be completed on a
//! full disk.
//!
//! The reserve consists of blocks of the lock file, after its first page. When a write finds the
//! disk full, the lock file is truncated to release some of the blocks, and the write is retried.

use std::fs::File;
use std::io;

use super::directory::write_at;
use crate::sync::LeafMutex;

/// Where the blocks begin.
const KEPT_AT: u64 = 4096;

/// The least that is released for a write at one time.
const GIVEN_MIN: u64 = 256 * 1024;

pub(super) struct Kept {
    file: File,
    blocks: LeafMutex<Blocks>,
}

#[derive(Clone, Copy)]
struct Blocks {
    bytes: u64,
    /// Whether the blocks are known to be allocated: in a copy of a store there may be a hole
    /// instead.
    are_there: bool,
}

impl Kept {
    /// The reserve that an earlier run left in this file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len().saturating_sub(KEPT_AT);
        let blocks = LeafMutex::new(Blocks { bytes, are_there: false });
        Ok(Self { file: file.try_clone()?, blocks })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks.lock().bytes
    }

    /// Reserves `bytes` in all. If the disk has no room for more, the existing reserve stays.
    pub(super) fn keep(&self, bytes: u64) -> io::Result<()> {
        let mut blocks = self.blocks.lock();
        let known = if blocks.are_there { blocks.bytes } else { 0 };
        if known < bytes {
            allocate(&self.file, KEPT_AT + known, bytes - known).inspect_err(|_| {
                // It may have allocated some of them.
                let _ = self.file.set_len(KEPT_AT + blocks.bytes);
            })?;
        }
        if bytes < blocks.bytes {
            self.file.set_len(KEPT_AT + bytes)?;
        }
        *blocks = Blocks { bytes, are_there: true };
        Ok(())
    }

    /// Releases part of the reserve for a write of `bytes`. Returns whether there was anything to
    /// release.
    pub(super) fn give(&self, bytes: u64) -> bool {
        let mut blocks = self.blocks.lock();
        let left = blocks.bytes.saturating_sub(bytes.max(GIVEN_MIN));
        if blocks.bytes == 0 || self.file.set_len(KEPT_AT + left).is_err() {
            return false;
        }
        blocks.bytes = left;
        true
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    let allocated =
        rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), offset, len));
    match allocated {
        // The file system doesn't support the call.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(file, offset, len),
        allocated => Ok(allocated?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    write_zeros(file, offset, len)
}

fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    (offset..offset + len).step_by(ZEROS.len()).try_for_each(|at| write_at(file, at, &ZEROS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn file() -> File {
        tempfile::tempfile().expect("there is room for a file")
    }

    fn len(file: &File) -> u64 {
        file.metadata().expect("it is known").len()
    }

    #[test]
    fn what_is_kept_grows_and_shrinks_and_is_given_in_parts() {
        let file = file();
        let kept = Kept::of(&file).expect("it can be read");
        assert!(kept.bytes() == 0 && !kept.give(1));
        kept.keep(5 * MIB).expect("there is room");
        kept.keep(3 * MIB).expect("that is less");
        assert_eq!((kept.bytes(), len(&file)), (3 * MIB, KEPT_AT + 3 * MIB));
        // A short write releases enough for many.
        assert!(kept.give(1));
        assert_eq!(kept.bytes(), 3 * MIB - GIVEN_MIN);
        assert!(kept.give(9 * MIB) && !kept.give(1));
        assert_eq!(len(&file), KEPT_AT);
    }

    #[test]
    fn a_later_run_has_what_was_kept_also_of_a_copy_that_has_a_hole_there() {
        let file = file();
        file.set_len(KEPT_AT + 2 * MIB).expect("a hole takes no room");
        let kept = Kept::of(&file).expect("it can be read");
        assert_eq!(kept.bytes(), 2 * MIB);
        kept.keep(2 * MIB).expect("there is room");
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            let blocks = file.metadata().expect("it is known").blocks();
            assert!(2 * MIB <= blocks * 512, "{blocks} blocks");
        }
    }
}
