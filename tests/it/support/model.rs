//! The contract once more, as plainly as it can be said: what the store must answer.
//!
//! It shares no code with the store. A [`World`] runs operations on both and compares.

use std::collections::HashMap;

use idemstore::{
    Begin, CompleteError, Completed, Execution, Fingerprint, FinishError, Interrupted, Key,
    ManualClock, Permit, Timestamp,
};

use super::ops::Op;
use super::{Bench, RETENTION_MS, START_MS, SimDisk};

/// What is stored of a key.
#[derive(Clone, Debug)]
struct Known {
    request: u8,
    begun: u64,
    attempt: u32,
    /// The result and when it was stored, once there is one.
    completed: Option<(Vec<u8>, u64)>,
}

/// Who has a key in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Holder {
    #[default]
    Nobody,
    Handle,
    Detached,
}

#[derive(Clone, Debug, Default)]
struct KeyState {
    holder: Holder,
    known: Option<Known>,
}

enum Handle {
    Permit(Permit, u8, u64),
    Execution(Execution),
    Interrupted(Interrupted),
}

/// A store and what it must be like.
pub struct World {
    /// Taken out only while the store is opened again.
    bench: Option<Bench>,
    keys: HashMap<u8, KeyState>,
    handles: Vec<(u8, Handle)>,
    /// The latest time seen.
    now: u64,
}

const RESULT_LEN_MAX: usize = 16 * 1024;

impl World {
    /// The store's live table uses these bits of a key's hash only.
    pub fn new(hash_mask: u64) -> Self {
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        let bench = Bench::with(SimDisk::new(), clock, hash_mask);
        Self { bench: Some(bench), keys: HashMap::new(), handles: Vec::new(), now: START_MS }
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().expect("the store is open between two operations")
    }

    pub fn run(&mut self, op: &Op) {
        match *op {
            Op::Begin { key, request } => self.begin(key, request),
            Op::Start { handle } => self.with_handle(handle, Self::start),
            Op::Complete { handle, len } => {
                self.with_handle(handle, |world, key, handle| world.complete(key, handle, len));
            }
            Op::Abandon { handle } => self.with_handle(handle, Self::abandon),
            Op::Detach { handle } => self.with_handle(handle, Self::detach),
            Op::Drop { handle } => self.with_handle(handle, |world, key, handle| {
                drop(handle);
                world.let_go(key);
            }),
            Op::CompleteByKey { key, len } => self.complete_by_key(key, len),
            Op::AbandonByKey { key } => self.abandon_by_key(key),
            Op::Tick { ms } => {
                self.now += u64::from(ms);
                self.bench().clock.set(Timestamp::from_unix_ms(self.now));
            }
            Op::StepBack { ms } => {
                // A time that the store has never seen cannot hold it.
                drop(self.bench().begin("another", "request"));
                let back = Timestamp::from_unix_ms(self.now.saturating_sub(u64::from(ms)));
                self.bench().clock.set(back);
            }
            Op::Sweep => {
                self.bench().store.sweep().expect("it sweeps");
            }
            Op::Settle => self.bench().store.settle().expect("it settles"),
            Op::Count => self.count(),
            Op::Reopen => self.restart(Bench::reopen),
            Op::Kill => self.restart(Bench::kill),
            Op::PowerCut { mut seed } => self.restart(|bench| {
                bench.cut(|below| {
                    seed = splitmix(seed);
                    seed % below
                })
            }),
        }
    }

    fn key(&mut self, key: u8) -> &mut KeyState {
        self.keys.entry(key).or_default()
    }

    /// What counts of a key now: a held key whatever the time, and else until its retention ends.
    fn counting(&self, key: u8) -> (Holder, Option<&Known>) {
        let Some(state) = self.keys.get(&key) else { return (Holder::Nobody, None) };
        let known = state.known.as_ref().filter(|known| {
            state.holder != Holder::Nobody || self.now < known.begun + RETENTION_MS
        });
        (state.holder, known)
    }

