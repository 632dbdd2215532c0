//! The contract of one key, as a function: what it becomes by a step, or `None` if a store that
//! does one step at a time could not have answered so.
//!
//! It is written from the table of states in the documents, and shares no code with the store.
//!
//! A call reads the clock once, at some moment while it runs. So a record counts for it if the
//! retention was not over when it was invoked, and may be over for it if it is over now. But a key
//! that was given out as free has no older record, whatever the clock of a later caller says.

use crate::support::RETENTION_MS;

/// A handle is named by the stamp of the call that gave it.
pub type Handle = u64;
/// A result or a checkpoint is named by the stamp of the call that stores it.
pub type Bytes = u64;

/// What one key is, and what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    now: u64,
    holder: Holder,
    record: Option<Record>,
    /// What a failed write may have made of the key: only a new open tells.
    unsure: Option<(Handle, Option<Record>)>,
}

/// Who has the key in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    /// With what is stored once it starts. It was begun between these two times, both included.
    Permit {
        handle: Handle,
        request: u8,
        earliest: u64,
        latest: u64,
    },
    Interrupted(Handle),
    Execution(Handle),
    Detached,
    /// A call by the key's name that is about to forget a completed operation.
    Forgetting(Handle),
    /// A call that could not give out what it had taken.
    Failing(Handle),
}

/// What is stored of an operation that was started or completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    request: u8,
    begun: u64,
    expires: u64,
    attempt: u32,
    progress: Option<Bytes>,
    result: Option<Bytes>,
}

/// What the handles of an operation show of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub begun: u64,
    pub expires: u64,
    pub attempt: u32,
    pub progress: Option<Bytes>,
}

/// A call of `begin`, or of `wait`, which answers as `begin` does.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub request: u8,
    pub waited: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Fresh(Handle),
    Interrupted(Handle, Facts),
    Replay(Facts, Bytes),
    InFlight,
    Mismatch,
}

/// What is made durable through a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a permit, or once more of an interrupted operation.
    Start,
    Checkpoint(Bytes),
    Complete(Bytes),
    /// The key is free: it was abandoned or forgotten.
    Remove,
}

/// What a call by the key's name is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// To finish an operation that was detached or interrupted.
    Execution,
    /// To forget one that is completed.
    Completed,
}

/// Why a call by the key's name did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Held,
    Nothing,
    /// One of these: `forget` does not say which.
    Either,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Reserved,
    Executing,
    Interrupted,
    Completed(Bytes),
}

/// What `get` shows of a key that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    pub status: Status,
    pub attempts: u32,
    pub progress: Option<Bytes>,
}

/// One step of a call, with what was answered.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Begin(Ask, Answer),
    /// What the new handle shows, if there is one.
    Change(Handle, Change, Option<Facts>),
    LetGo(Handle),
    Detach(Handle),
    Take(Handle, Aim),
    Refused(Aim, Refusal),
    Get(Option<Info>),
    /// The clock shows this time from now on.
    Tick(u64),
    /// The store was opened again: nobody is left who held anything.
    Open,
    /// A write failed: this change is durable or not.
    Unsure(Handle, Change),
    /// It was.
    Surface(Handle),
    /// A call has taken the key and fails.
    Fail(Handle),
}

impl Record {
    fn facts(&self) -> Facts {
        let Self { begun, expires, attempt, progress, .. } = *self;
        Facts { begun, expires, attempt, progress }
    }

    /// What is stored by a change of a call that has read the clock between these two times. If its
    /// retention was over by then, it begins a new one. What a handle shows tells which it was.
    fn renewed(self, (since, now): (u64, u64), shown: Option<u64>) -> Option<Self> {
        let retention = self.expires - self.begun;
        let is_renewed = |expires: u64| {
            (since.max(self.expires)..=now).any(|clock| clock + retention == expires)
        };
        let expires = match shown {
            None if now < self.expires => self.expires,
            None => now + retention,
            Some(shown) if shown == self.expires && since < self.expires => shown,
            Some(shown) => is_renewed(shown).then_some(shown)?,
        };
        Some(Self { expires, ..self })
    }
}

