//! Operations on handles.

use std::fmt::Debug;
use std::time::Duration;

use idemstore::{
    Bound, CheckpointError, Completable, CompleteError, Completed, Error, Execution, Interrupted,
    NotKept, Permit, Startable, Timestamp,
};

use super::flood::Queue;
use super::{
    Done, Handle, Holder, Known, World, as_future, check_execution, fits, progress, refused,
    refused_checkpoint, result,
};
use crate::support::ops::{Kind, Len, Op};

impl World {
    pub(super) fn run_handle_op(&mut self, op: &Op) {
        match *op {
            Op::Start { handle } => self.with_handle(handle, Self::start),
            Op::Retain { handle, ms } => {
                self.with_handle(handle, |world, key, handle| world.retain(key, handle, ms));
            }
            Op::Checkpoint { handle, len } => {
                self.with_handle(handle, |world, key, handle| world.checkpoint(key, handle, len));
            }
            Op::Complete { handle, len } => {
                self.with_handle(handle, |world, key, handle| world.complete(key, handle, len));
            }
            Op::NotKept { handle, len } => {
                self.with_handle(handle, |world, key, handle| world.tombstone(key, handle, len));
            }
            Op::RunHandle { handle, run } => {
                self.with_handle(handle, |world, key, handle| world.run_handle(key, handle, run));
            }
            #[cfg(feature = "transaction")]
            Op::CompleteWith { handle, len, shared } => {
                self.with_handle(handle, |world, key, handle| {
                    world.complete_with(key, handle, len, shared);
                });
            }
            Op::Abandon { handle } => self.with_handle(handle, Self::abandon),
            Op::Detach { handle } => self.with_handle(handle, Self::detach),
            Op::Drop { handle } => self.with_handle(handle, |world, key, handle| {
                drop(handle);
                world.let_go(key);
            }),
            Op::StartMany { kind } => self.start_many(kind),
            Op::CompleteMany { kind, len } => self.complete_many(kind, len),
            ref other => panic!("{other:?} is done elsewhere"),
        }
    }

    fn with_handle(&mut self, handle: u8, then: impl FnOnce(&mut Self, u8, Handle)) {
        if !self.handles.is_empty() {
            let at = usize::from(handle) % self.handles.len();
            let (key, handle) = self.handles.swap_remove(at);
            then(self, key, handle);
        }
    }

    /// What is known of the key that a handle holds, or what will be known once its permit starts.
    pub(super) fn known(&self, key: u8, handle: &Handle) -> Known {
        let stored = self.counting(key).1;
        match handle {
            Handle::Permit(_, known) => Known::clone(known),
            _ => stored.cloned().expect("what was started is known"),
        }
    }

    pub(super) fn start(&mut self, key: u8, handle: Handle) {
        let mut known = self.known(key, &handle);
        let started = match handle {
            Handle::Permit(permit, _) => {
                known = self.renewed(known);
                wait!(as_future(key), permit.start, start_async())
            }
            Handle::Interrupted(interrupted) => {
                known.attempt += 1;
                wait!(as_future(key), interrupted.retry, retry_async())
            }
            Handle::Execution(execution) => Ok(execution),
        };
        self.started(key, known, started);
    }

    /// The outcome of a start.
    pub(super) fn started(&mut self, key: u8, known: Known, started: Result<Execution, Error>) {
        match started {
            Ok(execution) => self.executes(key, known, execution),
            Err(failure) => self.failed(key, Some(known), &failure),
        }
    }

    /// The key is executing, and this is its handle.
    pub(super) fn executes(&mut self, key: u8, known: Known, execution: Execution) {
        check_execution(&execution, &known);
        self.handles.push((key, Handle::Execution(execution)));
        let state = self.key(key);
        (state.holder, state.known) = (Holder::Execution, Some(known));
    }

    fn retain(&mut self, key: u8, handle: Handle, ms: u64) {
        self.handles.push(match handle {
            Handle::Permit(permit, mut known) => {
                let max = Timestamp::MAX.as_unix_ms();
                known.expires = known.begun.saturating_add(ms).min(max);
                (key, Handle::Permit(permit.with_retention(Duration::from_millis(ms)), known))
            }
            other => (key, other),
        });
    }

