//! Operations that run in one call.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use idemstore::{Begin, CheckpointError, CompleteError, Effect, Execution, Outcome, RunError};

use super::by_key::Answer;
use super::{
    Done, Handle, Holder, Known, World, check_execution, fingerprint, fits, name, progress,
    refused_checkpoint, result,
};
use crate::support::ops::{End, Request, Run};

/// The error of an operation that was not done.
type Reason = &'static str;
/// Whether the operation has run, and whether its checkpoint was stored.
type Operated = Option<Result<(), CheckpointError>>;
type Ran = thread::Result<Result<Outcome<Reason>, RunError<Vec<u8>, Reason>>>;

impl World {
    pub(super) fn run_request(&mut self, request: Request, run: Run) {
        let (key, print) = (name(request.key), fingerprint(request.request));
        let fresh = matches!(self.expected(request), Answer::Fresh);
        let known = self.renewed(self.fresh(request.request));
        let mut operated = None;
        let ran = catch_unwind(AssertUnwindSafe(|| {
            self.bench().store.run(&key, print, |execution| {
                operate(&mut operated, execution, request.key, &known, run)
            })
        }));
        assert!(operated.is_none() || fresh, "it must not run");
        if let Ok(Err(RunError::NotRun(failure))) = ran {
            if fresh {
                self.failed_with(request.key, Some(known), None, &failure);
            } else {
                self.said::<(), _>(Err(failure));
            }
        } else if fresh {
            self.take(request.key, Holder::Execution);
            self.has_run(request.key, known, run, (operated, ran));
        } else {
            self.answered(request, not_run(ran));
        }
    }

    pub(super) fn run_handle(&mut self, key: u8, handle: Handle, run: Run) {
        let mut known = self.known(key, &handle);
        let mut operated = None;
        let ran = match handle {
            Handle::Permit(permit, _) => {
                known = self.renewed(known);
                catch_unwind(AssertUnwindSafe(|| {
                    permit.run(|execution| operate(&mut operated, execution, key, &known, run))
                }))
            }
            Handle::Interrupted(interrupted) => {
                known.attempt += 1;
                catch_unwind(AssertUnwindSafe(|| {
                    interrupted.run(|execution| operate(&mut operated, execution, key, &known, run))
                }))
            }
            execution @ Handle::Execution(_) => return self.handles.push((key, execution)),
        };
        self.has_run(key, known, run, (operated, ran));
    }

    /// `known` is what the operation was started with.
    fn has_run(&mut self, key: u8, mut known: Known, run: Run, (operated, ran): (Operated, Ran)) {
        let stored = run.checkpoint.map(|len| progress(&known, len)).filter(|bytes| fits(bytes));
        let after = Known { checkpoint: stored.or(known.checkpoint.clone()), ..known.clone() };
        match operated {
            Some(Err(failure)) => self.failed_with(key, Some(after), None, &failure),
            Some(Ok(())) => known = after,
            None => {}
        }
        match (ran, run.end) {
            (Ok(Ok(Outcome::Done(completed))), End::Done { len }) => {
                self.completed(key, known, result(key, len), &completed);
            }
            (
                Ok(Err(RunError::NotStored {
                    result: refused,
                    source: CompleteError::TooLarge { handle, .. },
                })),
                End::Done { len },
            ) => {
                assert!(!fits(&refused));
                assert_eq!(refused, result(key, len));
                self.executes(key, known, handle);
            }
            (Ok(Err(failure)), end) => {
                let next = match (&failure, end) {
                    (RunError::NotStored { .. }, End::Done { len }) => {
                        Some(self.finished(known.clone(), Done::Result(result(key, len))))
                    }
                    (RunError::NotRun(_), _) => Some(known.clone()),
                    _ => None,
                };
                if !matches!(failure, RunError::NotRun(_)) {
                    self.key(key).known = Some(known);
                }
                self.failed(key, next, &failure);
            }
            (Ok(Ok(Outcome::DidNotHappen(_))), End::DidNotHappen) if known.attempt == 1 => {
                self.free(key);
            }
            // A later attempt says nothing about the first.
            (Ok(Ok(Outcome::Unknown(_))), End::DidNotHappen) if 1 < known.attempt => {
                let state = self.key(key);
                (state.holder, state.known) = (Holder::Nobody, Some(known));
            }
            (Ok(Ok(Outcome::Unknown(_))), End::Unknown) | (Err(_), End::Panic) => {
                let state = self.key(key);
                (state.holder, state.known) = (Holder::Nobody, Some(known));
            }
            (ran, end) => panic!("{ran:?} instead of {end:?}"),
        }
    }
}

/// The operation itself.
fn operate(
    operated: &mut Operated,
    execution: &mut Execution,
    key: u8,
    known: &Known,
    run: Run,
) -> Effect<Vec<u8>, Reason> {
    check_execution(execution, known);
    let mut stored = Ok(());
    if let Some(len) = run.checkpoint {
        let progress = progress(known, len);
        stored = execution.checkpoint(&progress);
        if !fits(&progress) {
            refused_checkpoint(stored.expect_err("it is too long"));
            stored = Ok(());
        }
    }
    *operated = Some(stored);
    match run.end {
        End::Done { len } => Effect::Done(result(key, len)),
        End::DidNotHappen => Effect::DidNotHappen("nothing was done"),
        End::Unknown => Effect::Unknown("no answer came"),
        // Like a panic, but without a message, at which a fuzzer would stop.
        End::Panic => resume_unwind(Box::new("the operation panics")),
    }
}

/// The same answer, expressed as one of `begin`.
fn not_run(ran: Ran) -> Begin {
    match ran {
        Ok(Ok(Outcome::Replay(completed))) => Begin::Replay(completed),
        Ok(Ok(Outcome::NotKept(tombstone))) => Begin::NotKept(tombstone),
        Ok(Ok(Outcome::InFlight(in_flight))) => Begin::InFlight(in_flight),
        Ok(Ok(Outcome::Mismatch)) => Begin::Mismatch,
        Ok(Ok(Outcome::Interrupted(interrupted))) => Begin::Interrupted(interrupted),
        ran => panic!("{ran:?} instead of an answer"),
    }
}