    fn begin(&mut self, key: u8, request: u8) {
        let begin = self.bench().store.begin(&name(key), fingerprint(request));
        let begin = begin.expect("begin answers");
        match self.counting(key) {
            (_, Some(known)) if known.request != request => {
                assert!(matches!(begin, Begin::Mismatch), "{begin:?} in place of a mismatch");
            }
            (Holder::Handle | Holder::Detached, _) => {
                assert!(matches!(begin, Begin::InFlight(_)), "{begin:?} in place of in flight");
            }
            (Holder::Nobody, Some(known)) => match (begin, &known.completed) {
                (Begin::Replay(completed), Some((result, at))) => {
                    check(&completed, known, result, *at);
                }
                (Begin::Interrupted(interrupted), None) => {
                    assert_eq!(interrupted.attempt(), known.attempt);
                    assert_eq!(interrupted.begun_at().as_unix_ms(), known.begun);
                    self.handles.push((key, Handle::Interrupted(interrupted)));
                    self.key(key).holder = Holder::Handle;
                }
                (begin, completed) => panic!("{begin:?} for completed {}", completed.is_some()),
            },
            (Holder::Nobody, None) => {
                let Begin::Fresh(permit) = begin else { panic!("{begin:?} in place of fresh") };
                let now = self.now;
                self.handles.push((key, Handle::Permit(permit, request, now)));
                *self.key(key) = KeyState { holder: Holder::Handle, known: None };
            }
        }
    }

    fn with_handle(&mut self, handle: u8, then: impl FnOnce(&mut Self, u8, Handle)) {
        if !self.handles.is_empty() {
            let at = usize::from(handle) % self.handles.len();
            let (key, handle) = self.handles.swap_remove(at);
            then(self, key, handle);
        }
    }

    fn start(&mut self, key: u8, handle: Handle) {
        let execution = match handle {
            Handle::Permit(permit, request, begun) => {
                let known = Known { request, begun, attempt: 1, completed: None };
                self.key(key).known = Some(known);
                permit.start().expect("it starts")
            }
            Handle::Interrupted(interrupted) => {
                if let Some(known) = &mut self.key(key).known {
                    known.attempt += 1;
                }
                interrupted.retry().expect("it starts again")
            }
            Handle::Execution(execution) => execution,
        };
        let attempt = self.key(key).known.as_ref().map(|known| known.attempt);
        assert_eq!(attempt, Some(execution.attempt()));
        self.handles.push((key, Handle::Execution(execution)));
    }

    fn complete(&mut self, key: u8, handle: Handle, len: u16) {
        let result = result(key, len);
        let (refused, completed) = match handle {
            Handle::Permit(permit, request, begun) => match permit.complete(&result) {
                Ok(completed) => {
                    let known = Known { request, begun, attempt: 1, completed: None };
                    self.key(key).known = Some(known);
                    (None, Some(completed))
                }
                Err(error) => (Some(Handle::Permit(refused(error), request, begun)), None),
            },
            Handle::Execution(execution) => match execution.complete(&result) {
                Ok(completed) => (None, Some(completed)),
                Err(error) => (Some(Handle::Execution(refused(error))), None),
            },
            Handle::Interrupted(interrupted) => match interrupted.resolve(&result) {
                Ok(completed) => (None, Some(completed)),
                Err(error) => (Some(Handle::Interrupted(refused(error))), None),
            },
        };
        assert_eq!(refused.is_some(), RESULT_LEN_MAX < result.len());
        if let Some(handle) = refused {
            self.handles.push((key, handle));
        }
        if let Some(completed) = completed {
            self.completed(key, &result, &completed);
        }
    }

    fn completed(&mut self, key: u8, result: &[u8], completed: &Completed) {
        let now = self.now;
        let state = self.key(key);
        state.holder = Holder::Nobody;
        let known = state.known.as_mut().expect("what is completed was started");
        known.completed = Some((result.to_vec(), now));
        check(completed, known, result, now);
    }

    fn abandon(&mut self, key: u8, handle: Handle) {
        match handle {
            Handle::Permit(permit, ..) => permit.release(),
            Handle::Execution(execution) => execution.abandon().expect("it is abandoned"),
            Handle::Interrupted(interrupted) => interrupted.abandon().expect("it is abandoned"),
        }
        *self.key(key) = KeyState::default();
    }

