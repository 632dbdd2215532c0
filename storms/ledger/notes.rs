//! What the clients received. The audit believes nothing else.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What the clients have received so far.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Told>);

/// Everything that clients received.
#[derive(Clone, Default)]
pub(crate) struct Told {
    /// By the transfer's number.
    pub(crate) transfers: BTreeMap<u32, Note>,
    pub(crate) counts: Counts,
    /// Answers that contradict each other.
    pub(crate) findings: Vec<String>,
}

/// What clients received for one transfer.
#[derive(Clone, Default)]
pub(crate) struct Note {
    /// The receipt, if the transfer was applied.
    pub(crate) receipt: Option<Vec<u8>>,
    /// The number of answers that say so.
    pub(crate) receipts: u64,
    pub(crate) refusals: u64,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) applied: u64,
    pub(crate) replayed: u64,
    pub(crate) refused: u64,
    pub(crate) busy: u64,
    /// Answers that no transfer here should get.
    pub(crate) unexpected: u64,
    /// Requests that got no answer.
    pub(crate) lost_answers: u64,
}

impl Counts {
    /// Deliveries that are finished.
    pub(crate) fn answers(self) -> u64 {
        self.applied + self.replayed + self.refused + self.unexpected
    }
}

impl Notes {
    pub(crate) fn is_applied(&self, transfer: u32) -> bool {
        self.0.lock().transfers.get(&transfer).is_some_and(|note| note.receipt.is_some())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    pub(crate) fn told(&self) -> Told {
        self.0.lock().clone()
    }

    pub(crate) fn take_lost_answer(&self) {
        self.0.lock().counts.lost_answers += 1;
    }

    /// Records an answer, and returns whether the client is done with it. `was_applied` says
    /// whether some client already had a receipt when the request was made: then nothing but that
    /// receipt may come.
    pub(crate) fn take(&self, transfer: u32, was_applied: bool, answer: &[u8]) -> bool {
        let mut words = answer.splitn(2, |byte| *byte == b' ');
        let (word, receipt) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let told = &mut *self.0.lock();
        let note = told.transfers.entry(transfer).or_default();
        match word {
            b"applied" | b"replayed" => {
                let is_first = word == b"applied";
                *(if is_first { &mut told.counts.applied } else { &mut told.counts.replayed }) += 1;
                note.receipts += 1;
                if is_first && was_applied {
                    told.findings.push(format!("transfer {transfer} was applied once more"));
                }
                if note.receipt.get_or_insert_with(|| receipt.to_owned()) != receipt {
                    told.findings.push(format!("transfer {transfer} has two receipts"));
                }
            }
            b"refused" => {
                told.counts.refused += 1;
                note.refusals += 1;
                if was_applied {
                    told.findings.push(format!("transfer {transfer} was refused once applied"));
                }
            }
            b"busy" => {
                told.counts.busy += 1;
                return false;
            }
            word => {
                told.counts.unexpected += 1;
                let word = word.escape_ascii();
                told.findings.push(format!("transfer {transfer} is answered with {word:?}"));
            }
        }
        true
    }
}
