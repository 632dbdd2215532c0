//! A thread that calls the store, and records its calls and their answers.

use std::fmt::Debug;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idemstore::{
    Begin, CheckpointError, Clock, CompleteError, Completed, Error, Execution, FinishError,
    InFlight, Interrupted, Key, ManualClock, Permit, Store,
};

use super::facts::{
    bytes, fingerprint, name_of, of_completed, of_execution, of_info, of_interrupted,
};
use super::pause::pause;
use super::spec::{Aim, Answer, Ask, Change, Facts, Handle, Refusal, Step};
use super::{Dice, Event, Stamp, stamp};

/// What all callers share.
pub struct Scene<'s> {
    pub store: &'s Store,
    pub clock: ManualClock,
    pub keys: Vec<Key>,
    /// Whether calls may be refused, because the store is closed or its disk fails under them.
    pub may_fail: bool,
    /// Whether the callers should make no more calls.
    pub stop: AtomicBool,
    /// Handles that are no longer used, and that are not dropped while the store is open.
    pub attic: Attic,
}

pub struct Caller<'s> {
    scene: &'s Scene<'s>,
    thread: usize,
    dice: Dice,
    held: Vec<Held>,
    /// Each with the number of its key.
    events: Vec<(usize, Event)>,
    /// Whether the store has refused a call: then it accepts no more writes.
    refused: bool,
}

/// A key that this caller holds.
struct Held {
    key: usize,
    handle: Handle,
    grip: Grip,
}

/// Handles that are not dropped while the store is open.
pub type Attic = Arc<Mutex<Vec<Grip>>>;

pub enum Grip {
    Permit(Permit),
    Execution(Execution),
    Interrupted(Interrupted),
}

/// When a call was made (which also names it), and when it had returned.
#[derive(Clone, Copy)]
struct Span {
    invoked: Stamp,
    answered: Stamp,
    since: u64,
}

impl<'s> Caller<'s> {
    pub fn new(scene: &'s Scene<'s>, thread: usize, seed: u64) -> Self {
        let dice = Dice(seed);
        Self { scene, thread, dice, held: Vec::new(), events: Vec::new(), refused: false }
    }

    /// Makes this many calls, and then lets go of everything it holds.
    pub fn run(mut self, calls: usize) -> Vec<(usize, Event)> {
        for _ in 0..calls {
            if self.refused || self.scene.stop.load(Ordering::SeqCst) {
                break;
            }
            pause();
            self.call();
        }
        for held in mem::take(&mut self.held) {
            if self.dice.one_in(8) { self.leak(held.grip) } else { self.let_go(held) }
        }
        self.events
    }

    /// Begins each key, with either request, when no other caller does.
    pub fn look(mut self) -> Vec<(usize, Event)> {
        for key in 0..self.scene.keys.len() {
            for request in [0, 1] {
                self.get(key);
                self.begin(key, request);
                for held in mem::take(&mut self.held) {
                    self.let_go(held);
                }
            }
        }
        self.events
    }

    fn note(&mut self, key: usize, span: Span, step: Step) {
        self.put(key, span, step, true);
    }

    fn put(&mut self, key: usize, span: Span, step: Step, certain: bool) {
        let Span { invoked, answered, since } = span;
        let thread = self.thread;
        self.events.push((key, Event { invoked, answered, certain, thread, since, step }));
    }

    /// Makes a call, which receives its own name.
    fn timed<T>(&self, call: impl FnOnce(Stamp) -> T) -> (T, Span) {
        let since = self.scene.clock.now().as_unix_ms();
        let invoked = stamp();
        let answer = call(invoked);
        (answer, Span { invoked, answered: stamp(), since })
    }

    fn call(&mut self) {
        let at = self.dice.below(self.held.len() as u64 + 1) as usize;
        if at < self.held.len() || 1 < self.held.len() {
            let held = self.held.swap_remove(at.min(self.held.len() - 1));
            return self.go_on(held);
        }
        let key = self.dice.below(self.scene.keys.len() as u64) as usize;
        match self.dice.below(16) {
            0 => self.forget(key),
            1 | 2 => self.complete_by_key(key),
            3 => self.abandon_by_key(key),
            4..7 => self.get(key),
            _ => {
                let request = u8::from(self.dice.one_in(4));
                self.begin(key, request);
            }
        }
    }