    fn detach(&mut self, key: u8, handle: Handle) {
        match handle {
            Handle::Execution(execution) => {
                execution.detach();
                self.key(key).holder = Holder::Detached;
            }
            other => self.handles.push((key, other)),
        }
    }

    fn let_go(&mut self, key: u8) {
        self.key(key).holder = Holder::Nobody;
    }

    /// Whether an operation can be finished by its key, or why not.
    fn finishable(&self, key: u8) -> Result<(), &'static str> {
        match self.counting(key) {
            (Holder::Handle, _) => Err("held"),
            (_, Some(Known { completed: None, .. })) => Ok(()),
            _ => Err("not executing"),
        }
    }

    fn complete_by_key(&mut self, key: u8, len: u16) {
        let result = result(key, len);
        let finishable = self.finishable(key);
        match (self.bench().store.complete(&name(key), &result), finishable) {
            (Ok(completed), Ok(())) => self.completed(key, &result, &completed),
            (Err(FinishError::Complete(CompleteError::TooLarge { .. })), Ok(())) => {
                assert!(RESULT_LEN_MAX < result.len());
            }
            (Err(FinishError::Held), Err("held"))
            | (Err(FinishError::NotExecuting), Err("not executing")) => {}
            (answer, expected) => panic!("{answer:?} in place of {expected:?}"),
        }
    }

    fn abandon_by_key(&mut self, key: u8) {
        let finishable = self.finishable(key);
        match (self.bench().store.abandon(&name(key)), finishable) {
            (Ok(()), Ok(())) => *self.key(key) = KeyState::default(),
            (Err(FinishError::Held), Err("held"))
            | (Err(FinishError::NotExecuting), Err("not executing")) => {}
            (answer, expected) => panic!("{answer:?} in place of {expected:?}"),
        }
    }

    fn count(&mut self) {
        let store = &self.bench().store;
        store.settle().expect("it settles");
        while 0 < store.sweep().expect("it sweeps") {}
        let records = self.keys.keys().filter(|key| self.counting(**key).1.is_some()).count();
        assert_eq!(store.stats().records, records);
        let held = self.keys.values().filter(|state| state.holder != Holder::Nobody).count();
        assert_eq!(store.stats().in_flight, held);
    }

    /// Ends the store and opens it again. Handles of before can do nothing any more.
    fn restart(&mut self, restart: impl FnOnce(Bench) -> Bench) {
        let bench = self.bench.take().expect("the store is open between two operations");
        // What a restart makes of a clock that was set back is a matter of `retention.rs`.
        bench.clock.set(Timestamp::from_unix_ms(self.now));
        // Held while the store is closed or killed, as in a program that ends.
        let handles = std::mem::take(&mut self.handles);
        self.bench = Some(restart(bench));
        drop(handles);
        for state in self.keys.values_mut() {
            state.holder = Holder::Nobody;
        }
    }
}

fn check(completed: &Completed, known: &Known, result: &[u8], at: u64) {
    assert_eq!(completed.result(), result);
    assert_eq!(completed.begun_at().as_unix_ms(), known.begun);
    assert_eq!(completed.completed_at().as_unix_ms(), at);
    assert_eq!(completed.expires_at().as_unix_ms(), known.begun + RETENTION_MS);
    assert_eq!(completed.attempt(), known.attempt);
}

fn refused<H: std::fmt::Debug>(error: CompleteError<H>) -> H {
    match error {
        CompleteError::TooLarge { handle, max: RESULT_LEN_MAX, .. } => handle,
        other => panic!("{other:?}"),
    }
}

/// Even keys have a scope, so that scoped and bare ones mix.
fn name(key: u8) -> Key {
    let scope = if key.is_multiple_of(2) { "scope" } else { "" };
    Key::scoped(scope, [b'k', key / 2]).expect("it is a key")
}

fn fingerprint(request: u8) -> Fingerprint {
    Fingerprint::of([request])
}

fn result(key: u8, len: u16) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[0] ^ key).collect()
}

/// A step of the splitmix64 generator.
pub fn splitmix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
