//! One client: it works with the keys of its scope, and records every answer.

use std::fmt::Debug;
use std::time::Duration;

use idemstore::{
    Begin, CompleteError, Completed, Effect, Execution, Fingerprint, FinishError, Interrupted, Key,
    KeyInfo, NotKept, Outcome, Permit, Store,
};

use crate::support::ops::{End, Len, Op, Request, Run};

/// An answer that a client got: a word, and all of its details.
pub type Seen = (&'static str, String);

pub struct Client {
    scope: &'static str,
    handles: Vec<Handle>,
    pub seen: Vec<Seen>,
    /// Distinguishes its results and checkpoints.
    written: u8,
}

enum Handle {
    Permit(Permit),
    Execution(Execution),
    Interrupted(Interrupted),
}

/// What all handles show.
macro_rules! facts {
    ($of:expr) => {
        format!(
            "{:?} {:?} {:?} {}",
            name($of.key()),
            $of.begun_at(),
            $of.expires_at(),
            $of.attempt()
        )
    };
}

/// A key in plain form, which its `Debug` hides.
fn name(key: &Key) -> (&[u8], &[u8]) {
    (key.scope(), key.as_bytes())
}

impl Client {
    pub fn new(scope: &'static str) -> Self {
        Self { scope, handles: Vec::new(), seen: Vec::new(), written: 0 }
    }

    /// Two clients use the same names in their scopes.
    fn key(&self, key: u8) -> Key {
        Key::scoped(self.scope, [b'k', key]).expect("it is a key")
    }

    fn bytes(&mut self, Len(len): Len) -> Vec<u8> {
        self.written = self.written.wrapping_add(1);
        let mut bytes = self.scope.as_bytes().to_vec();
        bytes.push(self.written);
        bytes.into_iter().cycle().take(len.into()).collect()
    }

    fn saw(&mut self, kind: &'static str, detail: impl Into<String>) {
        self.seen.push((kind, detail.into()));
    }

    /// Handles are held while the store ends, and have no effect after that.
    pub fn take_handles(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.handles)
    }

    pub fn run(&mut self, store: &Store, op: &Op) {
        match *op {
            Op::Begin(request) => self.begin(store, request),
            Op::BeginMany { ref requests } => {
                for request in requests {
                    self.begin(store, *request);
                }
            }
            Op::Run { request, run } => self.run_request(store, request, run),
            Op::CompleteByKey { key, len } => {
                let result = self.bytes(len);
                let completed = store.complete(&self.key(key), result);
                self.finished(completed.map(|completed| facts!(completed)));
            }
            Op::AbandonByKey { key } => {
                let abandoned = store.abandon(&self.key(key));
                self.finished(abandoned.map(|()| "abandoned".to_owned()));
            }
            Op::Forget { key } => {
                let forgotten = store.forget(&self.key(key)).expect("it answers");
                self.saw(if forgotten { "forgotten" } else { "nothing to forget" }, "");
            }
            Op::Get { key } => self.get("got", store, key),
            Op::List { older_than_ms, .. } => self.list(store, older_than_ms.into()),
            _ => self.run_handle_op(op),
        }
    }

    fn run_handle_op(&mut self, op: &Op) {
        match *op {
            Op::Start { handle } => self.with(handle, Self::start),
            Op::Retain { handle, ms } => self.with(handle, |client, handle| {
                client.handles.push(match handle {
                    Handle::Permit(permit) => {
                        Handle::Permit(permit.with_retention(Duration::from_millis(ms)))
                    }
                    other => other,
                });
            }),
            Op::Checkpoint { handle, len } => {
                self.with(handle, |client, handle| client.checkpoint(handle, len));
            }
            Op::Complete { handle, len } => {
                self.with(handle, |client, handle| client.complete(handle, len));
            }
            #[cfg(feature = "transaction")]
            Op::CompleteWith { handle, len, .. } => {
                self.with(handle, |client, handle| client.complete_with(handle, len));
            }
            Op::NotKept { handle, len } => {
                self.with(handle, |client, handle| client.bury(handle, len));
            }
            Op::Abandon { handle } => self.with(handle, Self::abandon),
            Op::Detach { handle } => self.with(handle, |client, handle| match handle {
                Handle::Execution(execution) => {
                    execution.detach();
                    client.saw("detached", "");
                }
                other => client.handles.push(other),
            }),
            Op::Drop { handle } => self.with(handle, |_, handle| drop(handle)),
            // What the calls for many operations do is exercised often enough one by one.
            _ => {}
        }
    }

    fn with(&mut self, handle: u8, then: impl FnOnce(&mut Self, Handle)) {
        if !self.handles.is_empty() {
            let at = usize::from(handle) % self.handles.len();
            let handle = self.handles.swap_remove(at);
            then(self, handle);
        }
    }

    fn begin(&mut self, store: &Store, Request { key, request }: Request) {
        let begin = store.begin(&self.key(key), Fingerprint::of([request]));
        self.answered(begin.expect("begin answers"));
    }

    fn answered(&mut self, begin: Begin) {
        match begin {
            Begin::Fresh(permit) => {
                self.saw("fresh", format!("{:?}", name(permit.key())));
                self.handles.push(Handle::Permit(permit));
            }
            Begin::Replay(completed) => self.completed("replay", &completed),
            Begin::NotKept(tombstone) => self.buried(&tombstone),
            Begin::InFlight(in_flight) => {
                self.saw("in flight", format!("{:?} {:?}", in_flight.since(), in_flight.elapsed()));
                let again = in_flight.wait(Duration::ZERO).expect("it answers");
                assert!(matches!(again, Begin::InFlight(_)), "{again:?} after no time");
            }
            Begin::Mismatch => self.saw("mismatch", ""),
            Begin::Interrupted(interrupted) => {
                let checkpoint = interrupted.last_checkpoint();
                let detail = format!("{} {checkpoint:?}", facts!(interrupted));
                self.saw("interrupted", detail);
                self.handles.push(Handle::Interrupted(interrupted));
            }
        }
    }

    fn completed(&mut self, kind: &'static str, completed: &Completed) {
        let (at, result) = (completed.completed_at(), completed.result());
        self.saw(kind, format!("{} {at:?} {result:?}", facts!(completed)));
    }

    fn buried(&mut self, tombstone: &NotKept) {
        let (at, len) = (tombstone.completed_at(), tombstone.result_len());
        let digest = tombstone.result_digest();
        self.saw("tombstone", format!("{} {at:?} {len} {digest:?}", facts!(tombstone)));
    }

    fn finished(&mut self, finished: Result<String, FinishError>) {
        match finished {
            Ok(facts) => self.saw("abandoned", facts),
            Err(FinishError::Held) => self.saw("held", ""),
            Err(FinishError::NotExecuting) => self.saw("nothing to finish", ""),
            Err(error) => self.saw("too large", error.to_string()),
        }
    }

    fn start(&mut self, handle: Handle) {
        let execution = match handle {
            Handle::Permit(permit) => permit.start().expect("it starts"),
            Handle::Interrupted(interrupted) => interrupted.retry().expect("it starts again"),
            Handle::Execution(execution) => execution,
        };
        self.saw("started", format!("{} {:?}", facts!(execution), execution.last_checkpoint()));
        self.handles.push(Handle::Execution(execution));
    }

    fn checkpoint(&mut self, mut handle: Handle, len: Len) {
        let progress = self.bytes(len);
        if let Handle::Execution(execution) = &mut handle {
            match execution.checkpoint(progress) {
                Ok(()) => self.saw("kept", ""),
                Err(error) => self.saw("too large", error.to_string()),
            }
        }
        self.handles.push(handle);
    }

    fn complete(&mut self, handle: Handle, len: Len) {
        let result = self.bytes(len);
        match handle {
            Handle::Permit(permit) => self.concluded(permit.complete(result), Handle::Permit),
            Handle::Execution(execution) => {
                self.concluded(execution.complete(result), Handle::Execution);
            }
            Handle::Interrupted(interrupted) => {
                self.concluded(interrupted.resolve(result), Handle::Interrupted);
            }
        }
    }

    fn concluded<H: Debug>(
        &mut self,
        completed: Result<Completed, CompleteError<H>>,
        again: fn(H) -> Handle,
    ) {
        match completed {
            Ok(completed) => self.completed("completed", &completed),
            Err(error) => {
                self.saw("too large", error.to_string());
                self.handles.push(again(error.into_handle().expect("it is given back")));
            }
        }
    }

    #[cfg(feature = "transaction")]
    fn complete_with(&mut self, handle: Handle, len: Len) {
        let Handle::Permit(permit) = handle else { return self.handles.push(handle) };
        let result = self.bytes(len);
        match permit.complete_with(|_| Ok::<_, std::convert::Infallible>(result)) {
            Ok(completed) => self.completed("completed", &completed),
            Err(error) => self.saw("too large", error.to_string()),
        }
    }

    fn bury(&mut self, handle: Handle, len: Len) {
        let result = self.bytes(len);
        let tombstone = match handle {
            Handle::Permit(permit) => permit.complete_digest(result).expect("it fits"),
            Handle::Execution(execution) => execution.complete_digest(result).expect("it fits"),
            Handle::Interrupted(interrupted) => {
                interrupted.resolve_digest(result).expect("it fits")
            }
        };
        self.buried(&tombstone);
    }

    fn abandon(&mut self, handle: Handle) {
        match handle {
            Handle::Permit(permit) => permit.release(),
            Handle::Execution(execution) => execution.abandon().expect("it is abandoned"),
            Handle::Interrupted(interrupted) => interrupted.abandon().expect("it is abandoned"),
        }
        self.saw("abandoned", "");
    }

    fn run_request(&mut self, store: &Store, Request { key, request }: Request, run: Run) {
        let (progress, result) = match run {
            Run { checkpoint, end: End::Done { len } } => {
                (checkpoint.map(|len| self.bytes(len)), self.bytes(len))
            }
            Run { checkpoint, .. } => (checkpoint.map(|len| self.bytes(len)), Vec::new()),
        };
        let outcome = store.run(&self.key(key), Fingerprint::of([request]), |execution| {
            if let Some(progress) = progress {
                drop(execution.checkpoint(progress));
            }
            match run.end {
                End::Done { .. } => Effect::Done(result),
                End::DidNotHappen => Effect::DidNotHappen("it did not happen"),
                End::Unknown | End::Panic => Effect::Unknown("it is unknown"),
            }
        });
        match outcome {
            Ok(Outcome::Done(completed)) => self.completed("completed", &completed),
            Ok(Outcome::Replay(completed)) => self.completed("replay", &completed),
            Ok(Outcome::NotKept(tombstone)) => self.buried(&tombstone),
            Ok(Outcome::Mismatch) => self.saw("mismatch", ""),
            Ok(Outcome::InFlight(in_flight)) => self.answered(Begin::InFlight(in_flight)),
            Ok(Outcome::Interrupted(interrupted)) => {
                self.answered(Begin::Interrupted(interrupted));
            }
            Ok(other) => self.saw("ran", format!("{other:?}")),
            Err(error) => self.saw("too large", error.to_string()),
        }
    }

    /// Looks at a key, here or in a copy.
    pub fn get(&mut self, kind: &'static str, store: &Store, key: u8) {
        match store.get(&self.key(key)).expect("it answers") {
            None => self.saw("got nothing", ""),
            Some(info) => self.saw(kind, described(&info)),
        }
    }

    /// A list has the keys of all scopes: it is for the program, not for its clients.
    fn list(&mut self, store: &Store, older_than_ms: u64) {
        for info in store.keys().older_than(Duration::from_millis(older_than_ms)) {
            let info = info.expect("it is listed");
            if info.key().scope() == self.scope.as_bytes() {
                self.saw("listed", described(&info));
            }
        }
    }
}

fn described(info: &KeyInfo) -> String {
    let (status, begun_at, expires_at) = (info.status(), info.begun_at(), info.expires_at());
    let (attempts, checkpoint) = (info.attempts(), info.last_checkpoint());
    let completed = info.completed();
    let result = completed.as_ref().map(|completed| (completed.completed_at(), completed.result()));
    let tombstone = info.not_kept().map(|tombstone| tombstone.result_digest());
    let of = name(info.key());
    format!(
        "{of:?} {status:?} {begun_at:?} {expires_at:?} {attempts} {checkpoint:?} {result:?} {tombstone:?}"
    )
}
