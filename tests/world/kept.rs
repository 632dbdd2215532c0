//! What remains across restarts on real files: keys of all kinds, each with a different retention,
//! and none that has expired.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Begin, Fingerprint, Key, ManualClock, Store, Timestamp};
use tempfile::TempDir;

use crate::stage::{Ending, alone, until};
use crate::words::{FILES, answer, check, close, complete, copy, directory, key, small, start};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(1_000_000))
}

/// A store that is reopened again and again: in place after a close, and elsewhere after a kill.
struct Restarted {
    directory: TempDir,
    at: PathBuf,
}

impl Restarted {
    fn new() -> Self {
        let directory = directory();
        Self { at: directory.path().join("0"), directory }
    }

    fn end(&mut self, store: Store, is_killed: bool) {
        if is_killed {
            let next = fs::read_dir(self.directory.path()).expect("it is there").count();
            let next = self.directory.path().join(next.to_string());
            copy(&self.at, &FILES, &next);
            self.at = next;
        }
        close(store);
    }
}

#[test]
fn what_is_stored_keeps_its_retention_when_another_one_is_given_after_a_restart() {
    alone(|| {
        for is_killed in [false, true] {
            let (clock, mut restarted) = (clock(), Restarted::new());
            let mut open = |retention: Duration, act: &dyn Fn(&Store)| {
                let store = small().clock(clock.clone()).retention(retention).open(&restarted.at);
                let store = store.expect("the store opens");
                act(&store);
                restarted.end(store, is_killed);
            };
            open(Duration::from_secs(10), &|store| {
                complete(store, "ten");
                drop(start(store, "started"));
            });
            open(Duration::ZERO, &|store| {
                complete(store, "none");
                assert_eq!(answer(store, "none"), "fresh");
                check(store, ["ten"]);
            });
            open(Duration::MAX, &|store| {
                complete(store, "ever");
                assert_eq!(answer(store, "none"), "fresh");
                store.settle().expect("there is room");
            });
            clock.advance(Duration::from_millis(9_999));
            for retention in [Duration::from_secs(1), Duration::ZERO, Duration::MAX] {
                open(retention, &|store| {
                    while 0 < store.sweep().expect("there is room") {}
                    check(store, ["ten", "ever"]);
                    assert_eq!(answer(store, "started"), "interrupted");
                });
            }
            clock.advance(Duration::from_millis(1));
            open(Duration::MAX, &|store| {
                for name in ["ten", "started", "none"] {
                    assert_eq!(answer(store, name), "fresh", "{name}");
                }
            });
            clock.advance(200 * 365 * DAY);
            open(Duration::ZERO, &|store| {
                store.settle().expect("there is room");
                while 0 < store.sweep().expect("there is room") {}
                check(store, ["ever"]);
                assert_eq!(store.stats().records, 1);
            });
        }
    });
}

/// Scopes and keys that a store might confuse if it compared them as text, up to a NUL, or without
/// their lengths.
fn look_alikes() -> Vec<Key> {
    let full = [0xFF; 255];
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let keys: [&[u8]; 14] = [
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"a\0b",
        b"a ",
        b"A",
        // One accented letter, and a letter followed by a combining accent.
        "\u{E9}".as_bytes(),
        "e\u{301}".as_bytes(),
        b"\xE9",
        b"\xFF",
        &full[..254],
        &full,
        &[0; 255],
    ];
    for key in keys {
        let scopes: [&[u8]; 5] = [b"", b"a", b"\0", &full, &[0; 255]];
        pairs.extend(scopes.map(|scope| (scope.to_vec(), key.to_vec())));
    }
    // The same bytes, split at a different place.
    pairs.extend((0..4).map(|at| (b"abcd"[..at].to_vec(), b"abcd"[at..].to_vec())));
    pairs.into_iter().map(|(scope, key)| Key::scoped(scope, key).expect("it is a key")).collect()
}

#[test]
fn keys_that_look_alike_are_different_ones_over_restarts() {
    alone(|| {
        // Even if they all have the same hash.
        for hash_mask in [u64::MAX, 0] {
            let mut restarted = Restarted::new();
            let keys = look_alikes();
            for (turn, is_killed) in [true, false, true, false].into_iter().enumerate() {
                let store = small().hash_mask(hash_mask).open(&restarted.at);
                let store = store.expect("the store opens");
                // A third of them in each of the first turns.
                let taken = keys.len() * turn.min(3) / 3;
                let next = keys.len() * (turn + 1).min(3) / 3;
                for (number, key) in keys.iter().enumerate() {
                    let fingerprint = Fingerprint::of(number.to_string());
                    match store.begin(key, fingerprint).expect("begin answers") {
                        Begin::Fresh(permit) if (taken..next).contains(&number) => {
                            permit.complete(number.to_string()).expect("there is room");
                        }
                        Begin::Fresh(_) => assert!(taken <= number, "{number} is gone"),
                        Begin::Replay(completed) => {
                            assert!(number < taken, "{number} is taken for another");
                            assert_eq!(completed.result(), number.to_string().as_bytes());
                            assert!(completed.key() == key);
                        }
                        other => panic!("{number}: {other:?}"),
                    }
                }
                restarted.end(store, is_killed);
            }
        }
    });
}

const EXPIRING: usize = 20_000;

#[test]
fn many_keys_that_expire_at_once_are_swept_while_others_are_written() {
    alone(|| {
        let (clock, directory) = (clock(), directory());
        let store = small().background_thread(true).retention(DAY).clock(clock.clone());
        let store = store.open(directory.path()).expect("the store opens");
        let expiring: Vec<_> = (0..EXPIRING).map(|number| key(&format!("old {number}"))).collect();
        let answers = store.begin_many(expiring.iter().map(|key| (key, Fingerprint::of("old"))));
        let permits = answers.into_iter().map(|answer| match answer.expect("begin answers") {
            Begin::Fresh(permit) => (permit, "result"),
            other => panic!("{other:?}"),
        });
        for completed in store.complete_many(permits) {
            completed.expect("there is room");
        }
        // What is written from now on doesn't expire together with them.
        clock.advance(DAY / 2);
        let is_over = AtomicBool::new(false);
        let written = thread::scope(|scope| {
            let ending = Ending(&is_over);
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (store, is_over) = (&store, &is_over);
                    scope.spawn(move || {
                        let names = (0..).map(|number| format!("{number} of {writer}"));
                        let names = names.take_while(|_| !is_over.load(Ordering::SeqCst));
                        names.inspect(|name| complete(store, name)).collect::<Vec<_>>()
                    })
                })
                .collect();
            clock.advance(DAY / 2);
            // The sweeper looks for expired keys when the log was full.
            until("the sweep", || (store.stats().swept == EXPIRING as u64).then_some(()));
            drop(ending);
            let written = writers.into_iter().map(|writer| writer.join().expect("it ends"));
            written.flatten().collect::<Vec<_>>()
        });
        assert_eq!(store.stats().sweep_backlog, 0);
        store.settle().expect("there is room");
        check(&store, written.iter().map(String::as_str));
        for key in expiring.iter().step_by(100) {
            let begin = store.begin(key, Fingerprint::of("new")).expect("begin answers");
            assert!(matches!(begin, Begin::Fresh(_)), "{begin:?}");
        }
        close(store);
    });
}
