//! Histories: the calls of many threads for a few keys with their answers, checked afterwards
//! against the contract.
//!
//! Each call is recorded with two stamps of one counter, taken before it is made and after it has
//! returned. A history is right if its calls can be put in an order, each between its two stamps,
//! in which a store that does one call at a time would have answered the same (linearizability).
//! Keys don't affect each other, so each has a separate history.

pub mod caller;
pub mod facts;
pub mod keeper;
pub mod linear;
pub mod pause;
pub mod round;
pub mod site;
pub mod spec;
pub mod tally;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::model::splitmix;
use linear::Refused;
use spec::{State, Step};

/// A number that gives each call its place in time: all threads share one counter.
pub type Stamp = u64;

pub fn stamp() -> Stamp {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// Numbers from a seed.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = splitmix(self.0);
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// One step of a call on one key. Most calls are one step. A call that claims a key by name and
/// then changes it is two steps with the same stamps, since other callers may see the key in
/// between.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub invoked: Stamp,
    pub answered: Stamp,
    /// Whether it has certainly taken effect. A call that a kill has cut off may or may not have.
    pub certain: bool,
    pub thread: usize,
    /// What the clock showed before the call.
    pub since: u64,
    pub step: Step,
}

impl Event {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.invoked < other.answered && other.invoked < self.answered
    }
}

/// Everything that happened to one key, and its state before that.
#[derive(Clone, Debug)]
pub struct History {
    pub initial: State,
    pub events: Vec<Event>,
}

impl History {
    pub fn new(initial: State, mut events: Vec<Event>) -> Self {
        // The call that was answered first is tried first: it's usually right.
        events.sort_by_key(|event| (event.answered, event.invoked));
        Self { initial, events }
    }

    /// The same without the steps that may not have happened.
    pub fn of_certain(&self) -> Self {
        let events = self.events.iter().filter(|event| event.certain);
        Self { events: events.copied().collect(), ..*self }
    }

    /// Finds an order that explains the history, or reports how far it got.
    pub fn check(&self) -> Result<(), Box<Refused>> {
        linear::check(self.initial, &self.events, linear::TRIED_MAX)
    }
}

/// For the reader who has to find the cause: `*` marks the steps that the longest order explains.
pub struct Shown<'h>(pub &'h History, pub &'h Refused);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(history, refused) = self;
        let mut lines: Vec<_> = history.events.iter().enumerate().collect();
        lines.sort_by_key(|(_, event)| event.invoked);
        writeln!(f, "{refused}, from {:?}:", history.initial)?;
        for (at, Event { invoked, answered, certain, thread, since, step }) in lines {
            let placed = if refused.placed >> at & 1 == 1 { '*' } else { ' ' };
            let sure = if *certain { ' ' } else { '?' };
            writeln!(
                f,
                "{placed}{sure}{invoked:>8} {answered:>8}  thread {thread}, {since}: {step:?}"
            )?;
        }
        Ok(())
    }
}
