//! The 16 bytes that the live table spends on a key at rest.

use crate::clock::Timestamp;
use crate::limits::PACKED_BITS;
use crate::record::RecordId;

/// Where a key's record stands, and 32 bits of the key's hash. The other bits of the hash choose
/// the shard, so that more than those 32 must agree before a record is read in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Expiry in the upper 48 bits, the upper 16 bits of the serial number below.
    high: u64,
    /// The lower 32 bits of the serial number, and of the hash.
    low: u64,
}

const SERIAL_HIGH_BITS: u32 = 16;
const _: () = assert!(PACKED_BITS + SERIAL_HIGH_BITS == u64::BITS);
const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    pub(crate) fn new(hash: u64, id: RecordId) -> Self {
        Self {
            high: id.expires_at.as_unix_ms() << SERIAL_HIGH_BITS | id.serial >> 32,
            low: id.serial << 32 | hash & 0xFFFF_FFFF,
        }
    }

    pub(crate) fn id(self) -> RecordId {
        RecordId {
            expires_at: Timestamp::from_unix_ms(self.high >> SERIAL_HIGH_BITS),
            serial: (self.high & 0xFFFF) << 32 | self.low >> 32,
        }
    }

    pub(crate) fn agrees_with(self, hash: u64) -> bool {
        table_hash(self.low) == table_hash(hash)
    }

    /// The hash by which a table within a shard orders its entries, from the bits that are kept.
    pub(crate) fn table_hash(self) -> u64 {
        table_hash(self.low)
    }
}

/// Spreads the 32 bits that an [`Entry`] keeps of a hash over all 64 (Fibonacci hashing), since
/// the table looks at both ends of the number.
pub(crate) fn table_hash(hash: u64) -> u64 {
    (hash & 0xFFFF_FFFF).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_both_ranges_come_back() {
        let ends = [0, 1, (1 << PACKED_BITS) - 1];
        for expiry in ends {
            for serial in ends {
                let id = RecordId { expires_at: Timestamp::from_unix_ms(expiry), serial };
                let entry = Entry::new(0xABCD_EF01_2345_6789, id);
                assert_eq!(entry.id(), id);
                assert!(entry.agrees_with(0x0000_0000_2345_6789));
                assert!(!entry.agrees_with(0xABCD_EF01_2345_6788));
            }
        }
    }
}
