//! Processes that compete for one directory.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clerk::Clerk;
use crate::stage::alone;
use crate::words::{check, close, directory, small};

/// Processes at a time, and how many of them come one after the other.
const AT_A_TIME: usize = 8;
const TURNS: usize = 5;

/// The keys that some process reported as completed.
#[derive(Default)]
struct Acknowledged(Mutex<Vec<String>>);

impl Acknowledged {
    fn add(&self, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

/// One process: it gets the store for some time, or not at all.
fn fight(store: &Path, number: usize, acknowledged: &Acknowledged) {
    let mut clerk = Clerk::hire();
    let opening = format!("open-soon {}", store.display());
    if number % 7 == 3 {
        // Killed somewhere during its open.
        clerk.tell(&opening);
        thread::sleep(Duration::from_millis(number as u64 % 20));
        return clerk.kill();
    }
    let before = acknowledged.last();
    let opened = clerk.ask(&opening);
    if opened != "opened" {
        assert_eq!(opened, "Locked");
        return;
    }
    if let Some(before) = before {
        clerk.hears(&format!("begin {before}"), "replay");
    }
    for key in 0..4 {
        let name = format!("key {key} of {number}");
        clerk.hears(&format!("complete {name}"), "completed");
        acknowledged.add(name);
    }
    match number % 3 {
        0 => clerk.hears("close", "closed 0"),
        1 => {
            for what in ["complete unheard", "settle", "complete unheard too"] {
                clerk.tell(&format!("{what} {number}"));
            }
            thread::sleep(Duration::from_millis(number as u64 % 5));
            clerk.kill();
        }
        _ => clerk.kill(),
    }
}

#[test]
fn processes_that_fight_for_one_directory_lose_nothing_that_one_was_told() {
    alone(|| {
        let directory = directory();
        let store = directory.path().join("store");
        let acknowledged = Acknowledged::default();
        thread::scope(|scope| {
            for place in 0..AT_A_TIME {
                let (store, acknowledged) = (&store, &acknowledged);
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        fight(store, turn * AT_A_TIME + place, acknowledged);
                    }
                });
            }
        });
        let acknowledged = acknowledged.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(!acknowledged.is_empty(), "nobody ever got the store");
        // All of them have ended, so the store is free.
        let store = small().create(false).open(&store).expect("the store opens");
        check(&store, acknowledged.iter().map(String::as_str));
        close(store);
    });
}
