//! Callers that do what they should not, and places that can't hold a store.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Effect, Fingerprint, Key, KeyError, Outcome};

use crate::support::model::splitmix;
use crate::support::{Answers, Bench, RETENTION_MS, Started, key, size};

#[test]
fn keys_of_all_lengths_and_bytes_are_taken_or_refused_by_their_length_alone() {
    let mut accepted = 0;
    for len in [0, 1, 2, 127, 128, 250, 251, 254, 255, 256, 257, 65_536, 1 << 20] {
        for byte in [0, b'/', b':', b'a', 0x7F, 0x80, 0xC3, 0xFE, 0xFF] {
            let bytes = vec![byte; len];
            let of_key = match len {
                0 => Err(KeyError::Empty),
                1..=255 => Ok(()),
                _ => Err(KeyError::TooLong { len, max: 255 }),
            };
            let of_scope =
                if len <= 255 { Ok(()) } else { Err(KeyError::ScopeTooLong { len, max: 255 }) };
            assert_eq!(Key::new(&bytes).map(drop), of_key);
            assert_eq!(Key::scoped(&bytes, "k").map(drop), of_scope);
            accepted += usize::from(of_key.is_ok());
        }
    }
    assert_eq!(accepted, 8 * 9);
}

/// Few byte values and short lengths, so that scopes and keys collide as often as possible.
fn hostile_pair(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let bytes = *b"aaa\0\0\x01:\xFF";
    let part = |seed: u64, least: u64| -> Vec<u8> {
        let len = least + splitmix(seed) % 3;
        (0..len).map(|at| bytes[(splitmix(seed ^ (at << 32)) % 8) as usize]).collect()
    };
    (part(splitmix(seed), 0), part(splitmix(seed + (1 << 50)), 1))
}

#[test]
fn two_pairs_of_scope_and_key_are_the_same_key_only_if_both_are_the_same() {
    let (pairs, seed) = (size("MISUSE_PAIRS", 3_000), size("MISUSE_SEED", 1));
    let bench = Bench::new();
    let mut stored = BTreeMap::<(Vec<u8>, Vec<u8>), u64>::new();
    let mut joined = BTreeMap::<Vec<u8>, usize>::new();
    for number in 0..pairs {
        let (scope, name) = hostile_pair(seed + number);
        let key = Key::scoped(&scope, &name).expect("it is a key");
        assert_eq!((key.scope(), key.as_bytes()), (&*scope, &*name), "seed {}", seed + number);
        let begin = bench.store.begin(&key, Fingerprint::NONE).expect("begin answers");
        match (begin, stored.get(&(scope.clone(), name.clone()))) {
            (Begin::Fresh(permit), None) => {
                permit.complete(number.to_le_bytes()).expect("it completes");
                *joined.entry([&*scope, &*name].concat()).or_default() += 1;
                stored.insert((scope, name), number);
            }
            (Begin::Replay(completed), Some(number)) => {
                assert_eq!(completed.result(), number.to_le_bytes());
            }
            (begin, stored) => panic!("{begin:?}, {stored:?}, seed {}", seed + number),
        }
    }
    // There were pairs that are equal once joined, and pairs that occurred twice.
    assert!(joined.values().any(|pairs| 2 < *pairs) && stored.len() < pairs as usize);
    let bench = bench.kill();
    for ((scope, name), number) in &stored {
        let key = Key::scoped(scope, name).expect("it is a key");
        let begin = bench.store.begin(&key, Fingerprint::NONE).expect("begin answers");
        assert_eq!(begin.replay().result(), number.to_le_bytes());
    }
}

#[test]
fn keys_that_all_have_one_hash_are_told_apart() {
    let keys = size("MISUSE_COLLISIONS", 150) as usize;
    let bench = Bench::new();
    let mut bench = Bench::with(bench.disk.after_kill(), bench.clock, 0);
    let names: Vec<_> = (0..keys).map(|at| format!("{}{at}", "k".repeat(200))).collect();
    for name in &names {
        bench.complete(name, name, name);
    }
    for _ in 0..2 {
        for name in &names {
            assert_eq!(bench.begin(name, name).replay().result(), name.as_bytes());
            assert!(bench.begin(name, "another").mismatches());
        }
        bench.begin("another", "request").fresh();
        assert_eq!(bench.store.keys().count(), keys);
        bench = bench.reopen();
    }
}

#[test]
fn a_leaked_handle_holds_its_key_until_the_process_ends() {
    let bench = Bench::new();
    drop(bench.begin("interrupted", "request").started());
    std::mem::forget(bench.begin("permit", "request").fresh());
    std::mem::forget(bench.begin("execution", "request").started());
    std::mem::forget(bench.begin("interrupted", "request").interrupted());
    let names = ["permit", "execution", "interrupted"];
    let in_flight = || {
        for name in names {
            bench.begin(name, "request").in_flight().wait(Duration::ZERO).expect("it answers");
            bench.begin(name, "request").in_flight();
        }
    };
    in_flight();
    bench.store.settle().expect("it settles");
    bench.tick(3 * RETENTION_MS);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
    in_flight();
    assert_eq!(bench.store.stats().in_flight, 3);
    assert!(!bench.store.forget(&key("execution")).expect("it is asked"));
    assert!(matches!(bench.store.abandon(&key("execution")), Err(idemstore::FinishError::Held)));
    // Closing doesn't wait for what can't be given back. The next run relies on what is stored.
    bench.store.clone().close().expect("the store closes");
    let bench = Bench::on(bench.disk.after_kill(), bench.clock);
    for name in names {
        bench.begin(name, "request").fresh();
    }
}

