//! Callers that share an fsync: each gets its answer, and none before it is durable, whatever
//! fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use idemstore::{Begin, CompleteError, Error, Fingerprint};
use shuttle::thread;

use super::support::disk::{Fault, Op, SimDisk};
use super::support::{Answers, Bench, key};
use super::{ask, explore};

/// Nothing that was not synced.
fn nothing_unsynced(disk: &SimDisk) -> SimDisk {
    disk.after_power_cut(|_| 0)
}

/// Completes one key after the other, until an error, and records each with the disk that a power
/// cut at that moment would leave.
fn write(bench: &Bench, writer: usize, noted: &Mutex<Vec<(String, SimDisk)>>) -> Option<Error> {
    for step in 0..2 {
        let name = format!("{writer} {step}");
        let permit = match bench.store.begin(&key(&name), Fingerprint::of("request")) {
            Ok(begin) => begin.fresh(),
            Err(error) => return Some(error),
        };
        match permit.start().map(|execution| execution.complete(&name)) {
            Ok(Ok(_)) => {}
            Err(error) | Ok(Err(CompleteError::Store(error))) => return Some(error),
            Ok(Err(error)) => panic!("{error}"),
        }
        let cut = nothing_unsynced(&bench.disk);
        noted.lock().expect("nobody panics").push((name, cut));
    }
    None
}

/// At one of the moments of an acknowledgement: the key is there after a power cut.
fn check(bench: &Bench, noted: Mutex<Vec<(String, SimDisk)>>, pick: usize) {
    let noted = noted.into_inner().expect("nobody panics");
    if noted.is_empty() {
        return;
    }
    let at = pick % noted.len();
    let after = Bench::on(noted[at].1.after_kill(), bench.clock.clone());
    for (name, _) in &noted[..=at] {
        assert_eq!(ask(&after, name).replay().result(), name.as_bytes());
    }
}

fn pick() -> usize {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().r#gen::<usize>()
}

#[test]
fn what_is_acknowledged_is_durable_by_then() {
    explore(
        |_| {},
        |bench| {
            let noted = Mutex::default();
            thread::scope(|scope| {
                for writer in 0..3 {
                    let (bench, noted) = (&bench, &noted);
                    scope.spawn(move || assert!(write(bench, writer, noted).is_none()));
                }
            });
            check(&bench, noted, pick());
        },
    );
}

#[test]
fn a_batch_of_many_and_single_calls_are_all_answered() {
    explore(
        |_| {},
        |bench| {
            let noted = Mutex::default();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let names = ["many 0", "many 1", "many 2"];
                    let permits = names.map(|name| ask(&bench, name).fresh());
                    let executions = bench.store.start_many(permits).into_iter();
                    let results = executions.map(|execution| (execution.expect("it starts"), "r"));
                    for completed in bench.store.complete_many(results) {
                        assert_eq!(completed.expect("it completes").result(), b"r");
                    }
                });
                for writer in 0..2 {
                    let (bench, noted) = (&bench, &noted);
                    scope.spawn(move || assert!(write(bench, writer, noted).is_none()));
                }
            });
            check(&bench, noted, pick());
        },
    );
}

#[test]
fn a_sync_that_fails_answers_everybody_and_keeps_what_was_acknowledged() {
    explore(
        |_| {},
        |bench| {
            let noted = Mutex::default();
            let unknown = AtomicUsize::new(0);
            bench.disk.fail(Fault {
                on: Op::Sync,
                after: pick() as u64 % 6,
                for_good: true,
                kind: std::io::ErrorKind::Other,
            });
            thread::scope(|scope| {
                for writer in 0..3 {
                    let (bench, noted, unknown) = (&bench, &noted, &unknown);
                    scope.spawn(move || match write(bench, writer, noted) {
                        None | Some(Error::Poisoned(_)) => {}
                        Some(Error::OutcomeUnknown(_)) => {
                            unknown.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(error) => panic!("{error}"),
                    });
                }
            });
            assert!(!bench.disk.has_failed() || 0 < unknown.into_inner(), "nobody was told");
            check(&bench, noted, pick());
        },
    );
}

#[test]
fn a_log_that_is_full_holds_writers_up_and_loses_nothing() {
    explore(
        |_| {},
        |bench| {
            // Three of them fill a segment.
            let result = vec![b'r'; 10_000];
            thread::scope(|scope| {
                for writer in 0..3 {
                    let (bench, result) = (&bench, &result);
                    scope.spawn(move || {
                        for step in 0..3 {
                            let name = format!("{writer} {step}");
                            ask(bench, &name).fresh().complete(result).expect("it completes");
                            assert_eq!(ask(bench, &name).replay().result(), result);
                        }
                    });
                }
            });
            assert!(0 < bench.store.stats().settles, "the log was never full");
            let after = Bench::on(nothing_unsynced(&bench.disk), bench.clock.clone());
            for name in (0..3).flat_map(|writer| (0..3).map(move |step| format!("{writer} {step}")))
            {
                assert_eq!(ask(&after, &name).replay().result(), result);
            }
        },
    );
}

#[test]
fn a_close_answers_everybody_and_keeps_what_was_acknowledged() {
    explore(
        |_| {},
        |bench| {
            let noted = Mutex::default();
            let waited = ask(&bench, "waited for").fresh();
            thread::scope(|scope| {
                for writer in 0..2 {
                    let (bench, noted) = (&bench, &noted);
                    scope.spawn(move || match write(bench, writer, noted) {
                        None | Some(Error::Closed) => {}
                        Some(error) => panic!("{error}"),
                    });
                }
                scope.spawn(|| match bench.store.begin(&key("waited for"), Fingerprint::NONE) {
                    Ok(Begin::InFlight(in_flight)) => {
                        let answer = in_flight.wait(std::time::Duration::MAX);
                        assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
                    }
                    Err(Error::Closed) => {}
                    other => panic!("{other:?}"),
                });
                scope.spawn(|| bench.store.clone().close().expect("the store closes"));
            });
            drop(waited);
            check(&bench, noted, pick());
        },
    );
}
