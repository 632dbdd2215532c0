//! The first page of a segment: its format, its store, and its lengths.
//!
//! The header is stored twice, in two sectors. When a segment grows, the bytes that make the file
//! longer are made durable first; then the new length overwrites the older of the two copies. So
//! whatever a crash leaves of that sector, the other copy is intact and still true: the file is *at
//! least* that long. An invalid copy is a sign of a crash only if the file is longer than the other
//! copy says; otherwise the header is damaged.

use super::segment::{FRAMES_AT, StoreSecret};
use crate::error::OpenError;
use crate::limits::LOG_BYTES_MAX;

const MAGIC: [u8; 8] = *b"idemlog\0";
const VERSION: u32 = 2;
/// A segment of this version has only one copy of the header, and has its greatest length from the
/// start.
const VERSION_WHOLE: u32 = 1;
/// Magic, version, maximum length, length so far, and the owner's mark.
pub(super) const LEN: usize = 8 + 4 + 8 + 8 + 32;
/// The offsets of the copies.
pub(super) const PLACES: [usize; 2] = [0, PAGE_LEN / 2];
pub(super) const PAGE_LEN: usize = 4096;
const _: () = assert!(PAGE_LEN as u64 == FRAMES_AT);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len_max: u64,
    /// The end of the space for frames.
    pub(super) len: u64,
}

/// A header, and the copy it was found in.
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) place: usize,
}

impl Header {
    pub(super) fn encode(self, key: &StoreSecret) -> [u8; LEN] {
        let lens = [self.len_max.to_le_bytes(), self.len.to_le_bytes()].concat();
        let mark = mark(key, &lens);
        let bytes = MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain(lens).chain(mark);
        let mut header = [0; LEN];
        header.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        header
    }

    /// The first page of a new segment.
    pub(super) fn page(self, key: &StoreSecret) -> Vec<u8> {
        let mut half = self.encode(key).to_vec();
        half.resize(PAGE_LEN / 2, 0);
        half.repeat(2)
    }

    /// Decodes a copy, if it is intact and belongs to this store.
    fn decode(copy: &[u8], key: &StoreSecret) -> Option<Self> {
        let (magic, rest) = copy.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (lens, rest) = rest.split_first_chunk::<16>()?;
        let (len_max, len) = lens.split_first_chunk::<8>()?;
        let is_ours = *magic == MAGIC
            && *version == VERSION.to_le_bytes()
            && *rest.first_chunk::<32>()? == mark(key, lens);
        is_ours.then_some(Self {
            len_max: u64::from_le_bytes(*len_max),
            len: u64::from_le_bytes(*len.first_chunk()?),
        })
    }
}

/// Reads the header from the first page of a file of this length.
pub(super) fn find(
    page: &[u8; PAGE_LEN],
    file_len: u64,
    key: &StoreSecret,
    name: &'static str,
) -> Result<Found, OpenError> {
    let corrupt = |detail: &str| OpenError::Corrupt { file: name, detail: detail.to_owned() };
    let (first, second) = page.split_at(PAGE_LEN / 2);
    let version = version(first);
    match version {
        Some(VERSION_WHOLE) => return find_whole(first, file_len, key, name),
        None | Some(VERSION) => {}
        Some(found) => {
            return Err(OpenError::UnsupportedVersion { file: name, found, supported: VERSION });
        }
    }
    let [first, second] = [first, second].map(|copy| Header::decode(copy, key));
    let (header, place) = match (first, second) {
        (Some(first), second) if second.is_none_or(|second| second.len <= first.len) => (first, 0),
        (_, Some(second)) => (second, 1),
        (_, None) if version.is_none() => return Err(OpenError::NotAStore { file: name }),
        (_, None) => return Err(corrupt("it belongs to another store")),
    };
    check_lengths(header, file_len).map_err(corrupt)?;
    if (first.is_none() || second.is_none()) && file_len == header.len {
        return Err(corrupt("its header is damaged"));
    }
    Ok(Found { header, place })
}

fn check_lengths(header: Header, file_len: u64) -> Result<(), &'static str> {
    let Header { len_max, len } = header;
    if file_len < len {
        // Frames could be missing without a trace.
        Err("it is shorter than it was")
    } else if len_max < file_len {
        Err("it is longer than it can be")
    } else if len < FRAMES_AT || LOG_BYTES_MAX / 2 < len_max {
        Err("it has a length that no segment can have")
    } else {
        Ok(())
    }
}

/// The version in a copy, if it is a header at all.
fn version(copy: &[u8]) -> Option<u32> {
    let (magic, rest) = copy.split_first_chunk::<8>()?;
    let version = rest.first_chunk::<4>()?;
    (*magic == MAGIC).then_some(u32::from_le_bytes(*version))
}

/// Reads the header of a segment that had its greatest length from the start.
fn find_whole(
    copy: &[u8],
    file_len: u64,
    key: &StoreSecret,
    name: &'static str,
) -> Result<Found, OpenError> {
    let corrupt = |detail: &str| OpenError::Corrupt { file: name, detail: detail.to_owned() };
    let Some(len) = copy.get(12..20).filter(|len| **len == file_len.to_le_bytes()) else {
        return Err(corrupt("its length is not the one it was created with"));
    };
    if copy.get(20..52) != Some(&mark(key, len)) {
        return Err(corrupt("it belongs to another store"));
    }
    Ok(Found { header: Header { len_max: file_len, len: file_len }, place: 0 })
}

/// The part of the header that only the store with this key can have written.
fn mark(key: &StoreSecret, lens: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"idemstore log segment").update(lens);
    *hasher.finalize().as_bytes()
}
