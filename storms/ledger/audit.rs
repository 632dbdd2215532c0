//! The end: compares what the clients received with what is in the store, from outside the
//! processes that did it.
//!
//! Every balance is recomputed from the clients' receipts. These are numbered, so they tell a whole
//! history: no number is missing, no account pays money that it doesn't have, and each receipt
//! names the balances that its transfer must have left.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use idemstore::{Begin, Fingerprint, Store};

use crate::bank::{self, Books, Receipt};
use crate::notes::{Counts, Note};
use crate::storm::Storm;
use crate::transfer::{INITIAL_CENTS, Transfer};
use crate::{Args, Result};

/// How many findings are printed; all are counted.
const FINDINGS_MAX: usize = 10;

/// The table.
pub(crate) struct Verdict {
    transfers: u32,
    kills: u32,
    starts: u32,
    took: Duration,
    told: Counts,
    applied: u64,
    refused: u64,
    applied_later: u64,
    money: (u64, u64),
    double: u64,
    lost: u64,
    findings: Vec<String>,
}

/// Opens the store itself, and compares its contents with what the clients received.
pub(crate) fn audit(args: &Args, path: &Path, outcome: &Storm) -> Result<Verdict> {
    let store = bank::open(path, args.seed)?;
    let books = Books::read(&store)?;
    let mut verdict = Verdict {
        transfers: args.transfers,
        kills: outcome.kills,
        starts: outcome.starts,
        took: outcome.took,
        told: outcome.told.counts,
        applied: 0,
        refused: 0,
        applied_later: 0,
        money: (u64::from(args.accounts) * INITIAL_CENTS, books.balances.values().sum()),
        double: 0,
        lost: 0,
        findings: outcome.told.findings.clone(),
    };
    verdict.check_money();
    let mut times = BTreeMap::<u32, u64>::new();
    for transfer in books.journal.values() {
        *times.entry(*transfer).or_default() += 1;
    }
    let mut history = BTreeMap::new();
    for id in 0..args.transfers {
        let transfer = Transfer::new(args, id)?;
        let note = outcome.told.transfers.get(&id).cloned().unwrap_or_default();
        let times = times.remove(&id).unwrap_or_default();
        verdict.check_answers(&transfer, &note);
        verdict.check_times(&transfer, &note, times);
        verdict.check_keys(&store, &transfer, &note)?;
        verdict.tell(&transfer, &note, &mut history)?;
    }
    for (transfer, times) in times {
        verdict.double += times;
        verdict.find(format!("transfer {transfer} was applied, and nobody has asked for it"));
    }
    verdict.check_history(args, &books, &history);
    store.close()?;
    Ok(verdict)
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        self.double == 0 && self.lost == 0 && self.findings.is_empty()
    }

    fn check_money(&mut self) {
        let (before, after) = self.money;
        if before != after {
            self.find(format!("there were {before} cents, and there are {after}"));
        }
    }

    /// Each transfer was sent at least twice, and each time until there was an answer.
    fn check_answers(&mut self, transfer: &Transfer, note: &Note) {
        let answers = note.receipts + note.refusals;
        if answers < 2 {
            self.find(format!("transfer {} has {answers} answers", transfer.id));
        }
        match (&note.receipt, note.refusals) {
            (None, _) => self.refused += 1,
            (Some(_), 0) => self.applied += 1,
            (Some(_), _) => {
                self.applied += 1;
                self.applied_later += 1;
            }
        }
    }

    /// How often the money was moved, according to the bank's own journal.
    fn check_times(&mut self, transfer: &Transfer, note: &Note, times: u64) {
        let expected = u64::from(note.receipt.is_some());
        self.double += times.saturating_sub(expected);
        self.lost += expected.saturating_sub(times);
        if times != expected {
            let told = if expected == 1 { "applied" } else { "refused" };
            self.find(format!(
                "transfer {} was applied {times} times, and clients were told that it is {told}",
                transfer.id
            ));
        }
    }

    /// An applied transfer replays the clients' receipt. A refused one has left its key free.
    fn check_keys(&mut self, store: &Store, transfer: &Transfer, note: &Note) -> Result<()> {
        let id = transfer.id;
        let begin = store.begin(&transfer.key()?, transfer.fingerprint())?;
        match (&note.receipt, begin) {
            (Some(receipt), Begin::Replay(completed)) => {
                if completed.result() != receipt {
                    self.lost += 1;
                    self.find(format!("transfer {id} has another receipt than clients were told"));
                }
                let notice = store.begin(&transfer.notice_key()?, Fingerprint::NONE)?;
                if !matches!(notice, Begin::Replay(_)) {
                    self.lost += 1;
                    self.find(format!("the notice of transfer {id} is lost: {notice:?}"));
                }
            }
            (None, Begin::Fresh(permit)) => permit.release(),
            (receipt, begin) => {
                self.lost += u64::from(receipt.is_some());
                let told = if receipt.is_some() { "applied" } else { "refused" };
                self.find(format!(
                    "the store answers {begin:?} for transfer {id}, and clients were told that it \
                     is {told}"
                ));
            }
        }
        Ok(())
    }

    /// Puts a transfer into the history at the place that its receipt names.
    fn tell(
        &mut self,
        transfer: &Transfer,
        note: &Note,
        history: &mut BTreeMap<u64, (Transfer, Receipt)>,
    ) -> Result<()> {
        let Some(receipt) = &note.receipt else { return Ok(()) };
        let receipt = Receipt::parse(receipt)?;
        if receipt.transfer != transfer.id {
            let (id, other) = (transfer.id, receipt.transfer);
            self.find(format!("transfer {id} has the receipt of transfer {other}"));
        }
        if let Some((other, _)) = history.insert(receipt.number, (*transfer, receipt)) {
            let (id, other) = (transfer.id, other.id);
            self.find(format!("transfers {other} and {id} have the same number"));
        }
        Ok(())
    }

    /// Recomputes all balances from the requests and the receipts alone.
    fn check_history(
        &mut self,
        args: &Args,
        books: &Books,
        history: &BTreeMap<u64, (Transfer, Receipt)>,
    ) {
        let mut balances: BTreeMap<_, _> =
            (0..args.accounts).map(|account| (account, INITIAL_CENTS)).collect();
        for (expected, (number, (transfer, receipt))) in (1..).zip(history) {
            if expected != *number {
                self.find(format!("the receipt number {expected} was never told to any client"));
                break;
            }
            if let Some(wrong) = follow(&mut balances, transfer, receipt) {
                self.find(format!("transfer {}, number {number}: {wrong}", transfer.id));
                break;
            }
        }
        if balances != books.balances {
            self.find("the balances are not those that follow from the receipts".to_owned());
        }
        let told = history.iter().map(|(number, (transfer, _))| (number, &transfer.id));
        if !told.eq(&books.journal) {
            self.find("the bank's journal is not the history that clients were told".to_owned());
        }
    }

    fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }
}

