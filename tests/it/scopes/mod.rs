//! Two clients on one store whose keys differ only in their scope. Neither can tell whether the
//! other one exists: each sees exactly what it would see alone.

mod client;
mod place;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::support::ops::{self, Op};
use crate::support::size;
use client::Seen;
use place::Place;

/// A step, and which of the two takes it, if it is a client's.
type Step = (bool, Op);

const OURS: &str = "ours";
const THEIRS: &str = "theirs";

/// What our client sees while another client, if there is one, works in the scope `other`.
fn seen(steps: &[Step], other: Option<&'static str>, hash_mask: u64) -> Vec<Seen> {
    let mut place = Place::new(OURS, other, hash_mask);
    for (by_us, op) in steps {
        place.run(*by_us, op);
    }
    place.into_seen()
}

fn runner(usual_cases: u64) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases: size("SCOPE_CASES", usual_cases) as u32,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(size("SCOPE_SEED", 1)),
        ..ProptestConfig::default()
    })
}

fn programs() -> impl Strategy<Value = (Vec<Step>, u64)> {
    let step = (any::<bool>(), ops::random::op());
    // With no bit of their hash left, the live table can't tell keys apart by hash.
    (prop::collection::vec(step, 1..120), prop_oneof![Just(u64::MAX), Just(0)])
}

/// The answers that a client can get, each at least once in a run of the usual size.
const KINDS: [&str; 20] = [
    "abandoned",
    "completed",
    "detached",
    "fresh",
    "got",
    "got nothing",
    "held",
    "in flight",
    "in the copy",
    "interrupted",
    "kept",
    "listed",
    "mismatch",
    "nothing to finish",
    "nothing to forget",
    "forgotten",
    "replay",
    "started",
    "too large",
    "tombstone",
];

#[test]
fn a_client_sees_the_same_with_another_scope_beside_it_and_without() {
    let kinds = RefCell::new(BTreeMap::<_, u64>::new());
    let ran = runner(120).run(&programs(), |(steps, hash_mask)| {
        let alone = seen(&steps, None, hash_mask);
        let beside = seen(&steps, Some(THEIRS), hash_mask);
        prop_assert_eq!(&alone, &beside);
        for (kind, _) in alone {
            *kinds.borrow_mut().entry(kind).or_default() += 1;
        }
        Ok(())
    });
    ran.unwrap_or_else(|failed| panic!("{failed}"));
    let kinds = kinds.into_inner();
    println!("{kinds:?}");
    for kind in KINDS {
        assert!(kinds.contains_key(kind), "nobody was told: {kind}, but {kinds:?}");
    }
}

/// Shows that the comparison can fail: within one scope the two do interfere, in most programs.
#[test]
fn clients_of_one_scope_do_meet() {
    let met = RefCell::new((0_u64, 0_u64));
    let ran = runner(40).run(&programs(), |(steps, hash_mask)| {
        let differs = seen(&steps, None, hash_mask) != seen(&steps, Some(OURS), hash_mask);
        let (met, all) = &mut *met.borrow_mut();
        (*met, *all) = (*met + u64::from(differs), *all + 1);
        Ok(())
    });
    ran.unwrap_or_else(|failed| panic!("{failed}"));
    let (met, all) = met.into_inner();
    assert!(all / 2 < met, "they met in {met} of {all} programs only");
}
