//! What must be true of each key after a crash, given what the callers were told before it.

use std::collections::BTreeMap;

use idemstore::{Begin, Fingerprint, Store};

use super::key;

/// The states of a key that no caller holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    Free,
    Interrupted {
        attempt: u32,
        checkpoint: Option<Vec<u8>>,
    },
    Completed(Vec<u8>),
    /// The length of its result in bytes.
    NotKept(u64),
}

/// The last acknowledged state of one key, and the state that it is about to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    acknowledged: Truth,
    /// Set while a call is under way, or after one that ended without saying whether this is true
    /// now.
    pending: Option<Truth>,
    /// The number of that call.
    call: u64,
}

/// What the callers know of all keys. It shares no code with the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oracle {
    keys: BTreeMap<String, Known>,
    /// The number of reports so far.
    told: u64,
}

/// A call that did not report success, and why.
#[derive(Debug)]
pub struct Unsaid(pub String);

impl Oracle {
    /// A call is about to put a key into this state.
    pub fn expect(&mut self, name: &str, next: Truth) {
        self.told += 1;
        let known = self.keys.entry(name.to_owned()).or_insert_with(|| Known::at_rest(Truth::Free));
        (known.pending, known.call) = (Some(next), self.told);
    }

    /// The call has reported that this is true now.
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

    /// The number of reports so far: two runs of the same calls have got equally far if it is
    /// equal.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Begins every key, and compares: it is in its last acknowledged state, or in the one that a
    /// call was about to put it in.
    pub fn check(&self, store: &Store) -> Vec<Found> {
        self.try_check(store).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Like [`Oracle::check`], but returns what is wrong.
    pub fn try_check(&self, store: &Store) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        for (name, known) in &self.keys {
            found.push(known.compare(name, observe(store, name)?)?);
        }
        Ok(found)
    }
}

/// What must also be true if one thread has made all calls. The calls reach the disk in order, so
/// of those under way, the ones that are already true are the first. And every record belongs to a
/// key.
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

    /// Whether a call that changes it is under way, or has ended without reporting success.
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
    /// A store on which something has failed answers only with what was acknowledged. It may refuse
    /// to answer. For a call whose outcome is unknown, it must report neither that the key is free
    /// nor the state that the call was to bring about.
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

    /// Compares, and accepts the states found as the true ones from now on.
    pub fn adopt(&mut self, store: &Store) -> Vec<Found> {
        let found = self.check(store);
        for (name, known) in &mut self.keys {
            let truth = observe(store, name).unwrap_or_else(|wrong| panic!("{wrong}"));
            *known = Known::at_rest(truth);
        }
        found
    }
}

/// The state in which a key was found after a crash.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub completed: bool,
    /// Whether it could have been completed, given what its caller was told.
    pub may_be_completed: bool,
    /// Whether it is already in a state that no caller has been told of yet.
    pub early: bool,
    /// The number of the call that was under way to change it.
    pub call: Option<u64>,
    pub truth: Truth,
}

impl Truth {
    /// The state of the key according to this answer, or the answer itself if another caller holds
    /// the key.
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