    fn checkpoint(&mut self, key: u8, mut handle: Handle, len: Len) {
        let known = self.known(key, &handle);
        if let Handle::Execution(execution) = &mut handle {
            let progress = progress(&known, len);
            let stored = wait!(as_future(key), execution.checkpoint, checkpoint_async(&progress));
            self.checkpointed(key, known, progress, execution, stored);
        }
        self.handles.push((key, handle));
    }

    /// The outcome of a checkpoint.
    pub(super) fn checkpointed(
        &mut self,
        key: u8,
        mut known: Known,
        progress: Vec<u8>,
        execution: &Execution,
        stored: Result<(), CheckpointError>,
    ) {
        match stored {
            Ok(()) => {
                assert!(fits(&progress));
                known.checkpoint = Some(progress);
            }
            Err(failure) if fits(&progress) => {
                let next = Known { checkpoint: Some(progress), ..known.clone() };
                self.failed_with(key, Some(next), None, &failure);
            }
            Err(error) => refused_checkpoint(error),
        }
        check_execution(execution, &known);
        self.key(key).known = Some(known);
    }

    fn complete(&mut self, key: u8, handle: Handle, len: Len) {
        let (known, result) = (self.known(key, &handle), result(key, len));
        match handle {
            Handle::Permit(permit, _) => {
                let completed = wait!(as_future(key), permit.complete, complete_async(&result));
                self.concluded(key, known, result, completed, permit_again);
            }
            Handle::Execution(execution) => {
                let completed = wait!(as_future(key), execution.complete, complete_async(&result));
                self.concluded(key, known, result, completed, execution_again);
            }
            Handle::Interrupted(interrupted) => {
                let completed = wait!(as_future(key), interrupted.resolve, resolve_async(&result));
                self.concluded(key, known, result, completed, interrupted_again);
            }
        }
    }

    /// The outcome of a completion. A refusal returns the handle unchanged.
    pub(super) fn concluded<H: Debug>(
        &mut self,
        key: u8,
        known: Known,
        result: Vec<u8>,
        completed: Result<Completed, CompleteError<H>>,
        again: fn(H, Known) -> Handle,
    ) {
        match completed {
            Ok(completed) => {
                assert!(fits(&result));
                self.completed(key, known, result, &completed);
            }
            Err(failure) if fits(&result) => {
                let known = self.finished(known, Done::Result(result));
                self.failed(key, Some(known), &failure);
            }
            Err(error) => self.handles.push((key, again(refused(error), known))),
        }
    }

    fn tombstone(&mut self, key: u8, handle: Handle, len: Len) {
        let (known, result) = (self.known(key, &handle), result(key, len));
        match handle {
            Handle::Permit(permit, _) => {
                let tombstone =
                    wait!(as_future(key), permit.complete_digest, complete_digest_async(&result));
                self.entombed(key, known, result, tombstone);
            }
            Handle::Execution(execution) => {
                let tombstone = wait!(
                    as_future(key),
                    execution.complete_digest,
                    complete_digest_async(&result)
                );
                self.entombed(key, known, result, tombstone);
            }
            Handle::Interrupted(interrupted) => {
                let tombstone = wait!(
                    as_future(key),
                    interrupted.resolve_digest,
                    resolve_digest_async(&result)
                );
                self.entombed(key, known, result, tombstone);
            }
        }
    }

    /// The outcome of a completion without its result.
    fn entombed<H: Debug>(
        &mut self,
        key: u8,
        known: Known,
        result: Vec<u8>,
        tombstone: Result<NotKept, CompleteError<H>>,
    ) {
        match tombstone {
            Ok(tombstone) => self.buried(key, known, result, &tombstone),
            Err(failure) => {
                let known = self.finished(known, Done::NotKept(result));
                self.failed(key, Some(known), &failure);
            }
        }
    }

    fn abandon(&mut self, key: u8, handle: Handle) {
        let abandoned = match handle {
            Handle::Permit(permit, ..) => {
                permit.release();
                Ok(())
            }
            Handle::Execution(execution) => {
                wait!(as_future(key), execution.abandon, abandon_async())
            }
            Handle::Interrupted(interrupted) => {
                wait!(as_future(key), interrupted.abandon, abandon_async())
            }
        };
        self.abandoned(key, abandoned);
    }

