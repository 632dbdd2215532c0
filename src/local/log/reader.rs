//! Reads the frames of a segment in parts, so that opening a store takes memory for one part and
//! one frame, however long the segment is.

use std::io;

use super::frame::{ALIGN, Checksum, Frame, HEADER_LEN, Head, MAGIC};
use super::segment::StoreSecret;
use crate::canary;
use crate::local::disk::DiskFile;

/// Bytes that are read at one time.
const PART_LEN: usize = 64 * 1024;

pub(crate) struct Reader<'l> {
    file: &'l dyn DiskFile,
    /// The end of the space for frames.
    end: u64,
    key: &'l StoreSecret,
    /// The part that was read last, and its offset.
    part: Vec<u8>,
    part_at: u64,
}

impl<'l> Reader<'l> {
    pub(super) fn new(file: &'l dyn DiskFile, end: u64, key: &'l StoreSecret) -> Self {
        Self { file, end, key, part: Vec::new(), part_at: 0 }
    }

    /// The bytes from this offset on that are in memory, after reading a part if necessary: at
    /// least `len`, if a part and the file have that many.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let skipped = |part_at: u64| usize::try_from(at.checked_sub(part_at)?).ok();
        let is_there = |skip: usize| skip.saturating_add(len) <= self.part.len();
        if !skipped(self.part_at).is_some_and(is_there) {
            let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            self.part.resize(left.min(PART_LEN), 0);
            self.part_at = at;
            self.file.read_at(at, &mut self.part)?;
        }
        Ok(skipped(self.part_at).and_then(|skip| self.part.get(skip..)).unwrap_or_default())
    }

    /// The header of the frame at this offset, if the frame is valid. A false length costs no
    /// memory.
    pub(crate) fn head(&mut self, at: u64) -> io::Result<Option<Head>> {
        let Some(header) = self.bytes(at, HEADER_LEN)?.first_chunk().copied() else {
            return Ok(None);
        };
        let Some(head) = Head::decode(&header) else { return Ok(None) };
        let (mut from, mut left) = (at + HEADER_LEN as u64, head.payload_len as usize);
        if self.end - from < left as u64 {
            return Ok(None);
        }
        let mut checksum = Checksum::new(self.key, &header);
        while 0 < left {
            let step = left.min(PART_LEN);
            checksum.update(self.bytes(from, step)?.get(..step).expect("so many were read"));
            from += step as u64;
            left -= step;
        }
        Ok(checksum.is_right().then_some(head))
    }

    /// The whole frame at this offset, if it is valid.
    fn frame(&mut self, at: u64) -> io::Result<Option<Frame>> {
        let Some(head) = self.head(at)? else { return Ok(None) };
        let (from, len) = (at + HEADER_LEN as u64, head.payload_len as usize);
        let payload = if len <= PART_LEN {
            self.bytes(from, len)?.get(..len).expect("so many were read").to_vec()
        } else {
            let mut payload = vec![0; len];
            self.file.read_at(from, &mut payload)?;
            payload
        };
        Ok(Some(Frame { head, payload }))
    }

    /// The frames of one use of a segment, starting at this offset, with nothing in between.
    pub(crate) fn frames(mut self, mut at: u64) -> impl Iterator<Item = io::Result<Frame>> {
        let mut before: Option<Head> = None;
        std::iter::from_fn(move || {
            let next = match self.frame(at) {
                Ok(next) => next?,
                Err(error) => return Some(Err(error)),
            };
            let follows = |it: Head| {
                (next.head.salt, next.head.number) == (it.salt, it.number.wrapping_add(1))
            };
            if !before.is_none_or(follows) && !canary::sings("takes stale frames") {
                return None;
            }
            before = Some(next.head);
            at += next.head.frame_len();
            Some(Ok(next))
        })
    }

    /// The first valid frame at or after this offset, whatever comes before it, and where the frame
    /// ends.
    pub(crate) fn find(&mut self, mut at: u64) -> io::Result<Option<(Head, u64)>> {
        while at < self.end {
            let bytes = self.bytes(at, ALIGN)?;
            let zeros = zeros(bytes);
            if 0 < zeros {
                at += zeros as u64;
                continue;
            }
            // Most of a segment isn't the start of a frame, and is skipped eight bytes at a time.
            let Some(place) = bytes.chunks_exact(ALIGN).position(|it| it.starts_with(&MAGIC))
            else {
                at += (bytes.len() / ALIGN).max(1) as u64 * ALIGN as u64;
                continue;
            };
            at += (place * ALIGN) as u64;
            if let Some(head) = self.head(at)? {
                return Ok(Some((head, at + head.frame_len())));
            }
            at += ALIGN as u64;
        }
        Ok(None)
    }
}

/// How many bytes at the start are whole pages of zeros, which make up most of a segment. Comparing
/// equal slices is fast, even in an unoptimised build.
fn zeros(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks_exact(ZEROS.len()).take_while(|page| *page == ZEROS).count() * ZEROS.len()
}
