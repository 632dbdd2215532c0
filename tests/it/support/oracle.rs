//! What must be true of each key after a crash, from what the callers were told before it.

use std::collections::BTreeMap;

use idemstore::{Begin, Fingerprint, Store};

use super::key;

/// All that a key can be while nobody holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    Free,
    Interrupted {
        attempt: u32,
        checkpoint: Option<Vec<u8>>,
    },
    Completed(Vec<u8>),
    /// Of a result that had so many bytes.
    Tombstone(u64),
}

/// What one key was last acknowledged to be, and what it is about to be.
#[derive(Clone, Debug)]
struct Known {
    acknowledged: Truth,
    /// A call is under way, or ended without saying whether this is true now.
    pending: Option<Truth>,
}

/// What the callers know of all keys. It shares no code with the store.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    keys: BTreeMap<String, Known>,
}

/// A call that did not say that it is done, and why.
#[derive(Debug)]
pub struct Unsaid(#[expect(dead_code, reason = "a test that fails shows it")] pub String);

impl Oracle {
    /// A call is about to make this of a key.
    pub fn expect(&mut self, name: &str, next: Truth) {
        let free = Known { acknowledged: Truth::Free, pending: None };
        self.keys.entry(name.to_owned()).or_insert(free).pending = Some(next);
    }

    /// The call has said that this is true now.
    pub fn acknowledge(&mut self, name: &str) {
        let known = self.keys.get_mut(name).expect("a call was made");
        known.acknowledged = known.pending.take().expect("a call was made");
    }

    /// The retention of all keys is over: they are free from now on.
    pub fn expire(&mut self) {
        for known in self.keys.values_mut() {
            *known = Known { acknowledged: Truth::Free, pending: None };
        }
    }

    /// Begins every key, and compares: it is what it was last acknowledged to be, or what a call
    /// was about to make of it.
    pub fn check(&self, store: &Store) -> Vec<Found> {
        let found = |(name, known): (&String, &Known)| {
            let truth = observe(store, name);
            let early = truth != known.acknowledged;
            assert!(
                !early || known.pending.as_ref() == Some(&truth),
                "{name} is {truth:?}: {known:?}"
            );
            let completed = |truth: &Truth| matches!(truth, Truth::Completed(_));
            let may_be_completed =
                completed(&known.acknowledged) || known.pending.as_ref().is_some_and(completed);
            Found { name: name.clone(), completed: completed(&truth), may_be_completed, early }
        };
        self.keys.iter().map(found).collect()
    }
}

impl Oracle {
    /// Compares, and takes what is found for what is true from now on.
    pub fn adopt(&mut self, store: &Store) {
        drop(self.check(store));
        for (name, known) in &mut self.keys {
            *known = Known { acknowledged: observe(store, name), pending: None };
        }
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
}

fn observe(store: &Store, name: &str) -> Truth {
    match store.begin(&key(name), Fingerprint::of(name)).expect("begin answers") {
        Begin::Fresh(_) => Truth::Free,
        Begin::Replay(completed) => Truth::Completed(completed.result().to_vec()),
        Begin::Tombstone(tombstone) => Truth::Tombstone(tombstone.result_len()),
        Begin::Interrupted(interrupted) => Truth::Interrupted {
            attempt: interrupted.attempt(),
            checkpoint: interrupted.last_checkpoint().map(<[u8]>::to_vec),
        },
        other => panic!("nobody holds {name}, and it is {other:?}"),
    }
}