#[test]
fn what_a_leaked_handle_held_is_what_is_stored_of_it_after_a_restart() {
    let bench = Bench::new();
    drop(bench.begin("interrupted", "request").started());
    std::mem::forget(bench.begin("permit", "request").fresh());
    std::mem::forget(bench.begin("execution", "request").started());
    std::mem::forget(bench.begin("interrupted", "request").interrupted());
    let bench = Bench::on(bench.disk.after_kill(), bench.clock);
    bench.begin("permit", "request").fresh();
    assert_eq!(bench.begin("execution", "request").interrupted().attempt(), 1);
    assert_eq!(bench.begin("interrupted", "request").interrupted().attempt(), 1);
}

#[test]
fn a_panic_drops_all_handles_and_what_is_called_while_it_unwinds_works() {
    /// Finishes its work when it is dropped, whatever the reason.
    struct Guard(Option<idemstore::Execution>);
    impl Drop for Guard {
        fn drop(&mut self) {
            assert!(thread::panicking());
            let execution = self.0.take().expect("it is dropped once");
            execution.complete("cleaned up").expect("it completes");
        }
    }
    let bench = Bench::new();
    drop(bench.begin("interrupted", "request").started());
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _permit = bench.begin("permit", "request").fresh();
        let _execution = bench.begin("execution", "request").started();
        let _interrupted = bench.begin("interrupted", "request").interrupted();
        let _in_flight = bench.begin("execution", "request").in_flight();
        let _listing = bench.store.keys();
        let _guard = Guard(Some(bench.begin("guarded", "request").started()));
        panic!("in the middle of all that");
    }));
    assert!(unwound.is_err());
    assert_eq!(bench.store.stats().in_flight, 0);
    bench.begin("permit", "request").fresh();
    bench.begin("execution", "request").interrupted();
    bench.begin("interrupted", "request").interrupted();
    assert_eq!(bench.begin("guarded", "request").replay().result(), b"cleaned up");
    bench.store.close().expect("the store closes");
}

/// Runs until its operation is done, whatever panics on the way, and returns how often it ran.
fn run_through_panics(bench: &Bench, name: &str, seed: u64) -> usize {
    let mut panics = 0;
    for round in 0.. {
        let fails = splitmix(seed + round).is_multiple_of(3);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let operation = |_: &mut idemstore::Execution| {
                assert!(!fails, "the effect failed in an unknown way");
                Effect::<_, ()>::Done(name.to_owned())
            };
            let (key, request) = (key(name), Fingerprint::of(name));
            match bench.store.run(&key, request, operation).expect("it runs") {
                Outcome::Interrupted(interrupted) => interrupted.run(operation).expect("it runs"),
                outcome => outcome,
            }
        }));
        match ran {
            Err(_) => panics += 1,
            Ok(Outcome::Done(completed) | Outcome::Replay(completed)) => {
                assert_eq!(completed.result(), name.as_bytes());
                return panics;
            }
            Ok(Outcome::InFlight(in_flight)) => {
                in_flight.wait(Duration::from_millis(1)).expect("wait answers");
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
    panics
}

#[test]
fn operations_that_panic_in_many_threads_leave_a_store_that_works() {
    let (threads, keys) = (8, size("MISUSE_KEYS", 40));
    let bench = Bench::new();
    let panics = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (bench, panics) = (&bench, &panics);
            scope.spawn(move || {
                for at in 0..keys {
                    let seed = splitmix((thread << 32) | at);
                    let panicked = run_through_panics(bench, &format!("key {at}"), seed);
                    panics.fetch_add(panicked, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(0 < panics.into_inner());
    assert_eq!(bench.store.stats().in_flight, 0);
    let bench = bench.reopen();
    for at in 0..keys {
        let name = format!("key {at}");
        assert_eq!(bench.begin(&name, &name).replay().result(), name.as_bytes());
    }
}

#[cfg(feature = "transaction")]
#[test]
fn transactions_that_panic_in_many_threads_leave_free_keys_and_a_store_that_works() {
    let (threads, keys) = (4, size("MISUSE_KEYS", 40));
    let bench = Bench::new();
    let panics = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (bench, panics) = (&bench, &panics);
            scope.spawn(move || {
                for at in 0..keys {
                    let name = format!("key {thread} {at}");
                    let fails = splitmix((thread << 32) | at).is_multiple_of(2);
                    let ran = catch_unwind(AssertUnwindSafe(|| {
                        let permit = bench.begin(&name, "request").fresh();
                        permit.complete_with(|_| {
                            assert!(!fails, "the closure has failed");
                            Ok::<_, ()>(name.clone())
                        })
                    }));
                    assert_eq!(ran.is_err(), fails);
                    if let Ok(completed) = ran {
                        completed.expect("it completes");
                        bench.begin(&name, "request").replay();
                    } else {
                        panics.fetch_add(1, Ordering::Relaxed);
                        // Immediately free, for the same caller and for any other.
                        bench.begin(&name, "request").fresh().complete("").expect("it completes");
                    }
                }
            });
        }
    });
    assert!(0 < panics.into_inner());
    let stats = bench.store.stats();
    assert_eq!((stats.records as u64, stats.in_flight), (threads * keys, 0));
    bench.store.close().expect("the store closes");
}
