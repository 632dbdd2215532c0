//! What the histories have covered: a harness that meets nothing would find nothing.

use std::collections::BTreeMap;

use super::History;
use super::spec::{Aim, Answer, Ask, Change, Refusal, Status, Step};

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    pub histories: u64,
    /// Pairs of overlapping calls of two threads on one key.
    pub overlaps: u64,
    /// How often each kind of step occurred.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn add(&mut self, history: &History) {
        self.histories += 1;
        for (at, event) in history.events.iter().enumerate() {
            *self.kinds.entry(kind(&event.step)).or_default() += 1;
            if !event.certain {
                *self.kinds.entry("uncertain").or_default() += 1;
            }
            if !is_call(&event.step) {
                continue;
            }
            self.calls += 1;
            let overlap = |other: &&super::Event| {
                is_call(&other.step) && other.thread != event.thread && event.overlaps(other)
            };
            self.overlaps += history.events[..at].iter().filter(overlap).count() as u64;
        }
    }

    /// One of these kinds that never occurred.
    pub fn lacks<'a>(&self, kinds: &[&'a str]) -> Option<&'a str> {
        kinds.iter().copied().find(|kind| !self.kinds.contains_key(kind))
    }
}

/// Whether it is a call on one key, as opposed to a part of a call or a step of the whole store.
fn is_call(step: &Step) -> bool {
    !matches!(
        step,
        Step::Take(..)
            | Step::Tick(_)
            | Step::Open
            | Step::Unsure(..)
            | Step::Surface(_)
            | Step::Fail(_)
    )
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::Begin(Ask { waited: false, .. }, answer) => match answer {
            Answer::Fresh(_) => "begin: fresh",
            Answer::Interrupted(..) => "begin: interrupted",
            Answer::Replay(..) => "begin: replay",
            Answer::InFlight => "begin: in flight",
            Answer::Mismatch => "begin: mismatch",
        },
        Step::Begin(_, answer) => match answer {
            Answer::Fresh(_) => "wait: fresh",
            Answer::Interrupted(..) => "wait: interrupted",
            Answer::Replay(..) => "wait: replay",
            Answer::InFlight => "wait: in flight",
            Answer::Mismatch => "wait: mismatch",
        },
        Step::Change(_, Change::Start, Some(facts)) if 1 < facts.attempt => "retry",
        Step::Change(_, Change::Start, _) => "start",
        Step::Change(_, Change::Checkpoint(_), _) => "checkpoint",
        Step::Change(_, Change::Complete(_), _) => "complete",
        Step::Change(_, Change::Remove, _) => "remove",
        Step::LetGo(_) => "let go",
        Step::Detach(_) => "detach",
        Step::Take(_, Aim::Execution) => "by key: finish",
        Step::Take(_, Aim::Completed) => "by key: forget",
        Step::Refused(Aim::Execution, Refusal::Held) => "by key: held",
        Step::Refused(Aim::Execution, _) => "by key: not executing",
        Step::Refused(Aim::Completed, _) => "by key: nothing to forget",
        Step::Get(None) => "get: free",
        Step::Get(Some(info)) => match info.status {
            Status::Reserved => "get: reserved",
            Status::Executing => "get: executing",
            Status::Interrupted => "get: interrupted",
            Status::Completed(_) => "get: completed",
        },
        Step::Tick(_) => "tick",
        Step::Open => "open",
        Step::Unsure(..) => "unsure",
        Step::Surface(_) => "surface",
        Step::Fail(_) => "fail",
    }
}
