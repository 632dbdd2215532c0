//! What must be true of each key after a crash, from what the callers were told before it.

use std::collections::BTreeMap;

use idemstore::{Begin, Fingerprint, Store};

use super::key;

/// All that a key can be while nobody holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    Free,
    Interrupted {
        attempt: u32,
        checkpoint: Option<Vec<u8>>,
    },
    Completed(Vec<u8>),
    /// Of a result that had so many bytes.
    NotKept(u64),
}

/// What one key was last acknowledged to be, and what it is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    acknowledged: Truth,
    /// A call is under way, or ended without saying whether this is true now.
    pending: Option<Truth>,
    /// Which of all calls that is.
    call: u64,
}

/// What the callers know of all keys. It shares no code with the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oracle {
    keys: BTreeMap<String, Known>,
    /// How often it was told something.
    told: u64,
}

/// A call that did not say that it is done, and why.
#[derive(Debug)]
pub struct Unsaid(pub String);

impl Oracle {
    /// A call is about to make this of a key.
    pub fn expect(&mut self, name: &str, next: Truth) {
        self.told += 1;
        let known = self.keys.entry(name.to_owned()).or_insert_with(|| Known::at_rest(Truth::Free));
        (known.pending, known.call) = (Some(next), self.told);
    }

    /// The call has said that this is true now.
    pub fn acknowledge(&mut self, name: &str) {
        self.told += 1;
        let known = self.keys.get_mut(name).expect("a call was made");
        known.acknowledged = known.pending.take().expect("a call was made");
    }

    /// The retention of all keys is over: they are free from now on.
    pub fn expire(&mut self) {
        self.told += 1;
        for known in self.keys.values_mut() {
            *known = Known::at_rest(Truth::Free);
        }
    }

    /// How often it was told something: two runs of the same calls have come equally far if this
    /// is equal.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Begins every key, and compares: it is what it was last acknowledged to be, or what a call
    /// was about to make of it.
    pub fn check(&self, store: &Store) -> Vec<Found> {
        self.try_check(store).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// As [`Oracle::check`], and says what is wrong.
    pub fn try_check(&self, store: &Store) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        for (name, known) in &self.keys {
            found.push(known.compare(name, observe(store, name)?)?);
        }
        Ok(found)
    }
}

/// What is true besides if one thread has made all calls. They reach the disk in the order in which
/// they were made, so those that are true before their caller was told are the first of those under
/// way. And no record is there that is no key's.
pub fn try_check_whole(store: &Store, found: &[Found]) -> Result<(), String> {
    let mut calls: Vec<_> = found.iter().filter(|found| found.call.is_some()).collect();
    calls.sort_by_key(|found| found.call);
    let is_wrong = |pair: &&[&Found]| !pair[0].early && pair[1].early;
    if let Some([before, after]) = calls.windows(2).find(is_wrong) {
        return Err(format!("{after:?} is true before {before:?}"));
    }
    let used = found.iter().filter(|found| found.truth != Truth::Free).count();
    let live = store.stats().live;
    if live == used { Ok(()) } else { Err(format!("{live} records of {used} keys")) }
}

impl Known {
    fn at_rest(acknowledged: Truth) -> Self {
        Self { acknowledged, pending: None, call: 0 }
    }

    /// Whether a call is under way that is to change it, or has ended without saying so.
    fn is_open(&self) -> bool {
        self.pending.as_ref().is_some_and(|next| *next != self.acknowledged)
    }

    fn compare(&self, name: &str, truth: Truth) -> Result<Found, String> {
        let early = truth != self.acknowledged;
        if early && self.pending.as_ref() != Some(&truth) {
            return Err(format!("{name} is {truth:?}: {self:?}"));
        }
        let completed = |truth: &Truth| matches!(truth, Truth::Completed(_));
        let may_be_completed =
            completed(&self.acknowledged) || self.pending.as_ref().is_some_and(completed);
        Ok(Found {
            name: name.to_owned(),
            completed: completed(&truth),
            may_be_completed,
            early,
            call: self.is_open().then_some(self.call),
            truth,
        })
    }
}

impl Oracle {
    /// What a store says on which something has failed is what was acknowledged. It need not say
    /// anything, and of a call whose outcome is unknown it says neither that the key is free nor
    /// what the call was to make of it.
    pub fn check_what_it_says(&self, store: &Store) {
        for (name, known) in &self.keys {
            let Ok(truth) = observe(store, name) else { continue };
            let is_kept = matches!(truth, Truth::Completed(_) | Truth::NotKept(_));
            assert!(
                truth == known.acknowledged && (!known.is_open() || is_kept),
                "it says that {name} is {truth:?}: {known:?}"
            );
        }
    }

    /// Compares, and takes what is found for what is true from now on.
    pub fn adopt(&mut self, store: &Store) -> Vec<Found> {
        let found = self.check(store);
        for (name, known) in &mut self.keys {
            let truth = observe(store, name).unwrap_or_else(|wrong| panic!("{wrong}"));
            *known = Known::at_rest(truth);
        }
        found
    }
}

/// What a key was found to be after a crash.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub completed: bool,
    /// Whether it could have been, from what its caller was told.
    pub may_be_completed: bool,
    /// Whether it is already what no caller was told yet.
    pub early: bool,
    /// The call that was under way and was to change it, by its number.
    pub call: Option<u64>,
    pub truth: Truth,
}

impl Truth {
    /// What this answer says of its key, or the answer if somebody holds that.
    pub fn of(begin: Begin) -> Result<Self, Begin> {
        Ok(match begin {
            Begin::Fresh(_) => Self::Free,
            Begin::Replay(completed) => Self::Completed(completed.result().to_vec()),
            Begin::NotKept(tombstone) => Self::NotKept(tombstone.result_len()),
            Begin::Interrupted(interrupted) => Self::Interrupted {
                attempt: interrupted.attempt(),
                checkpoint: interrupted.last_checkpoint().map(<[u8]>::to_vec),
            },
            other => return Err(other),
        })
    }
}

fn observe(store: &Store, name: &str) -> Result<Truth, String> {
    let begin = store.begin(&key(name), Fingerprint::of(name));
    Truth::of(begin.map_err(|error| format!("{name}: {error}"))?)
        .map_err(|other| format!("nobody holds {name}, and it is {other:?}"))
}
