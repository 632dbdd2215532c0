//! Stores that come and go, and what passes through one.

use super::{MIB, NOISE, builder, check, clock, directory, live, permit, turn};

#[test]
fn a_store_that_was_closed_leaves_nothing() {
    let _turn = turn();
    let clock = clock();
    let directory = directory();
    let live_and_die = |number: usize| {
        let small = || builder(&clock).log_bytes(64 * 1024).background_thread(true);
        // Most of them are in memory, which is faster.
        let store = if number.is_multiple_of(10) {
            small().open(directory.path())
        } else {
            small().open_in_memory()
        };
        let store = store.expect("the store opens");
        permit(&store, number).complete("result").expect("it completes");
        store.close().expect("it closes");
    };
    // What a process allocates only once.
    (0..20).for_each(live_and_die);
    let before = live();
    (20..4_000).for_each(live_and_die);
    check("closed stores", live().saturating_sub(before), NOISE);
}

#[test]
fn a_long_result_leaves_no_buffer() {
    let _turn = turn();
    let directory = directory();
    let builder = builder(&clock()).log_bytes(64 * MIB as u64).result_len_max(16 * MIB);
    let store = builder.open(directory.path()).expect("the store opens");
    let before = live();
    permit(&store, 0).complete(vec![7; 16 * MIB]).expect("it completes");
    store.settle().expect("it settles");
    check("a long result that is settled", live() - before, 4 * MIB);
}
