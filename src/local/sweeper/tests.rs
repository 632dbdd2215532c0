//! The order of the background thread's work, and how it paces work that can wait.

use super::*;
use crate::limits::SWEEP_RECORDS_MAX;
use crate::local::journal::tests::{store_with_expired, write_while};

const SLICE: Duration = Duration::from_millis(10);

#[test]
fn a_pause_is_a_multiple_of_its_slice_and_shrinks_as_the_sweep_goes_on() {
    assert_eq!(pause(SLICE, Duration::ZERO), SLICE * PAUSE);
    assert_eq!(pause(2 * SLICE, Duration::ZERO), 2 * SLICE * PAUSE);
    assert_eq!(pause(SLICE, LONG), SLICE * PAUSE / 2);
    assert_eq!(pause(SLICE, 3 * LONG), SLICE * PAUSE / 4);
    assert_eq!(pause(Duration::ZERO, Duration::ZERO), Duration::ZERO);
    assert_eq!(pause(Duration::MAX, Duration::ZERO), SWEEP_EVERY);
    assert_eq!(pause(SLICE, Duration::MAX), Duration::ZERO);
}

/// Records that expire per second.
const EXPIRE: f64 = 60_000.0;

/// The largest backlog of a sweep while `expire` records expire each second, or `None` if the sweep
/// never ends.
fn largest_backlog(slice: Duration, expire: f64) -> Option<f64> {
    let (mut sweeping, mut backlog) = (Duration::ZERO, expire * SWEEP_EVERY.as_secs_f64());
    let (mut largest, slice_records) = (backlog, u32::try_from(SWEEP_RECORDS_MAX));
    let slice_records = f64::from(slice_records.expect("a slice is small"));
    while sweeping < 100 * LONG {
        let took = slice + pause(slice, sweeping);
        sweeping += took;
        backlog += expire * took.as_secs_f64() - slice_records;
        largest = backlog.max(largest);
        if backlog < 0.0 {
            return Some(largest);
        }
    }
    None
}

#[test]
fn a_sweep_that_could_keep_up_without_pauses_does_so_with_them() {
    // With slices that could delete six, three and two times as many records as expire.
    for (milliseconds, seconds) in [(11, 2.0), (22, 10.0), (34, 24.0)] {
        let largest = largest_backlog(Duration::from_millis(milliseconds), EXPIRE);
        let bound = seconds * EXPIRE;
        assert!(largest.is_some_and(|largest| largest <= bound), "{milliseconds}: {largest:?}");
    }
}

#[test]
fn a_sealed_segment_is_settled_before_the_next_slice() {
    let store = store_with_expired(3 * SWEEP_RECORDS_MAX);
    let journal = &store.engine().journal;
    let mut upkeep = Upkeep::new(journal);
    for slice in 1..=3 {
        write_while(&store, || !journal.unsettled_for().1);
        // A slice is due as well.
        upkeep.sweep_at = Instant::now();
        let before = store.stats();
        upkeep.step().expect("there is room");
        let after = store.stats();
        assert_eq!((after.settles, after.swept), (before.settles + 1, before.swept));
        upkeep.step().expect("there is room");
        assert_eq!(store.stats().swept, slice * SWEEP_RECORDS_MAX as u64);
    }
}

#[test]
fn a_backlog_is_worked_off_in_slices_with_a_pause_after_each() {
    let store = store_with_expired(2 * SWEEP_RECORDS_MAX + 1);
    let mut upkeep = Upkeep::new(&store.engine().journal);
    let mut slices = Vec::new();
    while slices.len() < 3 {
        let (before, asked) = (store.stats().swept, Instant::now());
        upkeep.sweep_at = asked;
        upkeep.step().expect("there is room");
        slices.push(store.stats().swept - before);
        assert!(asked < upkeep.sweep_at);
        let is_over = slices.len() == 3;
        assert_eq!(upkeep.sweeping_since.is_none(), is_over);
    }
    let full = SWEEP_RECORDS_MAX as u64;
    assert_eq!(slices, [full, full, 1]);
}
