//! A segment: one file of the log, filled with zeros in advance.
//!
//! Every byte that a frame can occupy has been written and synced before, so that a later fdatasync
//! has no new block and no new length to record. A segment starts short, and grows after it has
//! been filled. Its first page holds format, store and lengths. Frames start at the second page.

use std::io;

use super::header::{self, Header};
use super::reader::Reader;
use crate::canary;
use crate::error::{OpenError, is_full};
use crate::local::disk::{Disk, DiskFile};
use crate::sync::Arc;

/// The offset of the first frame.
pub(crate) const FRAMES_AT: u64 = 4096;

/// The secret of one store. It distinguishes the store's log from any other log, and without it
/// nobody can forge a frame just by choosing what is stored.
pub(crate) type StoreSecret = [u8; 32];

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    file: Arc<dyn DiskFile>,
    header: Header,
    /// Which of the two copies of the header is the newer.
    place: usize,
    /// Length of the file. After a failed growth, it may be more than the header says.
    file_len: u64,
}

impl Segment {
    /// Creates a new segment, and makes it durable.
    pub(crate) fn create(
        disk: &dyn Disk,
        name: &str,
        key: &StoreSecret,
        len_max: u64,
        len: u64,
    ) -> Result<(), OpenError> {
        let written = || -> io::Result<()> {
            let file = disk.create(name)?;
            write_zeros(&*file, 0, len)?;
            file.write_at(0, &Header { len_max, len }.page(key))?;
            file.sync()
        };
        written().map_err(|error| OpenError::io("create the log", error))
    }

    /// Opens an existing segment.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &'static str,
        key: &StoreSecret,
    ) -> Result<Self, OpenError> {
        let corrupt = |detail: &str| OpenError::Corrupt { file: name, detail: detail.to_owned() };
        let unreadable = |error| OpenError::io("read the log", error);
        let file = match disk.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt("it is missing"));
            }
            opened => opened.map_err(|error| OpenError::io("open the log", error))?,
        };
        let file_len = file.len().map_err(unreadable)?;
        if file_len < FRAMES_AT {
            return Err(corrupt("it was cut short"));
        }
        let mut page = [0; header::PAGE_LEN];
        file.read_at(0, &mut page).map_err(unreadable)?;
        let header::Found { header, place } = header::find(&page, file_len, key, name)?;
        Ok(Self { file, header, place, file_len })
    }

    /// Bytes available for frames.
    pub(crate) fn capacity(&self) -> u64 {
        self.header.len - FRAMES_AT
    }

    /// Length of the file in bytes.
    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The greatest length to which it can grow.
    pub(crate) fn len_max(&self) -> u64 {
        self.header.len_max
    }

    /// Reads the frames, up to the end of the file: if the header copy with the greater length has
    /// rotted, the frames beyond the other copy's length still count.
    pub(crate) fn reader<'l>(&'l self, key: &'l StoreSecret) -> Reader<'l> {
        Reader::new(&*self.file, self.file_len, key)
    }

    /// Writes a frame, `offset` bytes after the first frame.
    pub(crate) fn write(&self, offset: u64, frame: &[u8]) -> io::Result<()> {
        self.file.write_at(FRAMES_AT + offset, frame)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if canary::sings("answers before the fsync") { Ok(()) } else { self.file.sync() }
    }

    /// Doubles the length, up to the greatest length.
    pub(crate) fn double(&mut self, key: &StoreSecret) -> io::Result<()> {
        self.grow(key, self.header.len * 2)
    }

    /// Extends the segment to this length, or to its greatest length if that is less. It must not
    /// be written in the meantime, and the vault must have everything that it holds.
    ///
    /// If it fails for [lack of room](is_want_of_room), the segment keeps its length, and the space
    /// that was allocated is given back: the vault may need it.
    pub(crate) fn grow(&mut self, key: &StoreSecret, len: u64) -> io::Result<()> {
        let grown = Header { len: len.min(self.header.len_max), ..self.header };
        if grown.len <= self.header.len {
            return Ok(());
        }
        let lengthened =
            write_zeros(&*self.file, self.header.len, grown.len).and_then(|()| self.file.sync());
        if let Err(error) = lengthened {
            if is_want_of_room(&error) {
                self.file.set_len(self.file_len)?;
                self.file.sync()?;
            }
            return Err(error);
        }
        // The file keeps this length from here on, since the header may already say so.
        self.file_len = self.file_len.max(grown.len);
        let place = 1 - self.place;
        let at = if place == 0 { header::PLACES[0] } else { header::PLACES[1] };
        self.file.write_at(at as u64, &grown.encode(key))?;
        self.file.sync()?;
        (self.header, self.place) = (grown, place);
        Ok(())
    }
}

/// Whether the file cannot grow, but is otherwise fine.
pub(crate) fn is_want_of_room(error: &io::Error) -> bool {
    is_full(error) || error.kind() == io::ErrorKind::FileTooLarge
}

fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 256 * 1024];
    let mut offset = from;
    while offset < to {
        let step = usize::try_from(to - offset).unwrap_or(usize::MAX).min(zeros.len());
        file.write_if_room_at(
            offset,
            zeros.get(..step).expect("a step has at most as many bytes"),
        )?;
        offset += step as u64;
    }
    Ok(())
}
