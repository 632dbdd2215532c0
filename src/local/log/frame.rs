//! Frames: the form of a batch in the log.
//!
//! | bytes | what, little-endian |
//! |---|---|
//! | 0..4 | magic `ifrm` |
//! | 4..8 | length of the payload |
//! | 8..16 | salt of this use of the segment |
//! | 16..24 | number of the frame: one more than the frame before it, never used twice |
//! | 24..32 | the store's time when it was written, Unix milliseconds |
//! | 32..48 | BLAKE3 over bytes 0..32 and the payload, keyed with the store's own key |
//! | 48.. | marks, the wall and changes, each preceded by its length in four bytes; then zeros up to a multiple of 8 |
//!
//! A frame is written only once the one before it is durable. So a valid frame *proves* that all
//! frames before it were acknowledged. If invalid bytes are followed by a valid frame, they have
//! rotted. Only invalid bytes at the very end are the torn tail, which was never acknowledged.
//!
//! A mark's frame is the only one that is written without a sync, so it belongs to that torn tail:
//! the next frame overwrites it, with the same number, and repeats its mark.

use crate::clock::Timestamp;

pub(crate) const HEADER_LEN: usize = 48;
pub(super) const MAGIC: [u8; 4] = *b"ifrm";
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;

/// The number of a frame. It is never 0, so that 0 can be the last settled frame of a new store.
pub(crate) type FrameNumber = u64;

/// The contents of a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: FrameNumber,
    pub(crate) salt: u64,
    pub(crate) at: Timestamp,
    pub(super) payload_len: u32,
}

impl Head {
    /// Decodes the header of a frame. Only the checksum shows whether it's valid.
    pub(super) fn decode(header: &[u8; HEADER_LEN]) -> Option<Self> {
        let (magic, fields) = header.split_first_chunk::<4>()?;
        if *magic != MAGIC {
            return None;
        }
        let (len, fields) = fields.split_first_chunk::<4>()?;
        let (salt, fields) = fields.split_first_chunk::<8>()?;
        let (number, fields) = fields.split_first_chunk::<8>()?;
        let at = fields.first_chunk::<8>()?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            salt: u64::from_le_bytes(*salt),
            at: Timestamp::from_unix_ms(u64::from_le_bytes(*at)),
            payload_len: u32::from_le_bytes(*len),
        })
    }

    /// Bytes that the frame takes up in its segment.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(self.payload_len as usize) as u64
    }
}

/// A whole frame, read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) head: Head,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The encoded items (marks, the wall and changes), in order; `None` for an item whose length
    /// doesn't fit.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.payload.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let change = split_change(rest);
            rest = change.map_or(&[], |(_, rest)| rest);
            Some(change.map(|(change, _)| change))
        })
    }
}

fn split_change(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = payload.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

/// Bytes of a change within a payload.
pub(crate) const fn change_len(encoded: usize) -> usize {
    4 + encoded
}

/// Bytes of a frame with this payload.
pub(crate) fn frame_len(payload: usize) -> usize {
    (HEADER_LEN + payload).next_multiple_of(ALIGN)
}

/// An item of a frame.
pub(crate) trait Put {
    /// Appends its bytes to `out`.
    fn put(self, out: &mut Vec<u8>);
}

impl Put for &[u8] {
    fn put(self, out: &mut Vec<u8>) {
        out.extend(self);
    }
}

/// Encodes the frame of a batch into `out`, replacing its contents.
pub(crate) fn encode<P: Put>(
    out: &mut Vec<u8>,
    key: &[u8; 32],
    salt: u64,
    number: FrameNumber,
    at: Timestamp,
    changes: impl IntoIterator<Item = P>,
) {
    out.clear();
    out.resize(HEADER_LEN, 0);
    for change in changes {
        put_with_len(out, change);
    }
    let payload_len =
        u32::try_from(out.len() - HEADER_LEN).expect("a batch is bounded, see `limits`");
    let (header, payload) = out.split_at_mut(HEADER_LEN);
    let fields = MAGIC
        .into_iter()
        .chain(payload_len.to_le_bytes())
        .chain(salt.to_le_bytes())
        .chain(number.to_le_bytes())
        .chain(at.as_unix_ms().to_le_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    let (fields, checksum) = header.split_at_mut(HEADER_LEN - 16);
    checksum.copy_from_slice(&frame_checksum(key, fields, payload));
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// Appends a change, with its length in front.
fn put_with_len(out: &mut Vec<u8>, change: impl Put) {
    let before = out.len();
    out.extend([0; 4]);
    change.put(out);
    let len = u32::try_from(out.len() - before - 4)
        .expect("a change is bounded by RESULT_LEN_MAX, which `limits` relates to u32");
    out.iter_mut().skip(before).zip(len.to_le_bytes()).for_each(|(to, from)| *to = from);
}

/// The checksum of a frame whose payload is read in parts.
pub(super) struct Checksum {
    hasher: blake3::Hasher,
    /// The checksum in the header.
    written: [u8; 16],
}

impl Checksum {
    pub(super) fn new(key: &[u8; 32], header: &[u8; HEADER_LEN]) -> Self {
        let (fields, checksum) = header.split_at(HEADER_LEN - 16);
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(fields);
        let mut written = [0; 16];
        written.copy_from_slice(checksum);
        Self { hasher, written }
    }

    pub(super) fn update(&mut self, payload: &[u8]) {
        self.hasher.update(payload);
    }

    /// Whether the header has the checksum of everything that was added.
    pub(super) fn is_right(&self) -> bool {
        finish(&self.hasher) == self.written
    }
}

fn frame_checksum(key: &[u8; 32], fields: &[u8], payload: &[u8]) -> [u8; 16] {
    finish(blake3::Hasher::new_keyed(key).update(fields).update(payload))
}

fn finish(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut checksum = [0; 16];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn frame(number: FrameNumber, changes: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0xAA; 3];
        let at = Timestamp::from_unix_ms(1_000);
        encode(&mut out, &KEY, 5, number, at, changes.iter().copied());
        out
    }

    #[test]
    fn the_bytes_of_a_frame_stay_what_they_are() {
        let bytes = frame(9, &[b"one", b"", b"three"]);
        // Magic, payload length, salt, number, time, checksum, payload.
        let golden = "6966726d\
            14000000\
            0500000000000000\
            0900000000000000\
            e803000000000000\
            b57488d06287b3a49e40a9dc3330c113\
            030000006f6e650000000005000000746872656500000000";
        assert_eq!(bytes, crate::local::codec::from_hex(golden));
    }
}
