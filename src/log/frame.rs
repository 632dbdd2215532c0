//! Frames: what one batch is in the log.
//!
//! | bytes | what, little-endian |
//! |---|---|
//! | 0..4 | magic `ifrm` |
//! | 4..8 | length of the payload |
//! | 8..16 | salt of this use of the segment |
//! | 16..24 | number of the frame: one more than the frame before it, never used twice |
//! | 24..32 | the store's time when it was written, Unix milliseconds |
//! | 32..48 | BLAKE3 over bytes 0..32 and the payload, keyed with the store's own key |
//! | 48.. | marks, the wall and changes, each behind its length in four bytes; then zeros up to a multiple of 8 |
//!
//! A frame is written only when the one before it is durable. So a valid frame *proves* that all
//! before it were acknowledged: what is invalid with a valid frame behind it has rotted, and only
//! what is invalid at the very end is the torn tail that nobody was told of.
//!
//! The one frame that is written and not synced is that of a mark, which so is a part of that tail:
//! the next frame is written over it, with the same number and with its mark.

use crate::clock::Timestamp;

pub(crate) const HEADER_LEN: usize = 48;
const MAGIC: [u8; 4] = *b"ifrm";
const ALIGN: usize = 8;

/// The number of a frame. It is never 0, so that a new store has settled a frame before its first.
pub(crate) type FrameNumber = u64;

/// A whole frame, read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) number: FrameNumber,
    pub(crate) salt: u64,
    pub(crate) at: Timestamp,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes that the frame takes in its segment.
    pub(crate) fn len(&self) -> usize {
        frame_len(self.payload.len())
    }

    /// The encoded marks and changes, in order; `None` in place of one whose length does not fit.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = self.payload;
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

/// What can stand in a frame.
pub(crate) trait Put {
    /// Writes its bytes behind what is there.
    fn put(self, out: &mut Vec<u8>);
}

impl Put for &[u8] {
    fn put(self, out: &mut Vec<u8>) {
        out.extend(self);
    }
}

/// Writes the frame of a batch into `out`, instead of what it held.
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
    let payload_len = u32::try_from(out.len() - HEADER_LEN).unwrap_or(u32::MAX);
    assert!(payload_len < u32::MAX, "a batch is bounded, see `limits`");
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

/// A change, with its length in front.
fn put_with_len(out: &mut Vec<u8>, change: impl Put) {
    let before = out.len();
    out.extend([0; 4]);
    change.put(out);
    let len = u32::try_from(out.len() - before - 4).unwrap_or(u32::MAX);
    assert!(len < u32::MAX, "a change is bounded by RESULT_LEN_MAX, which `limits` relates to u32");
    out.iter_mut().skip(before).zip(len.to_le_bytes()).for_each(|(to, from)| *to = from);
}

/// The valid frame at the start of `bytes`, if there is one.
pub(crate) fn decode<'a>(bytes: &'a [u8], key: &[u8; 32]) -> Option<Frame<'a>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let (magic, fields) = header.split_first_chunk::<4>()?;
    if *magic != MAGIC {
        return None;
    }
    let (len, fields) = fields.split_first_chunk::<4>()?;
    let (salt, fields) = fields.split_first_chunk::<8>()?;
    let (number, fields) = fields.split_first_chunk::<8>()?;
    let (at, checksum) = fields.split_first_chunk::<8>()?;
    let payload = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let (covered, _) = header.split_at(HEADER_LEN - 16);
    (frame_checksum(key, covered, payload) == *checksum).then(|| Frame {
        number: u64::from_le_bytes(*number),
        salt: u64::from_le_bytes(*salt),
        at: Timestamp::from_unix_ms(u64::from_le_bytes(*at)),
        payload,
    })
}

fn frame_checksum(key: &[u8; 32], fields: &[u8], payload: &[u8]) -> [u8; 16] {
    let mut checksum = [0; 16];
    blake3::Hasher::new_keyed(key)
        .update(fields)
        .update(payload)
        .finalize_xof()
        .fill(&mut checksum);
    checksum
}

/// Every valid frame anywhere in `bytes`, whatever lies between them.
pub(crate) fn find_all<'a>(bytes: &'a [u8], key: &[u8; 32]) -> impl Iterator<Item = Frame<'a>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            rest = skip_zeros(rest);
            // Most of a segment is no frame, and is passed over eight bytes at a time.
            let at = rest.chunks_exact(ALIGN).position(|bytes| bytes.starts_with(&MAGIC))?;
            rest = rest.get(at * ALIGN..)?;
            let frame = decode(rest, key);
            rest = rest.get(frame.as_ref().map_or(ALIGN, Frame::len)..).unwrap_or_default();
            if frame.is_some() {
                return frame;
            }
        }
    })
}

/// Passes over pages of zeros, of which a segment mostly consists. Equal slices are compared fast,
/// also in a build that is not optimised.
fn skip_zeros(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; 4096] = [0; 4096];
    let zeros = bytes.chunks_exact(ZEROS.len()).take_while(|page| *page == ZEROS).count();
    bytes.get(zeros * ZEROS.len()..).unwrap_or_default()
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
    fn a_frame_comes_back_as_it_was() {
        let bytes = frame(9, &[b"one", b"", b"three"]);
        let read = decode(&bytes, &KEY).expect("it is valid");
        assert_eq!((read.number, read.salt, read.at.as_unix_ms()), (9, 5, 1_000));
        assert_eq!(read.len(), bytes.len());
        let changes: Vec<_> = read.changes().collect();
        assert_eq!(changes, [Some(&b"one"[..]), Some(b""), Some(b"three")]);
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
        assert_eq!(bytes, crate::codec::from_hex(golden));
    }

    #[test]
    fn every_bit_counts() {
        let bytes = frame(1, &[b"payload"]);
        let covered = HEADER_LEN + 4 + 7;
        for bit in 0..covered * 8 {
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            assert_eq!(decode(&flipped, &KEY), None, "bit {bit}");
        }
    }

    #[test]
    fn every_cut_and_every_other_key_is_noticed() {
        let bytes = frame(1, &[b"payload!"]);
        let covered = HEADER_LEN + 4 + 8;
        for len in 0..covered {
            assert_eq!(decode(bytes.get(..len).expect("it is shorter"), &KEY), None);
        }
        assert_eq!(decode(&bytes, &[8; 32]), None);
    }

    #[test]
    fn frames_are_found_behind_rot() {
        let mut bytes = frame(1, &[b"first"]);
        if let Some(byte) = bytes.get_mut(50) {
            *byte ^= 1;
        }
        bytes.extend(frame(2, &[b"second"]));
        bytes.extend([0; 64]);
        let numbers: Vec<_> = find_all(&bytes, &KEY).map(|frame| frame.number).collect();
        assert_eq!(numbers, [2]);
    }
}