    /// The outcome of an abandonment.
    pub(super) fn abandoned(&mut self, key: u8, abandoned: Result<(), Error>) {
        match abandoned {
            Ok(()) => self.free(key),
            Err(failure) => self.failed(key, None, &failure),
        }
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

    /// All handles that this choice selects, with what is known of their keys.
    fn take_all<H>(
        &mut self,
        mut choose: impl FnMut(Handle) -> Result<H, Handle>,
    ) -> Vec<(u8, H, Known)> {
        let mut taken = Vec::new();
        for (key, handle) in std::mem::take(&mut self.handles) {
            let known = self.known(key, &handle);
            match choose(handle) {
                Ok(handle) => taken.push((key, handle, known)),
                Err(other) => self.handles.push((key, other)),
            }
        }
        taken
    }

    fn take_permits(&mut self) -> Vec<(u8, Permit, Known)> {
        self.take_all(|handle| match handle {
            Handle::Permit(permit, _) => Ok(permit),
            other => Err(other),
        })
    }

    pub(super) fn take_executions(&mut self) -> Vec<(u8, Execution, Known)> {
        self.take_all(|handle| match handle {
            Handle::Execution(execution) => Ok(execution),
            other => Err(other),
        })
    }

    fn take_interrupted(&mut self) -> Vec<(u8, Interrupted, Known)> {
        self.take_all(|handle| match handle {
            Handle::Interrupted(interrupted) => Ok(interrupted),
            other => Err(other),
        })
    }

    fn start_many(&mut self, kind: Kind) {
        match kind {
            Kind::Permit => {
                let taken = self.take_permits().into_iter();
                let taken = taken.map(|(key, permit, known)| (key, permit, self.renewed(known)));
                let taken = taken.collect();
                self.start_each(taken);
            }
            Kind::Execution => {}
            Kind::Interrupted => {
                let mut taken = self.take_interrupted();
                for (_, _, known) in &mut taken {
                    known.attempt += 1;
                }
                self.start_each(taken);
            }
        }
    }

    fn start_each<H: Startable>(&mut self, taken: Vec<(u8, H, Known)>) {
        let (keys, handles): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|(key, handle, known)| ((key, known), handle)).unzip();
        let executions = self.bench().store.start_many(handles);
        assert_eq!(executions.len(), keys.len());
        // They are queued immediately.
        let mut queue = Queue::default();
        for ((key, known), execution) in keys.into_iter().zip(executions) {
            self.started_among(&mut queue, key, known, execution);
        }
    }

    fn complete_many(&mut self, kind: Kind, len: Len) {
        match kind {
            Kind::Permit => {
                let taken = self.take_permits();
                self.complete_each(taken, len, Some(Queue::default()), permit_again);
            }
            Kind::Execution => {
                let taken = self.take_executions();
                self.complete_each(taken, len, None, execution_again);
            }
            Kind::Interrupted => {
                let taken = self.take_interrupted();
                self.complete_each(taken, len, None, interrupted_again);
            }
        }
    }

    fn complete_each<H: Completable + Debug>(
        &mut self,
        taken: Vec<(u8, H, Known)>,
        len: Len,
        mut starts: Option<Queue>,
        again: fn(H, Known) -> Handle,
    ) {
        let (mut keys, mut results) = (Vec::new(), Vec::new());
        for (at, (key, handle, known)) in taken.into_iter().enumerate() {
            let result = result(key, if at % 2 == 0 { len } else { Len(3) });
            keys.push((key, known, result.clone()));
            results.push((handle, result));
        }
        let answers = self.bench().store.complete_many(results);
        assert_eq!(answers.len(), keys.len());
        for ((key, known, result), answer) in keys.into_iter().zip(answers) {
            // An operation that was not started counts as a start, and uses its scope's share.
            if let (Some(queue), true) = (&mut starts, fits(&result)) {
                if let Err(CompleteError::Overloaded { bound: Bound::ScopeShare, handle }) = answer
                {
                    queue.refuses(key);
                    self.handles.push((key, again(handle, known)));
                    continue;
                }
                queue.takes(key, answer.as_ref().err());
            }
            self.concluded(key, known, result, answer, again);
        }
    }
}

fn permit_again(permit: Permit, known: Known) -> Handle {
    Handle::Permit(permit, Box::new(known))
}

pub(super) fn execution_again(execution: Execution, _: Known) -> Handle {
    Handle::Execution(execution)
}

pub(super) fn interrupted_again(interrupted: Interrupted, _: Known) -> Handle {
    Handle::Interrupted(interrupted)
}
