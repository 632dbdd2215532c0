//! Random operations, with restarts, kills and power cuts between them: the store answers as the
//! model does.

use proptest::prelude::*;

use crate::support::model::World;
use crate::support::{ops, size};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: size("MODEL_CASES", 300) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_answers_as_the_model_does(
        ops in prop::collection::vec(ops::op(), 1..120),
        // With no bit of their hash left all keys are one to the live table.
        hash_mask in prop_oneof![Just(u64::MAX), Just(0)],
    ) {
        let mut world = World::new(hash_mask);
        for op in &ops {
            world.run(op);
        }
    }
}
