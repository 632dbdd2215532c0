//! A close beside callers of one key: after the first call that it refuses, nothing is handed out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use idemstore::{Begin, CompleteError, Error, Fingerprint, FinishError};
use shuttle::thread;

use super::explore;
use super::support::{Bench, Started, key};

/// What the callers of one key know together.
#[derive(Default)]
struct Watch {
    /// Callers that hold the key, or whose call to let go of it has not returned.
    held: AtomicUsize,
    /// Whether a call was refused because the store is being closed.
    refused: AtomicBool,
}

impl Watch {
    fn begin(&self, bench: &Bench) -> Option<Begin> {
        let refused = self.refused.load(Ordering::SeqCst);
        match bench.store.begin(&key("key"), Fingerprint::of("request")) {
            Ok(begin) => {
                assert!(!refused, "a close has refused a call, and then: {begin:?}");
                if matches!(begin, Begin::Fresh(_) | Begin::Interrupted(_)) {
                    assert_eq!(self.held.fetch_add(1, Ordering::SeqCst), 0, "two have the key");
                }
                Some(begin)
            }
            Err(Error::Closed) => {
                self.refuse();
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn refuse(&self) {
        self.refused.store(true, Ordering::SeqCst);
    }

    /// A call that lets go of the key if it is refused.
    fn refusable<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Option<T> {
        match call() {
            Ok(done) => Some(done),
            Err(Error::Closed) => {
                self.refuse();
                self.let_go();
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The caller is about to let go of the key, or has done so.
    fn let_go(&self) {
        assert_eq!(self.held.fetch_sub(1, Ordering::SeqCst), 1);
    }

    /// Begins, starts or retries, and drops the execution.
    fn start(&self, bench: &Bench) {
        let started = match self.begin(bench) {
            Some(Begin::Fresh(permit)) => self.refusable(|| permit.start()),
            Some(Begin::Interrupted(interrupted)) => self.refusable(|| interrupted.retry()),
            _ => None,
        };
        if let Some(execution) = started {
            self.let_go();
            drop(execution);
        }
    }

    /// Begins, and completes what it gets.
    fn complete(&self, bench: &Bench) {
        let completed = match self.begin(bench) {
            Some(Begin::Fresh(permit)) => {
                self.refusable(|| permit.complete("").map_err(store_error))
            }
            Some(Begin::Interrupted(interrupted)) => {
                self.refusable(|| interrupted.resolve("").map_err(store_error))
            }
            _ => None,
        };
        if completed.is_some() {
            self.let_go();
        }
    }

    /// Begins, detaches, and finishes by key.
    fn detach(&self, bench: &Bench) {
        let started = match self.begin(bench) {
            Some(Begin::Fresh(permit)) => self.refusable(|| permit.start()),
            Some(Begin::Interrupted(interrupted)) => self.refusable(|| interrupted.retry()),
            _ => None,
        };
        let Some(execution) = started else { return };
        self.let_go();
        execution.detach();
        match bench.store.abandon(&key("key")) {
            Ok(()) => {}
            // Whether it was finished, and by which caller, is checked elsewhere.
            Err(FinishError::NotExecuting | FinishError::Held) => {}
            Err(FinishError::Store(Error::Closed)) => self.refuse(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn store_error<H: std::fmt::Debug>(error: CompleteError<H>) -> Error {
    match error {
        CompleteError::Store(error) => error,
        error => panic!("{error:?}"),
    }
}

fn close(bench: &Bench) {
    bench.store.clone().close().expect("the store closes");
}

fn nothing(_: &Bench) {}

fn interrupted(bench: &Bench) {
    drop(bench.begin("key", "request").started());
}

/// Two callers of one key, each twice, and a close.
fn beside_a_close(before: fn(&Bench), callers: [fn(&Watch, &Bench); 2]) {
    explore(before, move |bench| {
        let watch = Watch::default();
        thread::scope(|scope| {
            for call in callers {
                let (bench, watch) = (&bench, &watch);
                scope.spawn(move || {
                    call(watch, bench);
                    call(watch, bench);
                });
            }
            scope.spawn(|| close(&bench));
        });
        assert!(watch.begin(&bench).is_none(), "the store is closed");
    });
}

#[test]
fn a_start_that_a_close_refuses_gives_its_key_to_nobody() {
    beside_a_close(nothing, [Watch::start, Watch::start]);
}

#[test]
fn a_retry_that_a_close_refuses_gives_its_key_to_nobody() {
    beside_a_close(interrupted, [Watch::start, Watch::start]);
}

#[test]
fn a_completion_that_a_close_refuses_gives_its_key_to_nobody() {
    beside_a_close(nothing, [Watch::start, Watch::complete]);
    beside_a_close(interrupted, [Watch::complete, Watch::complete]);
}

#[test]
fn a_detached_execution_beside_a_close_is_finished_or_left_and_never_given_out_twice() {
    beside_a_close(nothing, [Watch::detach, Watch::start]);
    beside_a_close(interrupted, [Watch::detach, Watch::complete]);
}
