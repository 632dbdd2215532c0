//! The search for an order that explains a history, after Wing and Gong, with Lowe's memory of what
//! was already tried.

use std::collections::HashSet;
use std::fmt;

use super::spec::State;
use super::{Event, Stamp};

/// The most events in one history: each has a bit.
pub const EVENTS_MAX: usize = 128;
/// A search that tries more than this is given up, which is a failure. The histories of these tests
/// take hundreds of tries.
pub const TRIED_MAX: usize = 1_000_000;

/// No order was found.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Whether the search was given up: in that case there may be an order.
    pub given_up: bool,
    /// Events that the longest order found explains, a bit for each.
    pub placed: u128,
    /// The state of the key after them.
    pub state: State,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.given_up { "the search was given up" } else { "no order explains this" };
        write!(f, "{why}; the longest one ends in {:?}", self.state)
    }
}

/// Finds an order of all certain events, and of any of the others, in which each follows from the
/// state before it, and none comes after an event that was invoked only once it was over.
pub fn check(initial: State, events: &[Event], tried_max: usize) -> Result<(), Box<Refused>> {
    assert!(events.len() <= EVENTS_MAX, "a history of {} events", events.len());
    let certain = bits(events.iter().map(|event| event.certain));
    let mut tried = HashSet::from([(0, initial)]);
    let mut untried = vec![(0, initial)];
    let mut longest = Box::new(Refused { given_up: false, placed: 0, state: initial });
    while let Some((placed, state)) = untried.pop() {
        if placed & certain == certain {
            return Ok(());
        }
        if (longest.placed & certain).count_ones() < (placed & certain).count_ones() {
            (longest.placed, longest.state) = (placed, state);
        }
        if tried_max < tried.len() {
            longest.given_up = true;
            break;
        }
        for at in next(placed, events).rev() {
            let Event { since, step, .. } = &events[at];
            if let Some(state) = state.step(*since, step) {
                let config = (placed | 1 << at, state);
                if tried.insert(config) {
                    untried.push(config);
                }
            }
        }
    }
    Err(longest)
}

/// What can come next: an event that was invoked before any other remaining event was over, and
/// that was not over before a placed event was invoked.
fn next(placed: u128, events: &[Event]) -> impl DoubleEndedIterator<Item = usize> {
    let is_placed = move |at: usize| placed >> at & 1 == 1;
    let (mut first_end, mut last_start) = (Stamp::MAX, 0);
    for (at, event) in events.iter().enumerate() {
        if is_placed(at) {
            last_start = last_start.max(event.invoked);
        } else if event.certain {
            first_end = first_end.min(event.answered);
        }
    }
    let fits = move |event: &Event| event.invoked <= first_end && last_start <= event.answered;
    (0..events.len()).filter(move |at| !is_placed(*at) && fits(&events[*at]))
}

fn bits(flags: impl Iterator<Item = bool>) -> u128 {
    flags.enumerate().fold(0, |bits, (at, flag)| bits | u128::from(flag) << at)
}