impl State {
    /// A key that was never used.
    pub fn free(now: u64) -> Self {
        Self { now, holder: Holder::Nobody, record: None, unsure: None }
    }

    /// What it becomes by a step of a call before which the clock showed `since`.
    pub fn step(self, since: u64, step: &Step) -> Option<Self> {
        match *step {
            Step::Begin(ask, answer) => self.begin(since, ask, answer),
            Step::Change(handle, change, facts) => {
                let (holder, record) = self.changed(since, handle, change, facts)?;
                Some(Self { holder, record, ..self })
            }
            Step::LetGo(handle) => {
                (self.handle() == Some(handle)).then(|| self.held_by(Holder::Nobody))
            }
            Step::Detach(handle) => {
                (self.holder == Holder::Execution(handle)).then(|| self.held_by(Holder::Detached))
            }
            Step::Take(handle, aim) => self.taken(self.counting(since), handle, aim),
            Step::Refused(aim, refusal) => self.refuses(since, aim, refusal).then_some(self),
            Step::Get(info) => [since, self.now]
                .into_iter()
                .any(|now| self.info(self.counting(now)) == info)
                .then_some(self),
            Step::Tick(now) => Some(Self { now: now.max(self.now), ..self }),
            Step::Open => Some(Self { unsure: None, ..self.held_by(Holder::Nobody) }),
            Step::Unsure(handle, change) => {
                let (_, record) = self.changed(since, handle, change, None)?;
                Some(Self { unsure: Some((handle, record)), ..self })
            }
            Step::Surface(handle) => match self.unsure {
                Some((of, record)) if of == handle => Some(Self { record, unsure: None, ..self }),
                _ => None,
            },
            Step::Fail(handle) => (!self.is_held()).then(|| self.held_by(Holder::Failing(handle))),
        }
    }

    fn held_by(self, holder: Holder) -> Self {
        Self { holder, ..self }
    }

    fn is_held(&self) -> bool {
        self.holder != Holder::Nobody
    }

    fn handle(&self) -> Option<Handle> {
        match self.holder {
            Holder::Nobody | Holder::Detached => None,
            Holder::Permit { handle, .. }
            | Holder::Interrupted(handle)
            | Holder::Execution(handle)
            | Holder::Forgetting(handle)
            | Holder::Failing(handle) => Some(handle),
        }
    }

    /// What is stored of the key, if it counts: until its retention is over, or while it is held.
    fn counting(&self, now: u64) -> Option<Record> {
        self.record.filter(|record| self.is_held() || now < record.expires)
    }

    fn begin(self, since: u64, Ask { request, waited }: Ask, answer: Answer) -> Option<Self> {
        let counting = self.counting(since);
        // A caller that waited is told of the outcome, even if its retention was over by then.
        let told = self.record.filter(|record| waited && record.result.is_some()).or(counting);
        // Once a write has failed the store gives out no key.
        let is_to_have = !self.is_held() && self.unsure.is_none();
        let is_same = |record: Record| record.request == request;
        match answer {
            Answer::Mismatch => told.is_some_and(|record| !is_same(record)).then_some(self),
            // A caller that waited and was not told learns nothing of another request.
            Answer::InFlight => {
                (self.is_held() && (waited || counting.is_none_or(is_same))).then_some(self)
            }
            Answer::Fresh(handle) => (is_to_have && self.counting(self.now).is_none()).then(|| {
                let permit = Holder::Permit { handle, request, earliest: since, latest: self.now };
                Self { holder: permit, record: None, ..self }
            }),
            Answer::Interrupted(handle, facts) => {
                let record = counting.filter(|_| is_to_have)?;
                (is_same(record) && record.result.is_none() && record.facts() == facts)
                    .then(|| self.held_by(Holder::Interrupted(handle)))
            }
            Answer::Replay(facts, result) => {
                let record = told.filter(|_| !self.is_held())?;
                (is_same(record) && record.result == Some(result) && record.facts() == facts)
                    .then_some(self)
            }
        }
    }

