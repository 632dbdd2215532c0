//! The contract of one key, as a function. It returns the key's state after a step, or `None` if a
//! store that does one step at a time could not have given that answer.
//!
//! It is written from the documented table of states, and shares no code with the store.
//!
//! A call reads the clock once, at some moment while it runs. So for this call a record counts if
//! its retention was not over when the call was invoked, and may not count if it is over now. But a
//! key that was handed out as free has no older record, whatever a later caller's clock says.

use crate::support::RETENTION_MS;

/// A handle is named by the stamp of the call that returned it.
pub type Handle = u64;
/// A result or a checkpoint is named by the stamp of the call that stores it.
pub type Bytes = u64;

/// The state of one key, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    now: u64,
    holder: Holder,
    record: Option<Record>,
    /// What a failed write may have made of the key: only the next open can tell.
    unsure: Option<(Handle, Option<Record>)>,
}

/// The holder of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    /// With what is stored once it starts. It was begun between these two times, both inclusive.
    Permit {
        handle: Handle,
        request: u8,
        earliest: u64,
        latest: u64,
    },
    Interrupted(Handle),
    Execution(Handle),
    Detached,
    /// A call by key that is about to forget a completed operation.
    Forgetting(Handle),
    /// A call that claimed the key and could not return a handle.
    Failing(Handle),
}

/// The record of an operation that was started or completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    request: u8,
    begun: u64,
    expires: u64,
    attempt: u32,
    progress: Option<Bytes>,
    result: Option<Bytes>,
}

/// What an operation's handles show of it.
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

/// Changes made durable through a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By a permit, or by the retry of an interrupted operation.
    Start,
    Checkpoint(Bytes),
    Complete(Bytes),
    /// The key is free: it was abandoned or forgotten.
    Remove,
}

/// What a call by key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Finishes an operation that was detached or interrupted.
    Execution,
    /// Forgets a completed operation.
    Completed,
}

/// Why a call by key did nothing.
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

/// What `get` shows of a key that isn't free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    pub status: Status,
    pub attempts: u32,
    pub progress: Option<Bytes>,
}

/// One step of a call, with its answer.
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
    /// The store was opened again, so no handle is left.
    Open,
    /// A write failed: this change may or may not be durable.
    Unsure(Handle, Change),
    /// That change was durable.
    Surface(Handle),
    /// A call has claimed the key and fails.
    Fail(Handle),
}

impl Record {
    fn facts(&self) -> Facts {
        let Self { begun, expires, attempt, progress, .. } = *self;
        Facts { begun, expires, attempt, progress }
    }

    /// The record after a change by a call that has read the clock between these two times. If the
    /// record's retention was over by then, the change begins a new one. A handle shows which it
    /// was.
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

    /// The state after a step of a call before which the clock showed `since`.
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

    /// The key's record, if it counts: until its retention is over, or while the key is held.
    fn counting(&self, now: u64) -> Option<Record> {
        self.record.filter(|record| self.is_held() || now < record.expires)
    }

    fn begin(self, since: u64, Ask { request, waited }: Ask, answer: Answer) -> Option<Self> {
        let counting = self.counting(since);
        // A waiting caller gets the outcome, even if the retention was over by then.
        let told = self.record.filter(|record| waited && record.result.is_some()).or(counting);
        // Once a write has failed, the store hands out no key.
        let is_to_have = !self.is_held() && self.unsure.is_none();
        let is_same = |record: Record| record.request == request;
        match answer {
            Answer::Mismatch => told.is_some_and(|record| !is_same(record)).then_some(self),
            // A caller that waited without getting an outcome learns nothing about other requests.
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

    /// Holder and record after this change, if the handle holds the key and can make the change.
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
