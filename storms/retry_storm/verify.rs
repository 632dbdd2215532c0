//! The end: everything is checked again, from outside the processes that did it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use idemstore::{Begin, Store};

use crate::logs::{self, Effects, Event, Events, Place};
use crate::parent::Storm;
use crate::plan::{self, Body, Order};
use crate::{Args, Result};

/// How many findings are printed; all are counted.
const FINDINGS_MAX: usize = 10;

/// The table.
pub(crate) struct Verdict {
    orders: u32,
    executed: usize,
    events: HashMap<Event, u64>,
    answers: u64,
    kills: u32,
    starts: u32,
    took: Duration,
    double: u64,
    lost: u64,
    changed_executed: u64,
    findings: Vec<String>,
}

/// Opens the store itself, and compares its answers with the logs.
pub(crate) fn verify(args: &Args, place: &Place, outcome: &Storm) -> Result<Verdict> {
    let mut events = HashMap::new();
    for event in Events::read(place)? {
        *events.entry(event).or_default() += 1;
    }
    let effects = Effects::read(place)?;
    let mut verdict = Verdict {
        orders: args.orders,
        executed: effects.len(),
        answers: outcome.acks.count,
        kills: outcome.kills,
        starts: outcome.starts,
        took: outcome.took,
        double: 0,
        lost: 0,
        changed_executed: events.get(&Event::ChangedExecuted).copied().unwrap_or(0),
        events,
        findings: Vec::new(),
    };
    let mut attempts = HashMap::<u32, Vec<u32>>::new();
    for (order, attempt) in effects {
        attempts.entry(order).or_default().push(attempt);
    }
    let store = plan::open(place.store(), args.seed)?;
    for number in 0..args.orders {
        let order = Order::new(args.seed, number);
        let attempts = attempts.remove(&number).unwrap_or_default();
        verdict.check_effects(number, &attempts);
        verdict.check_result(&store, &order, attempts.last().copied(), outcome)?;
        verdict.check_changed(&store, &order)?;
    }
    for (number, attempts) in attempts {
        verdict.double += attempts.len() as u64;
        verdict.find(format!("order {number} was executed, and nobody has ordered it"));
    }
    store.close()?;
    Ok(verdict)
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        self.double == 0 && self.lost == 0 && self.changed_executed == 0 && self.findings.is_empty()
    }

    fn check_effects(&mut self, number: u32, attempts: &[u32]) {
        let twice = attempts.len().saturating_sub(1) as u64;
        self.double += twice;
        if 0 < twice {
            self.find(format!("order {number} was executed as attempts {attempts:?}"));
        }
    }

    /// The store must replay what the execution left and what clients received, and those must be
    /// the same.
    fn check_result(
        &mut self,
        store: &Store,
        order: &Order,
        attempt: Option<u32>,
        outcome: &Storm,
    ) -> Result<()> {
        let receipt = attempt.map(|attempt| order.receipt(Body::Original, attempt));
        let begin = store.begin(&order.key()?, order.fingerprint(Body::Original))?;
        let lost = match &begin {
            Begin::Replay(completed) => {
                let result = completed.result();
                let told = outcome.acks.first.get(&order.number);
                if outcome.acks.differing.contains(&order.number) {
                    Some("clients were told different results".to_owned())
                } else if told != Some(&logs::digest(result)) {
                    Some("the store has another result than clients were told".to_owned())
                } else if receipt.as_ref().map(String::as_bytes) != Some(result) {
                    Some("the result is not that of its execution".to_owned())
                } else {
                    None
                }
            }
            begin => Some(format!("the store answers {begin:?}")),
        };
        if let Some(lost) = lost {
            self.lost += 1;
            self.find(format!("order {}: {lost}", order.number));
        }
        Ok(())
    }

    fn check_changed(&mut self, store: &Store, order: &Order) -> Result<()> {
        if order.has_changed {
            match store.begin(&order.key()?, order.fingerprint(Body::Changed))? {
                Begin::Mismatch => {}
                begin => {
                    self.find(format!("order {}: a changed body gets {begin:?}", order.number));
                }
            }
        }
        Ok(())
    }

    fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = |event| self.events.get(&event).copied().unwrap_or(0);
        let handled = [Event::Resolved, Event::Retried, Event::Abandoned].map(events);
        let interrupted = events(Event::Interrupted);
        let cut_short = interrupted.saturating_sub(handled.iter().sum());
        let rows = [
            ("orders", u64::from(self.orders)),
            ("attempts (requests made)", events(Event::Attempt)),
            ("executed", self.executed as u64),
            ("replayed", events(Event::Replayed)),
            ("conflicts (409)", events(Event::Conflict)),
            ("mismatches (422)", events(Event::Mismatch)),
            ("refused by validation, key released", events(Event::Released)),
            ("interrupted", interrupted),
            ("  effect found: resolved", events(Event::Resolved)),
            ("  no effect found: retried", events(Event::Retried)),
            ("  no effect found: abandoned", events(Event::Abandoned)),
            ("  killed again before it was settled", cut_short),
            ("kills (SIGKILL)", self.kills.into()),
            ("starts of the process", self.starts.into()),
            ("answers checked against the store", self.answers),
            ("double executions", self.double),
            ("lost results", self.lost),
            ("changed bodies executed", self.changed_executed),
        ];
        for (name, count) in rows {
            writeln!(f, "{name:<38} {count:>10}")?;
        }
        for finding in self.findings.iter().take(FINDINGS_MAX) {
            writeln!(f, "FOUND: {finding}")?;
        }
        if FINDINGS_MAX < self.findings.len() {
            writeln!(f, "and {} more", self.findings.len() - FINDINGS_MAX)?;
        }
        let verdict = if self.passed() { "PASSED" } else { "FAILED" };
        writeln!(f, "{verdict} in {:.1} s", self.took.as_secs_f64())
    }
}
