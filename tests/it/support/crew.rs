//! Threads that share work.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does each job once, in as many threads as there are processors.
pub fn each<J: Send>(jobs: impl Iterator<Item = J> + Send, work: impl Fn(J) + Sync) {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    work(job);
                }
            });
        }
    });
}
