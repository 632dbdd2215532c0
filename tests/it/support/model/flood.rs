//! A full queue: the calls that come while the disk is slow to sync.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use idemstore::{Bound, CheckpointError, CompleteError, Completed, Error, Execution, Interrupted};

use super::handles::{execution_again, interrupted_again};
use super::unsaid::Failure;
use super::{Handle, Known, STARTS_MAX, World, name, progress, result};
use crate::support::ops::{ALL_KEYS, Flood, KEYS, Len, Request};
use crate::support::waiting::block_on;

/// A key, and a permit of it or an interrupted operation.
type Begun = (u8, Handle);

/// A call that is made while the disk stands still.
struct Call {
    key: u8,
    /// The record of the key before an end, or after a start.
    known: Known,
    future: Pin<Box<dyn Future<Output = Answer> + Send>>,
    /// The answer, if it came at once.
    answer: Option<Answer>,
}

enum Answer {
    Started(Result<Execution, Error>),
    Checkpointed(Vec<u8>, Box<Execution>, Result<(), CheckpointError>),
    Completed(Vec<u8>, Result<Completed, CompleteError<Execution>>),
    Resolved(Vec<u8>, Result<Completed, CompleteError<Interrupted>>),
    Abandoned(Result<(), Error>),
}

/// The calls, and whether they have been made.
#[derive(Default)]
struct Crowd {
    calls: Vec<Call>,
    is_in: bool,
}

/// The waiting starts of each scope.
#[derive(Debug, Default)]
pub(super) struct Queue([usize; 2]);

impl Call {
    fn new(key: u8, known: Known, call: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self { key, known, future: Box::pin(call), answer: None }
    }

    /// What it submits is then in the queue, or was refused.
    fn hand_in(&mut self) {
        let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(answer) = polled {
            self.answer = Some(answer);
        }
    }

    fn wait(self) -> (u8, Known, Answer) {
        let Self { key, known, future, answer } = self;
        (key, known, answer.unwrap_or_else(|| block_on(future)))
    }
}

impl Queue {
    /// Whether there is room for one more: a scope gets at most as many places as are left for
    /// others.
    fn has_room(&self, scope: usize) -> bool {
        self.0[scope] < STARTS_MAX - self.0.iter().sum::<usize>()
    }

    /// One was refused because its scope has used up its share.
    pub(super) fn refuses(&self, key: u8) {
        assert!(!self.has_room(scope(key)), "{self:?} has room for {key}");
    }

    /// One was accepted, or refused for lack of room on the disk.
    pub(super) fn takes(&mut self, key: u8, failure: Option<&impl Failure>) {
        assert!(failure.is_some() || self.has_room(scope(key)), "{key} in {self:?}");
        let is_in = !failure.is_some_and(Failure::is_full);
        self.0[scope(key)] += usize::from(is_in && self.has_room(scope(key)));
    }
}

impl World {
    pub(super) fn flood(&mut self, flood: Flood) {
        let requests = (KEYS..ALL_KEYS).map(|key| Request { key, request: 0 });
        self.begin_many(&requests.collect::<Vec<_>>());
        let loud_scope = if flood.scoped_is_loud { scope(0) } else { scope(1) };
        let handles = self.take_flooding().into_iter();
        let (mut loud, mut quiet): (Vec<_>, Vec<_>) =
            handles.partition(|(key, _)| scope(*key) == loud_scope);
        // By then one of each is executing, and is among the operations to end.
        for (key, handle) in [loud.pop(), quiet.pop()].into_iter().flatten() {
            self.start(key, handle);
        }
        if let Some(first) = quiet.pop().or_else(|| loud.pop()) {
            let calls = self.calls(flood, loud, quiet);
            self.make_at_once(first, calls);
        }
    }

    /// Starts of the loud scope and of the quiet one, with all the ends between or before them.
    fn calls(&mut self, flood: Flood, loud: Vec<Begun>, quiet: Vec<Begun>) -> Vec<Call> {
        let ends = self.take_executions().into_iter();
        let ends = ends.map(|(key, execution, known)| ending(key, execution, known, flood.len));
        let loud = loud.into_iter().map(|(key, handle)| self.starting(key, handle));
        let quiet = quiet.into_iter().map(|(key, handle)| match handle {
            Handle::Interrupted(interrupted) => self.resolving(key, interrupted, flood.len),
            handle => self.starting(key, handle),
        });
        if flood.ends_first {
            ends.chain(loud).chain(quiet).collect()
        } else {
            loud.chain(ends).chain(quiet).collect()
        }
    }

