//! What a store must hold at a point of the trace, given what its callers were told before.

use std::collections::{BTreeMap, BTreeSet};

use crate::tell::{State, Tell};

/// A possible state of a key, and of the caller's row of that name. The two change together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    pub rows: BTreeSet<Option<u64>>,
}

/// The possible states of each key. The first is acknowledged, the others are under way.
pub type Standings = BTreeMap<String, Vec<Standing>>;

#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub now: u64,
    pub keys: Standings,
    pub backups: BTreeMap<String, Backup>,
    /// Lines so far: the truth changes only if this does.
    pub told: u64,
}

/// A copy of the store, which has what was acknowledged before it, and perhaps what came while it
/// was being made.
#[derive(Clone, Debug)]
pub struct Backup {
    pub keys: Standings,
    pub is_made: bool,
}

impl Standing {
    /// Whether a key and its row may be in this state at a time.
    pub fn allows(&self, state: State, row: Option<u64>, now: u64) -> bool {
        self.state.at(now) == state && self.rows.contains(&row)
    }
}

fn never_used() -> Vec<Standing> {
    vec![Standing { state: State::Free, rows: BTreeSet::from([None]) }]
}

impl Truth {
    /// Applies a line of the workload. An error means that the workload itself got a false answer.
    pub fn hear(&mut self, tell: &Tell) -> Result<(), String> {
        self.told += 1;
        match tell {
            Tell::Time(now) => self.now = *now,
            Tell::Intend { key, state, row } => self.intend(key, *state, *row),
            Tell::Ack(key) => {
                let standings = self.standings(key);
                standings.drain(..standings.len() - 1);
            }
            Tell::Deny(key) => {
                self.standings(key).pop();
            }
            Tell::Found { key, state } => return self.found(key, *state),
            Tell::Seen { key, state } => self.seen(key, *state),
            Tell::Backup(name) => {
                let backup = Backup { keys: self.keys.clone(), is_made: false };
                self.backups.insert(name.clone(), backup);
            }
            Tell::BackedUp(name) => {
                let backup = self.backups.get_mut(name).ok_or("no such backup is made")?;
                backup.is_made = true;
            }
        }
        Ok(())
    }

    fn standings(&mut self, key: &str) -> &mut Vec<Standing> {
        self.keys.entry(key.to_owned()).or_insert_with(never_used)
    }

    fn intend(&mut self, key: &str, state: State, row: Option<u64>) {
        let standings = self.standings(key);
        let rows = match row {
            Some(_) => BTreeSet::from([row]),
            // A row stays until it is written again, whatever it holds.
            None => standings.iter().flat_map(|standing| standing.rows.iter().copied()).collect(),
        };
        let standing = Standing { state, rows };
        standings.push(standing.clone());
        for backup in self.backups.values_mut().filter(|backup| !backup.is_made) {
            backup.keys.entry(key.to_owned()).or_insert_with(never_used).push(standing.clone());
        }
    }

    /// An answer is a promise too: any state that it doesn't allow is ruled out. A waiting caller
    /// gets an operation's outcome even if the retention ended while it ran.
    fn found(&mut self, key: &str, state: State) -> Result<(), String> {
        let now = self.now;
        let standings = self.standings(key);
        let is_allowed =
            |standing: &Standing| [standing.state, standing.state.at(now)].contains(&state);
        if !standings.iter().any(is_allowed) {
            return Err(format!("the workload was told `{state}` of {key}: {standings:?}"));
        }
        standings.retain(is_allowed);
        Ok(())
    }

    /// The caller that changes the key may have continued since, so only earlier states are ruled
    /// out.
    fn seen(&mut self, key: &str, state: State) {
        let standings = self.standings(key);
        if let Some(seen) = standings.iter().position(|standing| standing.state == state) {
            standings.drain(..seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tell::Value;

    const STARTED: State = State::Started { expires: 100, attempt: 1, checkpoint: None };
    const DONE: State = State::Done { expires: 100, result: Value { number: 1, len: 20 } };

    fn truth(tells: &[&str]) -> Truth {
        let mut truth = Truth::default();
        for line in tells {
            let tell = Tell::parse(line).expect("it is a line");
            truth.hear(&tell).expect("it is allowed");
        }
        truth
    }

    fn states(standings: &Standings) -> Vec<State> {
        standings["k"].iter().map(|standing| standing.state).collect()
    }

    #[test]
    fn what_is_intended_may_be_and_what_is_acknowledged_is() {
        let under_way = truth(&["intend k - started 100 1"]);
        assert_eq!(states(&under_way.keys), [State::Free, STARTED]);
        let known = truth(&["intend k - started 100 1", "ack k"]);
        assert_eq!(states(&known.keys), [STARTED]);
        let refused = truth(&["intend k - started 100 1", "deny k"]);
        assert_eq!(states(&refused.keys), [State::Free]);
    }

    #[test]
    fn an_answer_settles_what_is_under_way() {
        let lines = ["intend k - started 100 1", "intend k - done 100 1 20"];
        let found = truth(&[&lines[..], &["found k started 100 1"]].concat());
        assert_eq!(states(&found.keys), [STARTED]);
        let seen = truth(&[&lines[..], &["seen k done 100 1 20"]].concat());
        assert_eq!(states(&seen.keys), [DONE]);
        let stale = truth(&[&lines[..], &["ack k", "seen k started 100 1"]].concat());
        assert_eq!(states(&stale.keys), [DONE]);
    }

    #[test]
    fn a_false_answer_is_noticed() {
        let mut truth = truth(&["intend k - done 100 1 20", "ack k"]);
        let free = Tell::parse("found k free").expect("it is a line");
        assert!(truth.hear(&free).is_err());
        truth.hear(&Tell::Time(100)).expect("it is no answer");
        let late = Tell::parse("found k done 100 1 20").expect("it is a line");
        truth.hear(&late).expect("it is told to one that has waited");
        truth.hear(&free).expect("it has expired");
    }

    #[test]
    fn a_backup_has_what_came_before_it_and_perhaps_what_came_meanwhile() {
        let lines = ["intend k - started 100 1", "ack k", "backup b"];
        let after = ["intend k - done 100 1 20", "ack k", "backed-up b", "intend k - free"];
        let truth = truth(&[&lines[..], &after[..]].concat());
        assert_eq!(states(&truth.backups["b"].keys), [STARTED, DONE]);
        assert!(truth.backups["b"].is_made);
    }

    #[test]
    fn a_row_comes_with_its_result_and_stays() {
        let rows = |lines: &[&str]| {
            let standings = truth(lines).keys["k"].clone();
            standings.into_iter().map(|standing| Vec::from_iter(standing.rows)).collect::<Vec<_>>()
        };
        let lines = ["intend k 1 done 100 1 20", "ack k", "intend k - free"];
        assert_eq!(rows(&lines), [[Some(1)], [Some(1)]]);
        // It has expired, or was never there.
        let lines = ["intend k 1 done 100 1 20", "time 100", "found k free", "intend k - free"];
        assert_eq!(rows(&lines), [vec![None], vec![Some(1)], vec![None, Some(1)]]);
    }
}