    /// Holder and record after this change, if the handle has the key and can make it.
    fn changed(
        &self,
        since: u64,
        handle: Handle,
        change: Change,
        facts: Option<Facts>,
    ) -> Option<(Holder, Option<Record>)> {
        use Holder::{Execution, Forgetting, Interrupted, Nobody, Permit};
        if self.handle() != Some(handle) {
            return None;
        }
        let before = match self.holder {
            Permit { request, earliest, latest, .. } => {
                let begun = facts.map_or(latest, |facts| facts.begun);
                let expires = begun + RETENTION_MS;
                let new =
                    Record { request, begun, expires, attempt: 0, progress: None, result: None };
                (earliest..=latest).contains(&begun).then_some(new)?
            }
            _ => self.record?,
        };
        let is_new = matches!(self.holder, Permit { .. });
        let before = if matches!(change, Change::Complete(_)) || is_new {
            before.renewed((since, self.now), facts.map(|facts| facts.expires))?
        } else {
            before
        };
        let (holder, record) = match (change, self.holder) {
            (Change::Start, Permit { .. } | Interrupted(_)) => {
                (Execution(handle), Some(Record { attempt: before.attempt + 1, ..before }))
            }
            (Change::Checkpoint(progress), Execution(_)) => {
                (self.holder, Some(Record { progress: Some(progress), ..before }))
            }
            (Change::Complete(result), Permit { .. } | Interrupted(_) | Execution(_)) => {
                let attempt = before.attempt.max(1);
                (Nobody, Some(Record { attempt, progress: None, result: Some(result), ..before }))
            }
            (Change::Remove, Interrupted(_) | Execution(_) | Forgetting(_)) => (Nobody, None),
            _ => return None,
        };
        let shown = record.map(|record| record.facts());
        facts.is_none_or(|facts| shown == Some(facts)).then_some((holder, record))
    }

    fn taken(self, counting: Option<Record>, handle: Handle, aim: Aim) -> Option<Self> {
        let is_done = counting.map(|record| record.result.is_some());
        let holder = match (aim, self.holder, is_done) {
            (Aim::Execution, Holder::Detached, _) => Holder::Execution(handle),
            (Aim::Execution, Holder::Nobody, Some(false)) => Holder::Interrupted(handle),
            (Aim::Completed, Holder::Nobody, Some(true)) => Holder::Forgetting(handle),
            _ => return None,
        };
        Some(self.held_by(holder))
    }

    fn refuses(&self, since: u64, aim: Aim, refusal: Refusal) -> bool {
        let is_held = match aim {
            Aim::Execution => self.is_held() && self.holder != Holder::Detached,
            Aim::Completed => self.is_held(),
        };
        let cannot_take = [since, self.now]
            .into_iter()
            .any(|now| self.taken(self.counting(now), 0, aim).is_none());
        match refusal {
            Refusal::Held => is_held,
            Refusal::Nothing => !is_held && cannot_take,
            Refusal::Either => cannot_take,
        }
    }

    fn info(&self, record: Option<Record>) -> Option<Info> {
        let status = match (self.holder, record.map(|record| record.result)) {
            (Holder::Execution(_) | Holder::Detached, _) => Status::Executing,
            (Holder::Nobody, None) => return None,
            (Holder::Nobody, Some(None)) => Status::Interrupted,
            (Holder::Nobody, Some(Some(result))) => Status::Completed(result),
            _ => Status::Reserved,
        };
        let progress = record.and_then(|record| record.progress);
        Some(Info { status, attempts: record.map_or(0, |record| record.attempt), progress })
    }
}
