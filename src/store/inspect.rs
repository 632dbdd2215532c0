//! Inspecting keys without claiming them: `get` and `keys`.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::Store;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::handle::{Completed, NotKept};
use crate::key::Key;
use crate::limits::LIST_RECORDS_MAX;
use crate::local::change::RecordId;
use crate::local::vault::Listed;
use crate::rules::record::{Done, Kept};
use crate::rules::{self, Seen, Status};

/// What the store knows about a key that isn't free, at the moment of the call.
#[derive(Clone)]
pub struct KeyInfo {
    key: Key,
    seen: Seen,
}

impl KeyInfo {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the status of the key.
    #[must_use]
    pub fn status(&self) -> Status {
        self.seen.status
    }

    /// Returns when the operation was first begun, or when the current caller began it if nothing
    /// is stored yet.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.seen.record.as_ref().map_or(self.seen.since, |record| record.begun_at)
    }

    /// Returns when the retention ends, or `None` while nothing is stored.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.seen.record.as_ref().map(|record| record.expires_at)
    }

    /// Returns how many executions were started since the key was last free.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.seen.record.as_ref().map_or(0, |record| record.attempt)
    }

    /// Returns the last checkpoint, if the operation has stored one and isn't completed.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<&[u8]> {
        self.seen.record.as_ref()?.state.checkpoint()
    }

    /// Returns the completed operation and its result, if the status is [`Status::Completed`].
    #[must_use]
    pub fn completed(&self) -> Option<Completed> {
        let Done { record, completed_at, kept } = self.done(Status::Completed)?;
        match kept {
            Kept::Whole(result) => Some(Completed::new(record, completed_at, result)),
            Kept::Digest(_) => None,
        }
    }

    /// Returns the completed operation whose result was too long to keep, if the status is
    /// [`Status::NotKept`].
    #[must_use]
    pub fn not_kept(&self) -> Option<NotKept> {
        let Done { record, completed_at, kept } = self.done(Status::NotKept)?;
        match kept {
            Kept::Digest(digest) => Some(NotKept::new(record, completed_at, digest)),
            Kept::Whole(_) => None,
        }
    }

    fn done(&self, status: Status) -> Option<Done> {
        self.seen.record.as_ref().filter(|_| self.seen.status == status).and_then(Done::of)
    }
}

impl fmt::Debug for KeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyInfo").field("status", &self.seen.status).finish_non_exhaustive()
    }
}

impl Store {
    /// Inspects a key. Returns `None` if the key is free. The call changes and reserves nothing, so
    /// the answer may be out of date as soon as it's returned.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Status, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// assert!(store.get(&key)?.is_none());
    ///
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// permit.complete("receipt 17")?;
    /// let info = store.get(&key)?.expect("it is used");
    /// assert_eq!(info.status(), Status::Completed);
    /// assert_eq!(info.completed().expect("it is").result(), b"receipt 17");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`, `Storage` or `Corrupt` of [`Error`].
    pub fn get(&self, key: &Key) -> Result<Option<KeyInfo>, Error> {
        if let Err(error @ (Error::Closed | Error::OtherProcess)) = self.engine.journal.check() {
            return Err(error);
        }
        let seen = self.engine.ask(self.engine.index.locate(key), rules::look)?;
        Ok(seen.map(|seen| KeyInfo { key: key.clone(), seen }))
    }

    /// [`Store::get`] as a future. This engine answers at once.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    #[expect(clippy::unused_async, reason = "other engines wait for their answer")]
    pub async fn get_async(&self, key: &Key) -> Result<Option<KeyInfo>, Error> {
        self.get(key)
    }

    /// Lists all keys that have a stored record, in the order in which they expire.
    ///
    /// The list is read in small parts, so it does not block other calls however long it takes.
    /// Each key is shown as it is when the iterator reaches it. A key that is begun in the meantime
    /// may be listed or not. The iterator first settles the log, and if that fails its first item
    /// is the error.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Status, Store};
    /// # use std::time::Duration;
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// # drop(permit.start()?);
    /// // What has been waiting for a decision for more than ten minutes?
    /// let stuck = store.keys().status(Status::Interrupted).older_than(Duration::from_secs(600));
    /// for info in stuck {
    ///     let info = info?;
    ///     println!("{:?}, {} attempts", info.begun_at(), info.attempts());
    /// }
    /// # assert_eq!(store.keys().status(Status::Interrupted).count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "iter")]
    pub fn keys(&self) -> Keys {
        Keys {
            store: self.clone(),
            status: None,
            age_min: Duration::ZERO,
            part: VecDeque::new(),
            position: Position::Start,
        }
    }
}

/// An iterator over the keys of a store, returned by [`Store::keys`].
///
/// It ends after an error.
#[must_use = "nothing is read before `next`"]
pub struct Keys {
    store: Store,
    status: Option<Status>,
    age_min: Duration,
    /// Keys that were read and not yet returned.
    part: VecDeque<Listed>,
    position: Position,
}

enum Position {
    Start,
    After(RecordId),
    End,
}

impl Keys {
    /// Lists only keys with this status. Records that can't have it are skipped without being read.
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Lists only keys that were begun at least this long ago.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.age_min = age;
        self
    }

    fn advance(&mut self) -> Result<Option<KeyInfo>, Error> {
        loop {
            let Some(listed) = self.part.pop_front() else {
                if self.read_part()? {
                    continue;
                }
                return Ok(None);
            };
            if self.may_list(&listed)
                && let Some(info) = self.store.get(&listed.key)?
                // A key that was begun again since is listed at the place of its new record.
                && info.seen.record.as_deref().map(RecordId::of) == Some(listed.id)
                && self.status.is_none_or(|status| status == info.seen.status)
            {
                return Ok(Some(info));
            }
        }
    }

    /// Reads the next part. Returns `false` if there is none.
    fn read_part(&mut self) -> Result<bool, Error> {
        let journal = &self.store.engine.journal;
        let after = match self.position {
            Position::Start => {
                // Records that are only in the log must be listed too.
                journal.settle()?;
                None
            }
            Position::After(id) => Some(id),
            Position::End => return Ok(false),
        };
        self.part = journal.list(after, LIST_RECORDS_MAX)?.into();
        let last = self.part.back().map(|listed| listed.id);
        self.position = last.map_or(Position::End, Position::After);
        Ok(last.is_some())
    }

    fn may_list(&self, listed: &Listed) -> bool {
        let now = self.store.engine.time.now();
        let is_old = self.age_min <= now.saturating_since(listed.begun_at);
        // A completed operation can't become anything else.
        let can_be = match self.status {
            Some(Status::Executing | Status::Interrupted) => listed.started,
            Some(Status::Reserved | Status::Completed | Status::NotKept) | None => true,
        };
        is_old && can_be
    }
}

impl Iterator for Keys {
    type Item = Result<KeyInfo, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if let Some(Err(_)) = next {
            self.part.clear();
            self.position = Position::End;
        }
        next
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