    fn begin(&mut self, key: usize, request: u8) {
        let Scene { store, keys, .. } = self.scene;
        let ask = Ask { request, waited: false };
        let (begin, span) = self.timed(|_| store.begin(&keys[key], fingerprint(request)));
        let Some(Begin::InFlight(in_flight)) = self.answered(key, span, ask, begin) else { return };
        if self.dice.one_in(2) {
            // The caller that holds the key may be gone by now, and there may be no time to wait.
            pause();
            let timeout = Duration::from_micros(self.dice.below(4) * self.dice.below(100));
            let ask = Ask { waited: true, ..ask };
            let as_future = self.dice.one_in(2);
            let (begin, span) = self.timed(|_| wait(in_flight, timeout, as_future));
            self.answered(key, span, ask, begin);
        }
    }

    /// Records an answer, keeps the handle that it returns, and returns the rest of it.
    fn answered(
        &mut self,
        key: usize,
        span: Span,
        ask: Ask,
        told: Result<Begin, Error>,
    ) -> Option<Begin> {
        let handle = span.invoked;
        let answer = match &told {
            Ok(Begin::Fresh(_)) => Answer::Fresh(handle),
            Ok(Begin::Interrupted(interrupted)) => {
                Answer::Interrupted(handle, of_interrupted(interrupted))
            }
            Ok(Begin::Replay(replay)) => {
                Answer::Replay(of_completed(replay), name_of(replay.result()))
            }
            Ok(Begin::InFlight(_)) => Answer::InFlight,
            Ok(Begin::Mismatch) => Answer::Mismatch,
            Ok(other) => panic!("{other:?} was never stored"),
            Err(error) => {
                self.fails(error);
                // It may have held the key for a moment.
                self.put(key, span, Step::Fail(handle), false);
                self.put(key, span, Step::LetGo(handle), false);
                return None;
            }
        };
        self.note(key, span, Step::Begin(ask, answer));
        let grip = match told.ok()? {
            Begin::Fresh(permit) => Grip::Permit(permit),
            Begin::Interrupted(interrupted) => Grip::Interrupted(interrupted),
            begin => return Some(begin),
        };
        self.held.push(Held { key, handle, grip });
        None
    }

    fn get(&mut self, key: usize) {
        let Scene { store, keys, .. } = self.scene;
        let (info, span) = self.timed(|_| store.get(&keys[key]));
        match info {
            Ok(info) => self.note(key, span, Step::Get(info.as_ref().map(of_info))),
            Err(error) => self.fails(&error),
        }
    }

    fn forget(&mut self, key: usize) {
        let as_future = self.dice.one_in(2);
        let Scene { store, keys, .. } = self.scene;
        let (forgotten, span) =
            self.timed(|_| wait!(as_future, store.forget, forget_async(&keys[key])));
        match forgotten {
            Ok(true) => self.by_key(key, span, Aim::Completed, Change::Remove, Ok(None)),
            Ok(false) => self.note(key, span, Step::Refused(Aim::Completed, Refusal::Either)),
            Err(error) => self.by_key(key, span, Aim::Completed, Change::Remove, Err(error)),
        }
    }

    fn complete_by_key(&mut self, key: usize) {
        let as_future = self.dice.one_in(2);
        let Scene { store, keys, .. } = self.scene;
        let (completed, span) = self.timed(|name| {
            wait!(as_future, store.complete, complete_async(&keys[key], bytes(name)))
        });
        let completed = completed.map(|completed| Some(of_completed(&completed)));
        self.finish(key, span, Change::Complete(span.invoked), completed);
    }

    fn abandon_by_key(&mut self, key: usize) {
        let as_future = self.dice.one_in(2);
        let Scene { store, keys, .. } = self.scene;
        let (abandoned, span) =
            self.timed(|_| wait!(as_future, store.abandon, abandon_async(&keys[key])));
        self.finish(key, span, Change::Remove, abandoned.map(|()| None));
    }

