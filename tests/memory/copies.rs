//! The memory for a copy of the vault that is made beside it.

use super::{MIB, builder, check, clock, directory, fill, key, live, peak_of, turn};

use idemstore::{Begin, Fingerprint, Store};

const CACHE: usize = 32 * MIB;
const RESULTS: usize = 12_000;
const RESULT_LEN: usize = 4_000;

/// A store that has filled its cache, from a vault that is larger than the cache.
fn with_full_cache(directory: &std::path::Path) -> Store {
    let store = builder(&clock()).cache_bytes(CACHE).open(directory).expect("the store opens");
    fill(&store, RESULTS, RESULT_LEN);
    for number in 0..RESULTS {
        let begin = store.begin(&key(number), Fingerprint::NONE).expect("begin answers");
        assert!(matches!(begin, Begin::Replay(_)), "{begin:?}");
    }
    store
}

#[test]
fn a_backup_takes_12_mib_at_most_beside_the_cache() {
    let _turn = turn();
    let (directory, copy) = (directory(), directory());
    let store = with_full_cache(directory.path());
    assert!(CACHE / 2 < live(), "the cache is not in use");
    let before = live();
    let peak = peak_of(|| store.backup(copy.path()).expect("there is room"));
    check("a backup", peak, 12 * MIB);
    check("a backup that is done", live().saturating_sub(before), MIB);
}

/// With debug assertions redb reads a file as it opens it, checked or not, so the cache of the
/// compacted vault is filled while the old vault's cache still exists. `--release` shows what users
/// get.
#[test]
fn a_compaction_takes_12_mib_at_most_beside_the_cache() {
    let _turn = turn();
    let directory = directory();
    let store = with_full_cache(directory.path());
    for number in (0..RESULTS).step_by(12) {
        assert!(store.forget(&key(number)).expect("forget answers"));
    }
    store.settle().expect("it settles");
    let before = live();
    let peak = peak_of(|| assert!(0 < store.compact().expect("there is room")));
    check("a compaction", peak, if cfg!(debug_assertions) { 40 } else { 12 } * MIB);
    check("a compaction that is done", live().saturating_sub(before), MIB);
    // It has the cache of one vault again.
    for number in (1..RESULTS).step_by(3) {
        assert!(matches!(store.begin(&key(number), Fingerprint::NONE), Ok(Begin::Replay(_))));
    }
    assert!(CACHE / 4 < live(), "the cache is not in use");
}