    /// What only a flood has begun.
    fn take_flooding(&mut self) -> Vec<Begun> {
        let handles = std::mem::take(&mut self.handles).into_iter();
        let (flooding, others) = handles
            .partition(|(key, handle)| KEYS <= *key && !matches!(handle, Handle::Execution(_)));
        self.handles = others;
        flooding
    }

    fn starting(&self, key: u8, handle: Handle) -> Call {
        let known = self.known(key, &handle);
        match handle {
            Handle::Permit(permit, _) => Call::new(key, self.renewed(known), async {
                Answer::Started(permit.start_async().await)
            }),
            Handle::Interrupted(interrupted) => {
                let known = Known { attempt: known.attempt + 1, ..known };
                Call::new(key, known, async { Answer::Started(interrupted.retry_async().await) })
            }
            Handle::Execution(_) => panic!("it was started"),
        }
    }

    fn resolving(&self, key: u8, interrupted: Interrupted, len: Len) -> Call {
        let known = self.counting(key).1.cloned().expect("what was started is known");
        let result = result(key, len);
        Call::new(key, known, async move {
            let resolved = interrupted.resolve_async(&result).await;
            Answer::Resolved(result, resolved)
        })
    }

    /// Makes the calls while the first start is being written, so that it gets in no call's way.
    fn make_at_once(&mut self, (key, handle): Begun, calls: Vec<Call>) {
        let disk = self.bench().disk.clone();
        let crowd = Arc::new(Mutex::new(Crowd { calls, is_in: false }));
        let (of_disk, before) = (Arc::clone(&crowd), disk.counts().log_writes);
        disk.observe(move |disk| {
            let mut crowd = of_disk.lock().expect("no call panics");
            // Not during a settle, which a caller that finds the disk short of room would wait for.
            if !crowd.is_in && before < disk.counts().log_writes {
                crowd.is_in = true;
                crowd.calls.iter_mut().for_each(Call::hand_in);
            }
        });
        self.start(key, handle);
        let Crowd { calls, is_in } = std::mem::take(&mut *crowd.lock().expect("no call panics"));
        if is_in {
            let calls: Vec<_> = calls.into_iter().map(Call::wait).collect();
            disk.ignore();
            self.check_answers(calls);
        } else {
            // Nothing was written, so no call was made.
            disk.ignore();
            for Call { key, future, .. } in calls {
                drop(future);
                self.let_go(key);
            }
        }
    }

    /// The outcome of one start among others; `true` if it was refused because of its scope's
    /// share.
    pub(super) fn started_among(
        &mut self,
        queue: &mut Queue,
        key: u8,
        known: Known,
        started: Result<Execution, Error>,
    ) -> bool {
        if let Err(Error::Overloaded { bound: Bound::ScopeShare }) = started {
            queue.refuses(key);
            self.seen.crowded += 1;
            self.let_go(key);
            return true;
        }
        queue.takes(key, started.as_ref().err());
        self.started(key, known, started);
        false
    }

    fn check_answers(&mut self, answers: Vec<(u8, Known, Answer)>) {
        let (mut queue, mut refused) = (Queue::default(), Vec::new());
        for (key, known, answer) in answers {
            match answer {
                Answer::Started(started) => {
                    if self.started_among(&mut queue, key, known, started) {
                        refused.push(key);
                    }
                }
                Answer::Checkpointed(progress, execution, stored) => {
                    self.checkpointed(key, known, progress, &execution, stored);
                    self.handles.push((key, Handle::Execution(*execution)));
                }
                Answer::Completed(result, completed) => {
                    self.concluded(key, known, result, completed, execution_again);
                }
                Answer::Resolved(result, resolved) => {
                    self.concluded(key, known, result, resolved, interrupted_again);
                }
                Answer::Abandoned(abandoned) => self.abandoned(key, abandoned),
            }
        }
        for key in refused {
            self.get(key);
        }
    }
}

/// The end of an execution, or a checkpoint of it.
fn ending(key: u8, mut execution: Execution, known: Known, len: Len) -> Call {
    match key / 2 % 3 {
        0 => {
            let result = result(key, len);
            Call::new(key, known, async move {
                let completed = execution.complete_async(&result).await;
                Answer::Completed(result, completed)
            })
        }
        1 => {
            let progress = progress(&known, len);
            Call::new(key, known, async move {
                let stored = execution.checkpoint_async(&progress).await;
                Answer::Checkpointed(progress, Box::new(execution), stored)
            })
        }
        _ => Call::new(key, known, async { Answer::Abandoned(execution.abandon_async().await) }),
    }
}

/// Which of the two scopes a key belongs to.
fn scope(key: u8) -> usize {
    usize::from(name(key).scope().is_empty())
}
