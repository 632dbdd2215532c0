//! A segment: one prewritten file of the log.
//!
//! It is written whole and synced once when the store is made, so that later an fdatasync has no
//! new block and no new length to record. Its first page names format and store, and is never
//! written again; frames start at the second.

use std::io;

use super::frame::{self, Frame};
use crate::canary;
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::limits::LOG_BYTES_MAX;
use crate::sync::Arc;

/// Names of the two segments.
pub(crate) const NAMES: [&str; 2] = ["log-0", "log-1"];
/// Where frames start.
pub(crate) const FRAMES_AT: u64 = 4096;
const MAGIC: [u8; 8] = *b"idemlog\0";
const VERSION: u32 = 1;
/// Magic, version, length of the file, and the owner's mark.
const HEADER_LEN: usize = 8 + 4 + 8 + 32;

/// The secret of one store: it tells its log from another store's, and nobody who only chooses
/// what is stored can make a frame.
pub(crate) type StoreKey = [u8; 32];

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl Segment {
    /// Writes a new segment, and makes it durable.
    pub(crate) fn create(
        disk: &dyn Disk,
        name: &str,
        key: &StoreKey,
        len: u64,
    ) -> Result<(), OpenError> {
        let written = || -> io::Result<()> {
            let file = disk.create(name)?;
            write_zeros(&*file, len)?;
            let header: Vec<u8> = MAGIC
                .into_iter()
                .chain(VERSION.to_le_bytes())
                .chain(len.to_le_bytes())
                .chain(mark(key, len))
                .collect();
            file.write_at(0, &header)?;
            file.sync()
        };
        written().map_err(|error| OpenError::io("create the log", error))
    }

    /// Opens a segment, if it is there.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &'static str,
        key: &StoreKey,
    ) -> Result<Self, OpenError> {
        let corrupt = |detail: &str| OpenError::Corrupt { file: name, detail: detail.to_owned() };
        let file = match disk.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt("it is missing"));
            }
            opened => opened.map_err(|error| OpenError::io("open the log", error))?,
        };
        let len = file.len().map_err(|error| OpenError::io("read the log", error))?;
        // Before so much is read.
        if !(FRAMES_AT..=LOG_BYTES_MAX / 2).contains(&len) {
            return Err(corrupt("it was cut short, or is longer than any"));
        }
        let mut header = [0; HEADER_LEN];
        file.read_at(0, &mut header).map_err(|error| OpenError::io("read the log", error))?;
        let (magic, rest) = header.split_at(8);
        let (version, rest) = rest.split_at(4);
        let (made_len, owner) = rest.split_at(8);
        if magic != MAGIC {
            return Err(OpenError::NotAStore { file: name });
        }
        if version != VERSION.to_le_bytes() {
            let found = version.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            return Err(OpenError::UnsupportedVersion { file: name, found, supported: VERSION });
        }
        // A segment that was cut would have lost frames without a trace.
        if made_len != len.to_le_bytes() {
            return Err(corrupt("its length is not the one it was made with"));
        }
        if owner != mark(key, len) {
            return Err(corrupt("it belongs to another store"));
        }
        Ok(Self { file, len })
    }

    /// Bytes that frames can take.
    pub(crate) fn capacity(&self) -> u64 {
        self.len - FRAMES_AT
    }

    /// Everything after the first page.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.capacity()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        self.file.read_at(FRAMES_AT, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes one frame, `offset` bytes behind the place where frames start.
    pub(crate) fn write(&self, offset: u64, frame: &[u8]) -> io::Result<()> {
        self.file.write_at(FRAMES_AT + offset, frame)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if canary::sings("answers before the fsync") { Ok(()) } else { self.file.sync() }
    }
}

/// What only the store with this key can have written into the header.
fn mark(key: &StoreKey, len: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"idemstore log segment").update(&len.to_le_bytes());
    *hasher.finalize().as_bytes()
}

fn write_zeros(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    let zeros = vec![0; 256 * 1024];
    let mut offset = 0;
    while offset < len {
        let step = usize::try_from(len - offset).unwrap_or(usize::MAX).min(zeros.len());
        file.write_at(offset, zeros.get(..step).unwrap_or_default())?;
        offset += step as u64;
    }
    Ok(())
}

/// The frames of one use of a segment: from its start, one after the other with nothing between.
pub(crate) fn frames<'a>(bytes: &'a [u8], key: &'a StoreKey) -> impl Iterator<Item = Frame<'a>> {
    let mut rest = bytes;
    let mut before: Option<(u64, u64)> = None;
    std::iter::from_fn(move || {
        let next = frame::decode(rest, key)?;
        if before.is_some_and(|(salt, number)| next.salt != salt || next.number != number + 1)
            && !canary::sings("takes stale frames")
        {
            return None;
        }
        before = Some((next.salt, next.number));
        rest = rest.get(next.len()..).unwrap_or_default();
        Some(next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn frames_end_where_another_use_of_the_segment_shows_through() {
        const KEY: StoreKey = [7; 32];
        let written = |salt, number| {
            let mut frame = Vec::new();
            frame::encode(&mut frame, &KEY, salt, number, Timestamp::default(), [&b"change"[..]]);
            frame
        };
        let numbers = |frames: [Vec<u8>; 3]| {
            let bytes = frames.concat();
            super::frames(&bytes, &KEY).map(|frame| frame.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers([written(1, 5), written(1, 6), written(1, 7)]), [5, 6, 7]);
        assert_eq!(numbers([written(1, 5), written(1, 6), written(2, 7)]), [5, 6]);
        assert_eq!(numbers([written(1, 5), written(1, 7), written(1, 8)]), [5]);
        assert_eq!(numbers([written(1, 5), written(1, 5), written(1, 6)]), [5]);
    }
}
