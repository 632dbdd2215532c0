//! Histories: what many threads asked of a few keys and were told, checked afterwards against the
//! contract.
//!
//! Each call is noted with two stamps of one counter, taken before it is made and after it has
//! answered. A history is right if its calls can be put one after the other, each between its two
//! stamps, so that a store that does one call at a time would have answered the same
//! (linearizability). Keys do not touch each other, so each has a history of its own.

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

/// A number that gives each call its place in time: the counter has one order for all threads.
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

/// One step of a call on one key. Most calls are one; one that takes a key in hand by its name and
/// then changes it is two, with the same stamps, since others may see the key between them.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub invoked: Stamp,
    pub answered: Stamp,
    /// Whether it has taken effect. A call that a kill has cut off has done so or not.
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

/// All that happened to one key, and what it was before.
#[derive(Clone, Debug)]
pub struct History {
    pub initial: State,
    pub events: Vec<Event>,
}

impl History {
    pub fn new(initial: State, mut events: Vec<Event>) -> Self {
        // What was answered first is tried first: it is most often right.
        events.sort_by_key(|event| (event.answered, event.invoked));
        Self { initial, events }
    }

    /// The same without what may not have happened.
    pub fn of_certain(&self) -> Self {
        let events = self.events.iter().filter(|event| event.certain);
        Self { events: events.copied().collect(), ..*self }
    }

    /// Finds an order that explains the history, or says how far it came.
    pub fn check(&self) -> Result<(), Box<Refused>> {
        linear::check(self.initial, &self.events, linear::TRIED_MAX)
    }
}

/// For the reader who has to find out why: `*` marks what the longest order found explains.
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
