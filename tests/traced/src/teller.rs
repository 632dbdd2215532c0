//! Where the workload reports what it does.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use idemstore::Key;
use rustix::process::{Signal, getpid, kill_process};

use crate::tell::{State, Tell};

pub struct Teller {
    /// Reports that are left before this process kills itself.
    left: AtomicU64,
}

impl Teller {
    pub fn new(lines: Option<u64>) -> Self {
        Self { left: AtomicU64::new(lines.unwrap_or(u64::MAX)) }
    }

    pub fn tell(&self, tell: &Tell) {
        // Standard output passes a line on in one write if it gets it in one piece.
        let told = io::stdout().lock().write_all(format!("{tell}\n").as_bytes());
        told.expect("somebody listens");
        // At that moment other threads are in the middle of their calls.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        }
    }

    pub fn intend(&self, key: &Key, state: State) {
        self.tell(&Tell::Intend { key: name(key), state, row: None });
    }

    pub fn ack(&self, key: &Key) {
        self.tell(&Tell::Ack(name(key)));
    }

    pub fn deny(&self, key: &Key) {
        self.tell(&Tell::Deny(name(key)));
    }

    pub fn found(&self, key: &Key, state: State) {
        self.tell(&Tell::Found { key: name(key), state });
    }

    /// Reports the state that a call is about to bring about, and afterwards that it was
    /// acknowledged.
    pub fn change<T>(&self, key: &Key, state: State, call: impl FnOnce() -> T) -> T {
        self.intend(key, state);
        let done = call();
        self.ack(key);
        done
    }
}

/// A key, by its name in lines and rows.
pub fn name(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}