/// Moves the money of one transfer, and reports what is wrong with its receipt.
fn follow(
    balances: &mut BTreeMap<u32, u64>,
    transfer: &Transfer,
    receipt: &Receipt,
) -> Option<String> {
    let balance = |account| balances.get(&account).copied().unwrap_or_default();
    let Some(from) = balance(transfer.from).checked_sub(transfer.cents) else {
        return Some("it paid what was not there".to_owned());
    };
    let to = balance(transfer.to) + transfer.cents;
    balances.insert(transfer.from, from);
    balances.insert(transfer.to, to);
    let named = (receipt.from, receipt.to);
    (named != (from, to))
        .then(|| format!("it left {:?}, and its receipt says {named:?}", (from, to)))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("transfers", u64::from(self.transfers)),
            ("  applied", self.applied),
            ("    after they had been refused", self.applied_later),
            ("    told by a replay only", self.applied.saturating_sub(self.told.applied)),
            ("  refused each time", self.refused),
            ("answers to clients", self.told.answers()),
            ("  applied", self.told.applied),
            ("  replayed", self.told.replayed),
            ("  refused", self.told.refused),
            ("requests sent again", self.told.lost_answers + self.told.busy),
            ("  for an answer that did not come", self.told.lost_answers),
            ("  for another request that was at it", self.told.busy),
            ("kills (SIGKILL)", self.kills.into()),
            ("starts of the server", self.starts.into()),
            ("money in the beginning", self.money.0),
            ("money in the end", self.money.1),
            ("double applications", self.double),
            ("lost transfers, receipts and notices", self.lost),
        ];
        for (name, count) in rows {
            writeln!(f, "{name:<40} {count:>10}")?;
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
