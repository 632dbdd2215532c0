//! The 16 bytes that the live table spends on a key at rest.

use crate::clock::Timestamp;
use crate::limits::PACKED_BITS;
use crate::local::change::RecordId;

/// The place of a key's record, whether its operation is only started, and 31 bits of the key's
/// hash. Other bits of the hash choose the shard, so that more than those 31 must agree before a
/// record is read in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The expiry in the upper 48 bits, and the upper 16 bits of the serial number below it.
    high: u64,
    /// The lower 32 bits of the serial number, one bit that is set if the operation is started, and
    /// the lower 31 bits of the hash.
    low: u64,
}

const HASH_MASK: u64 = 0x7FFF_FFFF;
const STARTED: u64 = 0x8000_0000;

const SERIAL_HIGH_BITS: u32 = 16;
const _: () = assert!(PACKED_BITS + SERIAL_HIGH_BITS == u64::BITS);
const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    pub(crate) fn new(hash: u64, id: RecordId, started: bool) -> Self {
        Self {
            high: id.expires_at.as_unix_ms() << SERIAL_HIGH_BITS | id.serial >> 32,
            low: id.serial << 32 | if started { STARTED } else { 0 } | hash & HASH_MASK,
        }
    }

    pub(crate) fn is_started(self) -> bool {
        self.low & STARTED != 0
    }

    /// Whether this is the entry of that record, started or completed.
    pub(crate) fn is_of(self, hash: u64, id: RecordId) -> bool {
        self.is_same_record(Self::new(hash, id, false))
    }

    /// Whether both are entries of the same record, started or completed.
    pub(crate) fn is_same_record(self, other: Self) -> bool {
        self.high == other.high && (self.low ^ other.low) & !STARTED == 0
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

    /// The hash by which a shard's table orders its entries, computed from the bits that are kept.
    pub(crate) fn table_hash(self) -> u64 {
        table_hash(self.low)
    }
}

/// Spreads the 31 bits that an [`Entry`] keeps of a hash over all 64 (Fibonacci hashing), since the
/// table uses both ends of the number.
pub(crate) fn table_hash(hash: u64) -> u64 {
    (hash & HASH_MASK).wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
                for started in [false, true] {
                    let entry = Entry::new(0xABCD_EF01_2345_6789, id, started);
                    assert_eq!(entry.id(), id);
                    assert_eq!(entry.is_started(), started);
                    assert!(entry.agrees_with(0x0000_0000_A345_6789));
                    assert!(!entry.agrees_with(0xABCD_EF01_2345_6788));
                    assert!(entry.is_of(0x2345_6789, id));
                    assert!(!entry.is_of(0x2345_6788, id));
                    assert!(!entry.is_of(0x2345_6789, RecordId { serial: 2, ..id }));
                    assert!(entry.is_same_record(Entry::new(0x2345_6789, id, true)));
                }
            }
        }
    }
}
