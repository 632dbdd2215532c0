//! Unpredictable values from the operating system's generator.

use std::io;

/// Random bytes.
pub(crate) fn bytes<const LEN: usize>() -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(bytes)
}

/// A random number.
pub(crate) fn number() -> io::Result<u64> {
    bytes().map(u64::from_le_bytes)
}
