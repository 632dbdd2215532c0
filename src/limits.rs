//! Every bound of the store, and the relations between them.

/// Longest idempotency key, in bytes.
pub const KEY_LEN_MAX: usize = 255;

/// Longest scope of a key, in bytes.
pub const SCOPE_LEN_MAX: usize = 255;

/// Longest result by default, in bytes.
pub const RESULT_LEN_DEFAULT: usize = 1024 * 1024;

/// Longest result that a store can be configured for, in bytes.
pub const RESULT_LEN_MAX: usize = 64 * 1024 * 1024;

/// Most bytes of the write-ahead log on disk by default: two segments of half of it.
pub const LOG_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// Smallest log that a store can be configured for, in bytes.
pub const LOG_BYTES_MIN: u64 = 64 * 1024;

/// Largest log that a store can be configured for, in bytes.
pub const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Memory that redb may use as its page cache by default, in bytes.
pub const CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// Most keys that a store keeps by default: about 2.3 GB of memory when full.
pub const KEYS_MAX_DEFAULT: usize = 100_000_000;

/// Most operations that one fsync makes durable together.
pub(crate) const BATCH_ITEMS_MAX: usize = 1024;

/// Most bytes of a batch of several operations; a longer one is a batch of its own. A smaller
/// log bounds it further.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Most starts that wait for an fsync at one time; one more is refused as overloaded.
pub(crate) const STARTS_MAX: usize = 64 * 1024;

/// Most bytes of several starts that wait, where an operation is completed without a start of its own.
pub(crate) const STARTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most bytes of several results and checkpoints that are copied for the log and not written yet.
pub(crate) const PLACED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A result or a checkpoint of so many bytes is copied at once: an operation takes as much anyway.
pub(crate) const UNPLACED_LEN_MAX: usize = 1024;

/// The least of the disk that a store keeps for itself, in bytes: the commits of a sweep and of a settle
/// fit, as long as the vault is small.
pub(crate) const KEPT_BYTES_MIN: u64 = 256 * 1024;

/// The part of the vault's file that its commits write beside what they change: redb stores which of its
/// pages are free.
pub(crate) const KEPT_PART: u64 = 1024;

/// The most of the disk that a store keeps for itself, in bytes: the longest results by default of 512
/// operations.
pub(crate) const KEPT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Most changes that wait in one log segment to be settled. It bounds the memory of a segment
/// that is full of very small changes.
pub(crate) const SEGMENT_CHANGES_MAX: usize = 256 * 1024;

/// A result longer than this is stored beside its record, which keeps the scan at open narrow.
pub(crate) const RESULT_INLINE_MAX: usize = 512;

/// Most expired records that one slice of a sweep looks at, and deletes in one transaction. A writer may
/// have to wait for one.
pub(crate) const SWEEP_RECORDS_MAX: usize = 4 * 1024;

/// A slice is full once the results that it deletes have so many bytes, which redb reads first. Those
/// that stand in their records do not count.
pub(crate) const SWEEP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most records that a listing reads at one time.
pub(crate) const LIST_RECORDS_MAX: usize = 1024;

/// Most bytes that an operation takes in the log beside its result: scope, key, fingerprint,
/// times, numbers and the lengths in front of them.
pub(crate) const CHANGE_OVERHEAD_MAX: usize = 1024;

/// What a segment of the log keeps free beside the longest result: its first page, two changes' worth
/// of overhead, and the marks around them.
const SEGMENT_OVERHEAD: u64 = 4096 + 2 * CHANGE_OVERHEAD_MAX as u64 + 136;

/// The bytes that a segment starts with: enough for the longest result that the store takes, and for
/// a batch. It grows up to half of the log's bytes.
pub(crate) const fn segment_len(log_bytes: u64, result_len_max: usize) -> u64 {
    const PAGE: u64 = 4096;
    let longest = if result_len_max < BATCH_BYTES_MAX { BATCH_BYTES_MAX } else { result_len_max };
    let len = (longest as u64 + SEGMENT_OVERHEAD).next_multiple_of(PAGE);
    if len < log_bytes / 2 { len } else { log_bytes / 2 }
}

/// The longest result that a store can be configured for whose log has so many bytes.
pub(crate) const fn result_len_max(log_bytes: u64) -> u64 {
    let fits = (log_bytes / 2).saturating_sub(SEGMENT_OVERHEAD);
    if fits < RESULT_LEN_MAX as u64 { fits } else { RESULT_LEN_MAX as u64 }
}

/// Bits of a record's serial number and of its expiry in the live table.
pub(crate) const PACKED_BITS: u32 = 48;

// The key frame stores the length of the scope in one byte, and that byte is the scope's bound.
const _: () = assert!(SCOPE_LEN_MAX == u8::MAX as usize);
// Scope and key, a fingerprint and nine numbers of at most nine bytes fit what we reserve for them.
const _: () = assert!(1 + SCOPE_LEN_MAX + KEY_LEN_MAX + 33 + 9 * 9 + 16 < CHANGE_OVERHEAD_MAX);
// Lengths in frames are 32-bit numbers.
const _: () = assert!(RESULT_LEN_MAX + CHANGE_OVERHEAD_MAX < u32::MAX as usize);
// The default log takes the default result many times over.
const _: () = assert!(8 * RESULT_LEN_DEFAULT as u64 <= LOG_BYTES_DEFAULT / 2);
// A full batch has its place, and half of the queue has room for one.
const _: () =
    assert!(2 * BATCH_BYTES_MAX < PLACED_BYTES_MAX && 2 * BATCH_BYTES_MAX < STARTS_BYTES_MAX);
const _: () = assert!(2 * BATCH_ITEMS_MAX < STARTS_MAX);
// One batch never overflows the changes of an empty segment.
const _: () = assert!(BATCH_ITEMS_MAX < SEGMENT_CHANGES_MAX);
// A long result is always worth a row of its own: its stand-in is smaller.
const _: () = assert!(RESULT_INLINE_MAX > 32);
