//! Random operations, with restarts, kills and power cuts between them: the store answers as the
//! model does.

use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::faults::{Failing, FaultyProgram};
use crate::support::model::{Seen, World};
use crate::support::ops::{self, Program};
use crate::support::size;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: size("MODEL_CASES", 300) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_answers_as_the_model_does(
        ops in prop::collection::vec(ops::random::op(), 1..120),
        // With no bit of their hash left, the live table can't tell keys apart by hash.
        hash_mask in prop_oneof![Just(u64::MAX), Just(0)],
    ) {
        World::play(&Program { hash_mask, ops });
    }
}

/// The same while the disk fails: a call reports that, and its key ends up as it was or as the call
/// was to make it.
#[test]
fn a_disk_that_fails_costs_nothing_that_was_acknowledged() {
    let config = ProptestConfig {
        cases: size("FAULTY_CASES", 300) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let programs = (
        // Early, so that most of them come before the program ends.
        prop::collection::vec(
            (0..50_u8, any::<u8>(), prop_oneof![3 => 0..10_u8, 1 => 128..=255_u8], any::<u8>()),
            1..4,
        ),
        prop::collection::vec(ops::random::op(), 1..100),
    );
    let all = Mutex::new(Seen::default());
    let tested = TestRunner::new(config).run(&programs, |(faults, ops)| {
        let failing = |(at, on, after, seed)| Failing::from_bytes([at, on, after, seed]);
        let faults = faults.into_iter().map(failing).collect();
        let program = Program { hash_mask: u64::MAX, ops };
        let seen = World::play_faulty(&FaultyProgram { faults, program });
        *all.lock().expect("no case panics") += seen;
        Ok(())
    });
    tested.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = all.into_inner().expect("no case panics");
    println!("{seen:?}");
    let unknown = seen.happened + seen.vanished;
    let rare = seen.unopened.min(seen.full);
    assert!(0 < seen.refused.min(unknown).min(rare), "not all was reached");
    // Without futures there are no floods.
    assert!(0 < seen.crowded, "no queue was full");
}

/// The disk of a reopened store may fail at any later read, including the reads with which the
/// model finds out what an earlier failed call has made true.
#[cfg(feature = "transaction")]
#[test]
fn what_was_unsaid_is_found_out_beside_a_disk_that_is_to_fail() {
    let write = |value| ops::Op::Write(ops::Shared { row: 0, value, end: ops::SharedEnd::Commit });
    let ops = vec![write(1), write(2), ops::Op::Kill, ops::Op::Count];
    let mut all = Seen::default();
    for after in 0..64 {
        // The sync of the second write fails, and after the kill, this read.
        let faults = [[1, 2, 0, 0], [2, 0, after, 0]].map(Failing::from_bytes).to_vec();
        let program = Program { hash_mask: u64::MAX, ops: ops.clone() };
        all += World::play_faulty(&FaultyProgram { faults, program });
    }
    println!("{all:?}");
    assert!(all.happened + all.vanished == 64 && 0 < all.unopened, "{all:?}");
}

/// An open that fails while it passes on redb's writes. redb doesn't notice, and must write nothing
/// more.
#[test]
fn an_open_whose_sync_fails_writes_nothing_more() {
    let request = ops::Request { key: 0, request: 0 };
    let begin = || ops::Op::Begin(request);
    let complete = ops::Op::Complete { handle: 0, len: ops::Len(0) };
    for after in 0..8 {
        for seed in 0..64 {
            let ops = vec![begin(), begin(), complete.clone(), begin(), ops::Op::Reopen];
            // The completion can't be written, and then the open can't be synced: the power is cut.
            let faults = [[2, 67, 0, 0], [4, 248, after, seed]].map(Failing::from_bytes).to_vec();
            World::play_faulty(&FaultyProgram {
                faults,
                program: Program { hash_mask: u64::MAX, ops },
            });
        }
    }
}
