//! A store in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idemstore::{Begin, Fingerprint, ManualClock, Store, Timestamp};

use crate::stage::alone;
use crate::words::{answer, close, complete, directory, fill, key, names, permit, small, start};

#[test]
fn a_store_in_memory_gives_every_answer_and_makes_no_file() {
    alone(|| {
        let directory = directory();
        std::env::set_current_dir(directory.path()).expect("it is there");
        let store = Store::in_memory().expect("there is room");
        assert_eq!(answer(&store, "fresh"), "fresh");
        complete(&store, "replay");
        assert_eq!(answer(&store, "replay"), "replay");
        permit(&store, "tombstone").complete_digest(vec![1; 9 << 20]).expect("it is completed");
        assert_eq!(answer(&store, "tombstone"), "tombstone");
        let execution = start(&store, "in flight");
        assert_eq!(answer(&store, "in flight"), "in flight");
        let another = store.begin(&key("replay"), Fingerprint::of("another request"));
        assert!(matches!(another, Ok(Begin::Mismatch)), "{another:?}");
        drop(start(&store, "interrupted"));
        assert_eq!(answer(&store, "interrupted"), "interrupted");
        fill(&store, 8);
        store.compact().expect("there is room");
        assert_eq!(store.sweep().expect("there is room"), 0);
        assert_eq!(answer(&store, "replay"), "replay");
        // A backup of it is an ordinary store.
        let backup = tempfile::tempdir().expect("there is room for a directory");
        store.backup(backup.path()).expect("there is room");
        crate::words::check_in(backup.path(), &["replay", "large 0"]);
        assert_eq!(store.close().expect("the store closes"), 1);
        drop(execution);
        assert_eq!(names(directory.path()), [""; 0]);
    });
}

#[test]
fn a_store_in_memory_takes_options_and_is_nobody_elses() {
    alone(|| {
        let directory = directory();
        std::env::set_current_dir(directory.path()).expect("it is there");
        let clock = ManualClock::new(Timestamp::from_unix_ms(1_000_000));
        let builder = || small().retention(Duration::from_secs(10)).clock(clock.clone());
        let (one, two) = (builder().open_in_memory(), builder().create(false).open_in_memory());
        let (one, two) = (one.expect("there is room"), two.expect("there is room"));
        complete(&one, "one");
        assert_eq!(answer(&two, "one"), "fresh");
        clock.advance(Duration::from_secs(9));
        assert_eq!(answer(&one, "one"), "replay");
        clock.advance(Duration::from_secs(1));
        assert_eq!(answer(&one, "one"), "fresh");
        one.settle().expect("there is room");
        assert_eq!(one.sweep().expect("there is room"), 1);
        close(one);
        close(two);
        assert_eq!(names(directory.path()), [""; 0]);
    });
}

#[test]
fn a_store_in_memory_is_shared_by_threads() {
    alone(|| {
        let store = Store::builder().log_bytes(64 * 1024).open_in_memory().expect("there is room");
        let ran = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..200 {
                        let name = format!("key {number}");
                        if let Ok(Begin::Fresh(permit)) = crate::words::begin(&store, &name) {
                            let execution = permit.start().expect("it starts");
                            ran.fetch_add(1, Ordering::Relaxed);
                            execution.complete(format!("result of {name}")).expect("it completes");
                        }
                    }
                });
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), 200);
        for number in 0..200 {
            assert_eq!(answer(&store, &format!("key {number}")), "replay");
        }
    });
}
