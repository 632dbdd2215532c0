//! All limits of the store, and the relations between them.

/// The longest idempotency key, in bytes.
pub const KEY_LEN_MAX: usize = 255;

/// The longest scope of a key, in bytes.
pub const SCOPE_LEN_MAX: usize = 255;

/// The longest result that a store accepts by default, in bytes.
pub const RESULT_LEN_DEFAULT: usize = 1024 * 1024;

/// The longest result that a store can be configured for, in bytes.
pub const RESULT_LEN_MAX: usize = 64 * 1024 * 1024;

/// The most bytes that the write-ahead log takes on disk by default: two segments, each half of it.
pub const LOG_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// The smallest log that a store can be configured for, in bytes.
pub const LOG_BYTES_MIN: u64 = 64 * 1024;

/// The largest log that a store can be configured for, in bytes.
pub const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The memory that redb may use as its page cache by default, in bytes.
pub const CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// The most keys that a store keeps by default. A full store takes about 2.3 GB of memory.
pub const KEYS_MAX_DEFAULT: usize = 100_000_000;

/// The most operations that one fsync makes durable together.
pub(crate) const BATCH_ITEMS_MAX: usize = 1024;

/// The most bytes of a batch of several operations; a longer operation forms a separate batch. A
/// smaller log bounds it further.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The most starts that wait for an fsync at one time; a further start is refused as overloaded.
pub(crate) const STARTS_MAX: usize = 64 * 1024;

/// The most bytes of waiting starts, where operations are completed without a separate start. A
/// single longer one may still wait alone.
pub(crate) const STARTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most bytes of results and checkpoints that are copied for the log and not written yet. A
/// single longer one may still be copied alone.
pub(crate) const PLACED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A result or a checkpoint of at most this many bytes is copied at once: an operation takes as
/// much memory anyway.
pub(crate) const UNPLACED_LEN_MAX: usize = 1024;

/// The least disk space that a store reserves for itself, in bytes: enough for the commits of a
/// sweep and of a settle, as long as the vault is small.
pub(crate) const KEPT_BYTES_MIN: u64 = 256 * 1024;

/// The fraction of the vault's file that its commits write besides their changes, as a divisor:
/// redb stores which of its pages are free.
pub(crate) const KEPT_PART: u64 = 1024;

/// The most disk space that a store reserves for itself, in bytes: the longest default results of
/// 512 operations.
pub(crate) const KEPT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The most changes that wait in one log segment to be settled. This bounds the memory of a segment
/// that is full of very small changes.
pub(crate) const SEGMENT_CHANGES_MAX: usize = 256 * 1024;

/// A result longer than this is stored beside its record, which keeps the scan at open narrow.
pub(crate) const RESULT_INLINE_MAX: usize = 512;

/// The most expired records that one slice of a sweep inspects, and deletes in one transaction. A
/// writer may have to wait for one slice.
pub(crate) const SWEEP_RECORDS_MAX: usize = 4 * 1024;

/// A slice is full once the results that it deletes have this many bytes, because redb reads them
/// first. Results stored within their records don't count.
pub(crate) const SWEEP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most records that a listing reads at one time.
pub(crate) const LIST_RECORDS_MAX: usize = 1024;

/// The most bytes that an operation takes in the log besides its result: scope, key, fingerprint,
/// times, numbers and the lengths in front of them.
pub(crate) const CHANGE_OVERHEAD_MAX: usize = 1024;

/// What a log segment needs besides the longest result: its first page, the overhead of two
/// changes, and the marks around them.
const SEGMENT_OVERHEAD: u64 = 4096 + 2 * CHANGE_OVERHEAD_MAX as u64 + 136;

/// The initial size of a segment in bytes: enough for the longest result that the store accepts,
/// and for a batch. It grows to at most half of the log's bytes.
pub(crate) const fn segment_len(log_bytes: u64, result_len_max: usize) -> u64 {
    const PAGE: u64 = 4096;
    let longest = if result_len_max < BATCH_BYTES_MAX { BATCH_BYTES_MAX } else { result_len_max };
    let len = (longest as u64 + SEGMENT_OVERHEAD).next_multiple_of(PAGE);
    if len < log_bytes / 2 { len } else { log_bytes / 2 }
}

/// The longest result that a store with a log of this many bytes can be configured for.
pub(crate) const fn result_len_max(log_bytes: u64) -> u64 {
    let fits = (log_bytes / 2).saturating_sub(SEGMENT_OVERHEAD);
    if fits < RESULT_LEN_MAX as u64 { fits } else { RESULT_LEN_MAX as u64 }
}

/// The bits of a record's serial number and of its expiry in the live table.
pub(crate) const PACKED_BITS: u32 = 48;

// The key frame stores the length of the scope in one byte, which bounds the scope.
const _: () = assert!(SCOPE_LEN_MAX == u8::MAX as usize);
// Scope and key, a fingerprint, and nine numbers of at most nine bytes fit into the reserved bytes.
const _: () = assert!(1 + SCOPE_LEN_MAX + KEY_LEN_MAX + 33 + 9 * 9 + 16 < CHANGE_OVERHEAD_MAX);
// Lengths in frames are 32-bit numbers.
const _: () = assert!(RESULT_LEN_MAX + CHANGE_OVERHEAD_MAX < u32::MAX as usize);
// The default log has room for many default results.
const _: () = assert!(8 * RESULT_LEN_DEFAULT as u64 <= LOG_BYTES_DEFAULT / 2);
// A full batch always finds a place, and half of the queue has room for one.
const _: () =
    assert!(2 * BATCH_BYTES_MAX < PLACED_BYTES_MAX && 2 * BATCH_BYTES_MAX < STARTS_BYTES_MAX);
const _: () = assert!(2 * BATCH_ITEMS_MAX < STARTS_MAX);
// One batch never overflows the changes of an empty segment.
const _: () = assert!(BATCH_ITEMS_MAX < SEGMENT_CHANGES_MAX);
// A result longer than this takes more room than its stand-in, so storing it separately pays.
const _: () = assert!(RESULT_INLINE_MAX > 32);
