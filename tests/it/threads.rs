//! Many callers at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Fingerprint, Key, ManualClock, Store, Timestamp};

use crate::support::{Answers, Bench, SimDisk, write_from_many_threads};

const THREADS: usize = 16;

#[test]
fn of_many_callers_on_one_key_exactly_one_is_fresh() {
    for round in 0..50 {
        let bench = Bench::new();
        let name = format!("key {round}");
        let fresh = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| match bench.begin(&name, "request") {
                    Begin::Fresh(permit) => {
                        fresh.fetch_add(1, Ordering::SeqCst);
                        permit.start().expect("it starts").complete("once").expect("it completes");
                    }
                    Begin::InFlight(_) => {}
                    begin => assert_eq!(begin.replay().result(), b"once"),
                });
            }
        });
        assert_eq!(fresh.into_inner(), 1);
        bench.begin(&name, "request").replay();
    }
}

#[test]
fn of_many_callers_on_one_interrupted_key_exactly_one_takes_it_over() {
    for settle in [false, true].repeat(25) {
        let bench = Bench::new();
        drop(bench.begin("k", "request").fresh().start().expect("it starts"));
        if settle {
            bench.store.settle().expect("it settles");
        }
        let taken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| match bench.begin("k", "request") {
                    Begin::Interrupted(interrupted) => {
                        taken.fetch_add(1, Ordering::SeqCst);
                        let execution = interrupted.retry().expect("it starts again");
                        assert_eq!(execution.attempt(), 2);
                        execution.complete("once").expect("it completes");
                    }
                    Begin::InFlight(_) => {}
                    begin => assert_eq!(begin.replay().result(), b"once"),
                });
            }
        });
        assert_eq!(taken.into_inner(), 1);
    }
}

/// Runs every operation of `keys` from many threads at once, on a store that constantly settles and
/// sweeps, and returns how often each ran.
fn run_all(store: &Store, keys: usize, threads: usize) -> Vec<AtomicUsize> {
    let effects: Vec<_> = (0..keys).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for thread in 0..threads {
            let effects = &effects;
            scope.spawn(move || {
                for step in 0..keys {
                    // Each thread goes through the keys in a different order, so the threads meet
                    // on the way.
                    let at = (step * (2 * thread + 1)) % keys;
                    let fingerprint = Fingerprint::of(at.to_le_bytes());
                    let key = Key::new(format!("key {at}")).expect("it is a key");
                    let mut begin = store.begin(&key, fingerprint).expect("begin answers");
                    if let Begin::InFlight(in_flight) = begin {
                        begin = in_flight.wait(Duration::from_secs(60)).expect("wait answers");
                    }
                    match begin {
                        Begin::Fresh(permit) => {
                            let execution = permit.start().expect("it starts");
                            effects[at].fetch_add(1, Ordering::SeqCst);
                            let result = vec![at.to_le_bytes()[0]; at % 700];
                            execution.complete(result).expect("it completes");
                        }
                        begin => {
                            let replay = begin.replay();
                            assert_eq!(replay.result(), vec![at.to_le_bytes()[0]; at % 700]);
                        }
                    }
                }
            });
        }
    });
    effects
}

#[test]
fn every_operation_runs_once_while_the_log_is_settled_under_it() {
    const KEYS: usize = 2_000;
    let directory = tempfile::tempdir().expect("there is room for a directory");
    // A log that fills up again and again, and the background thread to settle it.
    let store = Store::builder()
        .log_bytes(64 * 1024)
        .result_len_max(1024)
        .open(directory.path())
        .expect("the store opens");
    let effects = run_all(&store, KEYS, 8);
    assert!(effects.iter().all(|effect| effect.load(Ordering::SeqCst) == 1));
    assert!(5 < store.stats().settles, "the log was never full");
    store.close().expect("the store closes");

    let store = Store::builder().result_len_max(1024).open(directory.path()).expect("it opens");
    let effects = run_all(&store, KEYS, 2);
    assert!(effects.iter().all(|effect| effect.load(Ordering::SeqCst) == 0));
}

#[test]
fn every_operation_runs_once_without_a_background_thread() {
    const KEYS: usize = 1_000;
    let bench = Bench::new();
    let effects = run_all(&bench.store, KEYS, 8);
    assert!(effects.iter().all(|effect| effect.load(Ordering::SeqCst) == 1));
    // A full log is settled by the caller that finds it full.
    assert!(1 < bench.store.stats().settles);
}

#[test]
fn every_operation_runs_once_when_keys_collide() {
    const KEYS: usize = 300;
    let clock = ManualClock::new(Timestamp::from_unix_ms(1));
    // All keys share 16 hashes, so most lookups read another key's record first.
    let bench = Bench::with(SimDisk::new(), clock, 0b1111);
    let effects = run_all(&bench.store, KEYS, 8);
    assert!(effects.iter().all(|effect| effect.load(Ordering::SeqCst) == 1));
    bench.store.settle().expect("it settles");
    let effects = run_all(&bench.store, KEYS, 2);
    assert!(effects.iter().all(|effect| effect.load(Ordering::SeqCst) == 0));
}

#[test]
fn a_close_beside_callers_answers_each_of_them() {
    for _ in 0..20 {
        let bench = Bench::new();
        let done = write_from_many_threads(&bench, || {
            thread::sleep(Duration::from_millis(5));
            bench.store.clone().close().expect("the store closes");
        });
        let bench = Bench::on(bench.disk, bench.clock);
        for name in &done {
            assert_eq!(bench.begin(name, "request").replay().result(), name.as_bytes());
        }
    }
}
