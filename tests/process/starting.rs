//! A store beside threads that start processes.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use idemstore::Store;

use crate::support::size;
use crate::turn;

#[test]
fn a_store_opens_while_another_thread_starts_processes() {
    let _turn = turn();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut command = Command::new("true");
                    command.stdin(Stdio::null()).status().expect("there is such a program");
                }
            });
        }
        let opened = (0..size("STARTING_OPENS", 40)).all(|_| opens_twice());
        done.store(true, Ordering::Relaxed);
        assert!(opened, "nobody else had the store");
    });
}

/// Makes a store, closes it, and opens it again.
fn opens_twice() -> bool {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let builder =
        || Store::builder().background_thread(false).log_bytes(64 * 1024).result_len_max(1024);
    let open = || builder().open(directory.path()).map(Store::close);
    matches!((open(), open()), (Ok(Ok(_)), Ok(Ok(_))))
}
