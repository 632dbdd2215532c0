//! Everything that a store can be asked, and the answers that it may give.

use std::time::Duration;

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{
    Begin, Clock, CompleteError, CopyError, Error, Fingerprint, ManualClock, OpenError, Status,
    Store,
};

use super::image::{Facts, Image, Truths};
use crate::support::{RETENTION_MS, SimDisk, builder, key};

/// The calls to make, one bit for each.
#[derive(Clone, Copy)]
pub struct Calls(pub u8);

impl Calls {
    const WRITE: u8 = 1;
    const SETTLE: u8 = 2;
    const SWEEP: u8 = 4;
    const BACKUP: u8 = 8;
    const COMPACT: u8 = 16;
    const CLOSE: u8 = 32;
    /// The retention of all keys ends.
    const EXPIRE: u8 = 64;
    /// A list of some keys only.
    const SEARCH: u8 = 128;

    fn has(self, call: u8) -> bool {
        self.0 & call != 0
    }
}

/// More keys than any store here has.
const LISTED_MAX: usize = 1_000;

/// One inspection of a store.
pub struct Look<'i> {
    pub image: &'i Image,
    pub clock: ManualClock,
    pub calls: Calls,
    /// What is true of its keys, unless the files are forged.
    pub truths: Option<&'i Truths>,
}

impl Look<'_> {
    /// Opens the store and asks it; `false` if it does not open.
    pub fn open(&self, disk: SimDisk) -> bool {
        match builder(&self.clock).open_on(disk) {
            Ok(store) => self.ask(store),
            Err(
                OpenError::Corrupt { .. }
                | OpenError::NotAStore { .. }
                | OpenError::UnsupportedVersion { .. }
                | OpenError::Storage { .. }
                | OpenError::Io { .. },
            ) => return false,
            // Forged times, or a log that was forged to be shorter.
            Err(OpenError::Clock | OpenError::Option { .. }) if self.truths.is_none() => {
                return false;
            }
            Err(other) => panic!("{other:?}"),
        }
        true
    }

    fn ask(&self, store: Store) {
        self.keys(&store);
        if self.calls.has(Calls::WRITE) {
            self.write(&store);
        }
        if self.calls.has(Calls::EXPIRE) {
            self.clock.advance(Duration::from_millis(RETENTION_MS));
        }
        if self.calls.has(Calls::SETTLE) {
            self.said(store.settle());
        }
        if self.calls.has(Calls::SWEEP) {
            self.said(store.sweep());
        }
        if self.calls.has(Calls::COMPACT) {
            self.copied(store.compact());
        }
        if self.calls.has(Calls::BACKUP) {
            let disk = SimDisk::new();
            if self.copied(store.backup_on(disk.clone())).is_some() {
                match builder(&self.clock).open_on(disk) {
                    Ok(copy) => self.keys(&copy),
                    Err(error) => assert!(self.truths.is_none(), "the copy: {error:?}"),
                }
            }
        }
        if self.calls.has(Calls::SEARCH) {
            let found = store.keys().status(Status::Interrupted).take(LISTED_MAX);
            let found = self.said(found.collect::<Result<Vec<_>, _>>());
            assert!(found.is_none_or(|found| found.len() < LISTED_MAX), "the list does not end");
        }
        self.list(&store);
        self.keys(&store);
        if self.calls.has(Calls::CLOSE) {
            self.said(store.close());
        }
    }

    /// The result of a call; `None` if it reports damage. A store that has opened reports only
    /// forgeries: the open finds all other damage that matters.
    fn said<T>(&self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(
                Error::Corrupt { .. }
                | Error::Storage(_)
                | Error::Poisoned(_)
                | Error::OutcomeUnknown(_)
                | Error::Overloaded { .. },
            ) if self.truths.is_none() => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    fn copied<T>(&self, copied: Result<T, CopyError>) -> Option<T> {
        match copied {
            Err(CopyError::Store(error)) => self.said(Err(error)),
            Err(CopyError::Io(_) | CopyError::Storage(_)) if self.truths.is_none() => None,
            copied => Some(copied.expect("it is copied")),
        }
    }

    /// The state of each key now, if the files aren't forged.
    fn truths(&self) -> Option<Vec<Option<&Facts>>> {
        let now = self.clock.now().as_unix_ms();
        let live = |facts: &&Facts| facts.expires.is_some_and(|expires| now < expires);
        Some(self.truths?.iter().map(|facts| facts.as_ref().filter(live)).collect())
    }

    fn keys(&self, store: &Store) {
        for (number, (key, fingerprint)) in self.image.keys.iter().enumerate() {
            let looked = self.said(store.get(key)).map(|info| info.as_ref().map(Facts::of));
            let begun = self.said(store.begin(key, *fingerprint));
            let Some(truths) = self.truths() else { continue };
            if let Some(facts) = looked {
                assert_eq!(facts.as_ref(), truths[number], "a look at key {number}");
            }
            if let Some(begin) = begun {
                assert!(is_right(&begin, truths[number]), "{begin:?} for {:?}", truths[number]);
            }
        }
    }

    fn list(&self, store: &Store) {
        let listed = store.keys().take(LISTED_MAX).collect::<Result<Vec<_>, _>>();
        let Some(listed) = self.said(listed) else { return };
        assert!(listed.len() < LISTED_MAX, "the list does not end");
        let Some(truths) = self.truths() else { return };
        let listed: Vec<_> = listed.iter().filter(|info| *info.key() != key("new")).collect();
        for info in &listed {
            let number = self.image.keys.iter().position(|(key, _)| key == info.key());
            let number = number.expect("it is a key of the store");
            assert_eq!(Some(&Facts::of(info)), truths[number]);
        }
        assert_eq!(listed.len(), truths.iter().flatten().count(), "a key is not listed");
    }

    /// Uses a new key, or finds it used.
    fn write(&self, store: &Store) {
        let begin = store.begin(&key("new"), Fingerprint::NONE);
        let completed = match self.said(begin) {
            Some(Begin::Fresh(permit)) => permit.complete("result"),
            Some(Begin::Replay(completed)) => Ok(completed),
            None => return,
            Some(other) => panic!("{other:?}"),
        };
        let completed = completed.map_err(|error| match error {
            CompleteError::Store(error) => error,
            CompleteError::Overloaded { bound, .. } => Error::Overloaded { bound },
            other => panic!("{other:?}"),
        });
        if let Some(completed) = self.said(completed) {
            assert_eq!(completed.result(), b"result");
        }
    }
}

fn is_right(begin: &Begin, truth: Option<&Facts>) -> bool {
    match (begin, truth.map(|facts| facts.status)) {
        (Begin::Fresh(_), None)
        | (Begin::NotKept(_), Some(Status::NotKept))
        | (Begin::Interrupted(_), Some(Status::Interrupted)) => true,
        (Begin::Replay(completed), Some(Status::Completed)) => {
            truth.and_then(|facts| facts.result.as_deref()) == Some(completed.result())
        }
        _ => false,
    }
}
