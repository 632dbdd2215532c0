//! The end: everything is checked again, from outside the processes that did it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use idemstore::Begin;

use crate::booking::{self, Step};
use crate::provider::{self, Event};
use crate::{Args, Result};

/// How many findings are printed; all are counted.
const FINDINGS_MAX: usize = 5;

pub(crate) struct Verdict {
    bookings: u32,
    /// Attempts beyond the first of each booking.
    retries: u64,
    events: Vec<Event>,
    findings: Vec<String>,
}

/// Compares the other system's journal with what must have happened, and with the store.
pub(crate) fn verify(args: &Args, place: &Path) -> Result<Verdict> {
    let journal = provider::read(place)?;
    let mut verdict = Verdict {
        bookings: args.bookings,
        retries: 0,
        events: journal.iter().map(|(_, _, event)| *event).collect(),
        findings: Vec::new(),
    };
    let mut steps = HashMap::<u32, Vec<Step>>::new();
    for (booking, step, _) in journal.into_iter().filter(|(_, _, event)| *event == Event::Done) {
        steps.entry(booking).or_default().push(step);
    }
    let store = booking::open(place)?;
    for booking in 0..args.bookings {
        let done = steps.remove(&booking).unwrap_or_default();
        if done != Step::ALL {
            verdict.findings.push(format!("the steps of booking {booking} were {done:?}"));
        }
        match store.begin(&booking::key(booking)?, booking::fingerprint(booking))? {
            Begin::Replay(completed)
                if completed.result() == booking::ticket(booking).as_bytes() =>
            {
                verdict.retries += u64::from(completed.attempt() - 1);
            }
            other => verdict.findings.push(format!("the store says of {booking}: {other:?}")),
        }
    }
    verdict.findings.extend(steps.keys().map(|booking| format!("nobody has ordered {booking}")));
    store.close()?;
    Ok(verdict)
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    fn count(&self, event: Event) -> usize {
        self.events.iter().filter(|known| **known == event).count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bookings, {} steps done, {} refused, {} not answered; {} attempts went on, and asked \
             {} times: {} had happened, {} had not; {} wrong",
            self.bookings,
            self.count(Event::Done),
            self.count(Event::Refused),
            self.count(Event::NoAnswer),
            self.retries,
            self.count(Event::Found) + self.count(Event::NotFound),
            self.count(Event::Found),
            self.count(Event::NotFound),
            self.findings.len(),
        )?;
        for finding in self.findings.iter().take(FINDINGS_MAX) {
            write!(f, "\nFOUND: {finding}")?;
        }
        Ok(())
    }
}