    fn finish(
        &mut self,
        key: usize,
        span: Span,
        change: Change,
        finished: Result<Option<Facts>, FinishError>,
    ) {
        let refusal = match finished {
            Ok(facts) => return self.by_key(key, span, Aim::Execution, change, Ok(facts)),
            Err(FinishError::Store(error)) => {
                return self.by_key(key, span, Aim::Execution, change, Err(error));
            }
            Err(FinishError::Held) => Refusal::Held,
            Err(_) => Refusal::Nothing,
        };
        self.note(key, span, Step::Refused(Aim::Execution, refusal));
    }

    /// A call by key that did something, or may have.
    fn by_key(
        &mut self,
        key: usize,
        span: Span,
        aim: Aim,
        change: Change,
        done: Result<Option<Facts>, Error>,
    ) {
        let handle = span.invoked;
        let certain = done.is_ok();
        self.put(key, span, Step::Take(handle, aim), certain);
        match done {
            Ok(facts) => self.note(key, span, Step::Change(handle, change, facts)),
            Err(error) => {
                self.fails(&error);
                if matches!(error, Error::OutcomeUnknown(_)) {
                    self.put(key, span, Step::Unsure(handle, change), false);
                }
                self.put(key, span, Step::LetGo(handle), false);
            }
        }
    }

    /// The key stays in flight for as long as the store is open.
    fn leak(&self, grip: Grip) {
        self.scene.attic.lock().expect("no thread panics with it").push(grip);
    }

    /// Does something with a key that it holds. Now and then it leaks the handle.
    fn go_on(&mut self, Held { key, handle, grip }: Held) {
        match grip {
            Grip::Permit(permit) => self.use_permit(key, handle, permit),
            Grip::Execution(execution) => self.go_on_with(key, handle, execution),
            Grip::Interrupted(interrupted) => self.find_out(key, handle, interrupted),
        }
    }

    fn use_permit(&mut self, key: usize, handle: Handle, permit: Permit) {
        let as_future = self.dice.one_in(2);
        match self.dice.below(16) {
            0..9 => self.start(key, handle, || wait!(as_future, permit.start, start_async())),
            9..11 => self.complete(key, handle, |bytes| {
                wait!(as_future, permit.complete, complete_async(bytes)).map_err(failure)
            }),
            11..13 => self.complete(key, handle, |bytes| complete_with(permit, bytes)),
            13..15 => self.let_go(Held { key, handle, grip: Grip::Permit(permit) }),
            _ => self.leak(Grip::Permit(permit)),
        }
    }

    fn go_on_with(&mut self, key: usize, handle: Handle, mut execution: Execution) {
        let as_future = self.dice.one_in(2);
        match self.dice.below(16) {
            0..6 => self.complete(key, handle, |bytes| {
                wait!(as_future, execution.complete, complete_async(bytes)).map_err(failure)
            }),
            6..9 => {
                let (stored, span) = self.timed(|name| {
                    wait!(as_future, execution.checkpoint, checkpoint_async(bytes(name)))
                });
                let stored = stored.map(|()| Some(of_execution(&execution)));
                let stored = stored.map_err(|error| match error {
                    CheckpointError::Store(error) => error,
                    other => panic!("{other:?}"),
                });
                self.changed(key, handle, span, Change::Checkpoint(span.invoked), stored);
                // After a failure the handle lives on, and is let go of with the others.
                self.held.push(Held { key, handle, grip: Grip::Execution(execution) });
            }
            9..11 => {
                self.abandon(key, handle, || wait!(as_future, execution.abandon, abandon_async()));
            }
            11..13 => {
                let ((), span) = self.timed(|_| execution.detach());
                self.note(key, span, Step::Detach(handle));
            }
            13..15 => self.let_go(Held { key, handle, grip: Grip::Execution(execution) }),
            _ => self.leak(Grip::Execution(execution)),
        }
    }

