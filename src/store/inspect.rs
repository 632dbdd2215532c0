//! Looking at keys without taking them in hand: `get` and `keys`.

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

/// What the store knows of a key that is not free, at the moment it was asked.
#[derive(Clone)]
pub struct KeyInfo {
    key: Key,
    seen: Seen,
}

impl KeyInfo {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.seen.status
    }

    /// When its operation was begun for the first time, or when its caller began if nothing of it
    /// is stored.
    #[must_use]
    pub fn begun_at(&self) -> Timestamp {
        self.seen.record.as_ref().map_or(self.seen.since, |record| record.begun_at)
    }

    /// When its retention is over; `None` while nothing of it is stored.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.seen.record.as_ref().map(|record| record.expires_at)
    }

    /// How many executions of it have been started since the key was last free.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.seen.record.as_ref().map_or(0, |record| record.attempt)
    }

    /// The last checkpoint of an operation that is not completed, if it has stored one.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<&[u8]> {
        self.seen.record.as_ref()?.state.checkpoint()
    }

    /// The completed operation and its result, if it is [`Status::Completed`].
    #[must_use]
    pub fn completed(&self) -> Option<Completed> {
        let Done { record, completed_at, kept } = self.done(Status::Completed)?;
        match kept {
            Kept::Whole(result) => Some(Completed::new(record, completed_at, result)),
            Kept::Digest(_) => None,
        }
    }

    /// The completed operation whose result was too long, if it is [`Status::NotKept`].
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
    /// Looks at a key: `None` if it is free. It is left as it is, and nothing is reserved, so the
    /// answer may be out of date as soon as it is given.
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
    /// `Closed`, `Storage` and `Corrupt` of [`Error`].
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

    /// Lists all keys of which something is stored, in the order in which they expire.
    ///
    /// The list is read in small parts, so that it holds up nothing however long it takes, and it
    /// shows each key as it is when it comes up. A key that is begun meanwhile may be listed or
    /// not. It begins by settling the log, and its first item is the error if that fails.
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

/// The keys of a store, as [`Store::keys`] lists them.
///
/// After an error it ends.
#[must_use = "nothing is read before `next`"]
pub struct Keys {
    store: Store,
    status: Option<Status>,
    age_min: Duration,
    /// What was read and not yet given out.
    part: VecDeque<Listed>,
    position: Position,
}

enum Position {
    Start,
    After(RecordId),
    End,
}

impl Keys {
    /// Lists only keys that are this. Records that cannot be are passed over unread.
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
                // A key that was begun anew since is listed where its new record is.
                && info.seen.record.as_deref().map(RecordId::of) == Some(listed.id)
                && self.status.is_none_or(|status| status == info.seen.status)
            {
                return Ok(Some(info));
            }
        }
    }

    /// Reads the next part; `false` if there is none.
    fn read_part(&mut self) -> Result<bool, Error> {
        let journal = &self.store.engine.journal;
        let after = match self.position {
            Position::Start => {
                // What is in the log only is listed too.
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
        // What was completed can be nothing else any more.
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
