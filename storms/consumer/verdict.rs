//! The end: everything is checked again, from outside the processes that did it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use idemstore::{Stats, Store};

use crate::killer::Killed;
use crate::logs::{Acks, Counts, Effects, Place, Report};
use crate::queue::{self, Message};
use crate::{Args, Result};

/// How many findings are printed; all are counted.
const FINDINGS_MAX: usize = 10;

/// The findings, and the figures of the run.
pub(crate) struct Verdict {
    messages: u64,
    distinct: u64,
    counts: Counts,
    kills: u32,
    starts: u32,
    took: Duration,
    double: u64,
    lost: u64,
    wrong: u64,
    findings: Vec<String>,
}

impl Verdict {
    /// Opens the store itself, and compares its answers with the queue, the effects and the
    /// acknowledgements.
    pub(crate) fn reach(args: &Args, place: &Place, killed: &Killed) -> Result<Self> {
        let queue = queue::read(place, 0)?;
        let distinct: BTreeSet<_> = queue.iter().map(|message| message.id).collect();
        let mut verdict = Self {
            messages: queue.len() as u64,
            distinct: distinct.len() as u64,
            counts: Report::read(place)?,
            kills: killed.kills,
            starts: killed.starts,
            took: killed.took,
            double: 0,
            lost: 0,
            wrong: 0,
            findings: Vec::new(),
        };
        let effects = verdict.check_effects(&Effects::read(place)?, &distinct);
        let store = queue::open_store(&place.store(), args.seed)?;
        verdict.check_records(&store.stats());
        let mut acks = Acks::read(place)?.into_iter();
        for (message, position) in queue.iter().zip(1_u64..) {
            let effect = effects.get(&message.id).copied();
            verdict.check_answer(&store, position, message, effect, acks.next())?;
        }
        verdict.check(acks.next().is_none(), || "there are more answers than messages".to_owned());
        store.close()?;
        Ok(verdict)
    }

    pub(crate) fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// Each message has one effect. Returns the line of each.
    fn check_effects(&mut self, effects: &[u32], distinct: &BTreeSet<u32>) -> HashMap<u32, u64> {
        let mut lines = HashMap::new();
        for (id, line) in effects.iter().zip(1_u64..) {
            self.check(distinct.contains(id), || format!("{id} had an effect, and is no message"));
            if let Some(first) = lines.insert(*id, line) {
                self.double += 1;
                self.find(format!(
                    "message {id} had its effect twice, in lines {first} and {line}"
                ));
            }
        }
        for id in distinct {
            if !lines.contains_key(id) {
                self.lost += 1;
                self.find(format!("message {id} had no effect"));
            }
        }
        lines
    }

    /// Each message has one record, and none is left open.
    fn check_records(&mut self, stats: &Stats) {
        let (records, distinct) = (stats.records as u64, self.distinct);
        self.check(records == distinct, || format!("{records} records for {distinct} messages"));
        let open = stats.interrupted;
        self.check(open == 0, || format!("{open} messages are still interrupted"));
    }

    /// The store has a result for this position, it's the one that the queue got, and it names the
    /// effect of the message.
    fn check_answer(
        &mut self,
        store: &Store,
        position: u64,
        message: &Message,
        effect: Option<u64>,
        ack: Option<u64>,
    ) -> Result<()> {
        let info = store.get(&message.key()?)?;
        let completed = info.and_then(|info| info.completed());
        let stored = completed.as_ref().map(|completed| std::str::from_utf8(completed.result()));
        let stored = stored.transpose()?.map(str::parse).transpose()?;
        if stored.is_none() || stored != ack || stored != effect {
            self.wrong += 1;
            self.find(format!(
                "position {position}, message {}: stored is {stored:?}, answered was {ack:?}, and \
                 the effect is {effect:?}",
                message.id
            ));
        }
        Ok(())
    }

    fn check(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        if !holds {
            self.find(finding());
        }
    }

    fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }

    fn rows(&self) -> [(&'static str, u64); 16] {
        let counts = &self.counts;
        [
            ("messages", self.messages),
            ("  distinct", self.distinct),
            ("  redelivered", self.messages - self.distinct),
            ("kills (SIGKILL)", self.kills.into()),
            ("starts of the process", self.starts.into()),
            ("deliveries, with those after kills", counts.delivered),
            ("  replayed", counts.replayed),
            ("  in flight: same batch as the original", counts.in_flight),
            ("  interrupted", counts.resolved + counts.retried),
            ("    effect found: resolved", counts.resolved),
            ("    no effect found: retried", counts.retried),
            ("changes", counts.changes),
            ("fsync batches", counts.batches),
            ("double effects", self.double),
            ("lost effects", self.lost),
            ("wrong or missing answers", self.wrong),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.rows() {
            writeln!(f, "{name:<42} {count:>10}")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "the figures are for a reader's eye")]
        let (messages, batches) = (self.messages as f64, self.counts.batches as f64);
        writeln!(f, "{:<42} {:>10.4}", "fsync batches per message", batches / messages)?;
        let rate = messages / self.took.as_secs_f64();
        writeln!(f, "{:<42} {rate:>10.0}", "messages/s, with all kills and restarts")?;
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