    fn find_out(&mut self, key: usize, handle: Handle, interrupted: Interrupted) {
        let as_future = self.dice.one_in(2);
        match self.dice.below(16) {
            0..7 => self.start(key, handle, || wait!(as_future, interrupted.retry, retry_async())),
            7..10 => self.complete(key, handle, |bytes| {
                wait!(as_future, interrupted.resolve, resolve_async(bytes)).map_err(failure)
            }),
            10..12 => {
                self.abandon(key, handle, || {
                    wait!(as_future, interrupted.abandon, abandon_async())
                });
            }
            12..15 => self.let_go(Held { key, handle, grip: Grip::Interrupted(interrupted) }),
            _ => self.leak(Grip::Interrupted(interrupted)),
        }
    }

    fn start(
        &mut self,
        key: usize,
        handle: Handle,
        start: impl FnOnce() -> Result<Execution, Error>,
    ) {
        let (execution, span) = self.timed(|_| start());
        let shown =
            execution.as_ref().map(|execution| Some(of_execution(execution))).map_err(Clone::clone);
        self.consumed(key, handle, span, Change::Start, shown);
        if let Ok(execution) = execution {
            self.held.push(Held { key, handle, grip: Grip::Execution(execution) });
        }
    }

    fn complete(
        &mut self,
        key: usize,
        handle: Handle,
        complete: impl FnOnce(Vec<u8>) -> Result<Completed, Error>,
    ) {
        let (completed, span) = self.timed(|name| complete(bytes(name)));
        let shown = completed.map(|completed| {
            assert_eq!(name_of(completed.result()), span.invoked);
            Some(of_completed(&completed))
        });
        self.consumed(key, handle, span, Change::Complete(span.invoked), shown);
    }

    fn abandon(&mut self, key: usize, handle: Handle, abandon: impl FnOnce() -> Result<(), Error>) {
        let (abandoned, span) = self.timed(|_| abandon());
        self.consumed(key, handle, span, Change::Remove, abandoned.map(|()| None));
    }

    /// A call that takes the handle, whether or not it succeeds.
    fn consumed(
        &mut self,
        key: usize,
        handle: Handle,
        span: Span,
        change: Change,
        done: Result<Option<Facts>, Error>,
    ) {
        let has_failed = done.is_err();
        self.changed(key, handle, span, change, done);
        if has_failed {
            self.note(key, span, Step::LetGo(handle));
        }
    }

    fn changed(
        &mut self,
        key: usize,
        handle: Handle,
        span: Span,
        change: Change,
        done: Result<Option<Facts>, Error>,
    ) {
        match done {
            Ok(facts) => self.note(key, span, Step::Change(handle, change, facts)),
            Err(error) => {
                self.fails(&error);
                if matches!(error, Error::OutcomeUnknown(_)) {
                    self.note(key, span, Step::Unsure(handle, change));
                }
            }
        }
    }

    fn let_go(&mut self, Held { key, handle, grip }: Held) {
        let ((), span) = self.timed(|_| drop(grip));
        self.note(key, span, Step::LetGo(handle));
    }

    fn fails(&mut self, error: &Error) {
        assert!(self.scene.may_fail, "{error:?}");
        assert!(!matches!(error, Error::Corrupt { .. }), "{error:?}");
        self.refused = true;
    }
}

/// The store's own error: none of these calls is refused for any other reason.
fn failure<H: Debug>(error: CompleteError<H>) -> Error {
    match error {
        CompleteError::Store(error) => error,
        other => panic!("{other:?}"),
    }
}

fn wait(in_flight: InFlight, timeout: Duration, as_future: bool) -> Result<Begin, Error> {
    use crate::support::waiting::block_on_until;
    if !as_future {
        return in_flight.wait(timeout);
    }
    let deadline = Some(std::time::Instant::now() + timeout);
    let told = block_on_until(deadline, in_flight.clone().wait_async());
    told.unwrap_or(Ok(Begin::InFlight(in_flight)))
}

#[cfg(feature = "transaction")]
fn complete_with(permit: Permit, bytes: Vec<u8>) -> Result<Completed, Error> {
    use idemstore::TransactionError;

    permit.complete_with(|_| Ok::<_, ()>(bytes)).map_err(|error| match error {
        TransactionError::Store(error) => error,
        other => panic!("{other:?}"),
    })
}

#[cfg(not(feature = "transaction"))]
fn complete_with(permit: Permit, bytes: Vec<u8>) -> Result<Completed, Error> {
    permit.complete(bytes).map_err(failure)
}
