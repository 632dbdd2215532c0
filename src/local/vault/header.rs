//! Checks the first page of redb's file before redb reads it.
//!
//! redb allocates what the page numbers in the first page ask for, before it reads those pages.

use std::io;

use crate::local::disk::DiskFile;

const LEN: usize = 64 + 2 * SLOT_LEN;
const SLOT_LEN: usize = 128;
const PAGE_SIZE_AT: usize = 12;
/// Offsets within a slot: whether there is a root, and its page number.
const ROOTS: [(usize, usize); 2] = [(1, 8), (2, 40)];

/// Whether each root page that the header names can be within a file of this length. A file without
/// a header of redb is left to redb to refuse.
pub(super) fn is_within(file: &dyn DiskFile) -> io::Result<bool> {
    let mut header = [0; LEN];
    let len = file.len()?;
    if len < LEN as u64 {
        return Ok(true);
    }
    file.read_at(0, &mut header)?;
    let (head, slots) = header.split_at(64);
    let page_size = u64::from(u32::from_le_bytes(at(head, PAGE_SIZE_AT)));
    let fits = |number: u64| (page_size << order(number)) <= len;
    let in_slot = |slot: &[u8]| {
        ROOTS.into_iter().all(|(there, number)| {
            slot.get(there) == Some(&0) || fits(u64::from_le_bytes(at(slot, number)))
        })
    };
    Ok(slots.chunks(SLOT_LEN).all(in_slot))
}

/// A page is 2^order times as long as the smallest page. The order is in the upper five bits of the
/// page number.
fn order(number: u64) -> u64 {
    number >> 59
}

fn at<const LEN: usize>(bytes: &[u8], from: usize) -> [u8; LEN] {
    let found = bytes.get(from..).and_then(|bytes| bytes.first_chunk());
    *found.expect("the header is longer than each place in it")
}
