//! Many operations with a single wait, for consumers of queues.

use std::iter::Peekable;

use super::Store;
use crate::error::{CompleteError, Error};
use crate::handle::sealed::Sealed;
use crate::handle::{
    Begin, Completable, Completed, Completion, Door, Execution, Start, Startable, block,
};
use crate::key::{Fingerprint, Key};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};
use crate::local::log::commit::Place;
use crate::sync::Arc;

impl Store {
    /// Asks about many requests, as [`Store::begin`] does about one. The answers are in the order
    /// of the requests.
    ///
    /// A request that occurs twice is answered twice: the first occurrence gets the key, and the
    /// second finds it in flight.
    pub fn begin_many<'k>(
        &self,
        requests: impl IntoIterator<Item = (&'k Key, Fingerprint)>,
    ) -> Vec<Result<Begin, Error>> {
        requests.into_iter().map(|(key, fingerprint)| self.begin(key, fingerprint)).collect()
    }

    /// Starts many operations, as [`Permit::start`](crate::Permit::start) and
    /// [`Interrupted::retry`](crate::Interrupted::retry) start one, with a single wait for up to
    /// 1,024 of them, or 1 MiB.
    ///
    /// The answers are in the order of the handles. A handle of another store is refused, and its
    /// key released.
    pub fn start_many<H: Startable>(
        &self,
        handles: impl IntoIterator<Item = H>,
    ) -> Vec<Result<Execution, Error>> {
        block(self.start_each(Door::Blocking, handles.into_iter()))
    }

    /// [`Store::start_many`] as a future. If it's dropped before it's ready, each operation is left
    /// as described for [`Permit::start_async`](crate::Permit::start_async) and
    /// [`Interrupted::retry_async`](crate::Interrupted::retry_async).
    pub async fn start_many_async<H: Startable>(
        &self,
        handles: impl IntoIterator<Item = H>,
    ) -> Vec<Result<Execution, Error>> {
        let handles: Vec<_> = handles.into_iter().collect();
        self.start_each(Door::Future, handles.into_iter()).await
    }

    async fn start_each<H: Startable>(
        &self,
        door: Door,
        handles: impl Iterator<Item = H>,
    ) -> Vec<Result<Execution, Error>> {
        let mut handles = handles.peekable();
        let mut started = Vec::new();
        while handles.peek().is_some() {
            let group = next_group(&mut handles, |_| Some(0));
            started.extend(door.append_each(&self.engine, self.starts(group)).await);
        }
        started
    }

    /// Completes many operations, as [`Execution::complete`] completes one, with a single wait for
    /// up to 1,024 of them, or 1 MiB.
    ///
    /// The answers are in the order of the results. A refused result returns its own handle and
    /// does not affect the others. The same is true of a handle of another store.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// let messages = ["one", "two", "one"];
    /// let keys = messages.iter().map(Key::new).collect::<Result<Vec<_>, _>>()?;
    ///
    /// let requests = keys.iter().map(|key| (key, Fingerprint::NONE));
    /// let mut permits = Vec::new();
    /// for begin in store.begin_many(requests) {
    ///     // The third message repeats the first, which is in flight.
    ///     if let Begin::Fresh(permit) = begin? {
    ///         permits.push(permit);
    ///     }
    /// }
    /// let executions = store.start_many(permits).into_iter().collect::<Result<Vec<_>, _>>()?;
    /// // Here the effects happen.
    /// let results = executions.into_iter().map(|execution| (execution, "done"));
    /// for completed in store.complete_many(results) {
    ///     completed?;
    /// }
    /// # assert_eq!(store.stats().records, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn complete_many<H: Completable, R: AsRef<[u8]>>(
        &self,
        results: impl IntoIterator<Item = (H, R)>,
    ) -> Vec<Result<Completed, CompleteError<H>>> {
        block(self.complete_each(Door::Blocking, results.into_iter()))
    }

    /// [`Store::complete_many`] as a future. If it's dropped before it's ready, any number of the
    /// results may be stored; the other keys are left as if their handles had been dropped.
    pub async fn complete_many_async<H: Completable, R: AsRef<[u8]>>(
        &self,
        results: impl IntoIterator<Item = (H, R)>,
    ) -> Vec<Result<Completed, CompleteError<H>>> {
        let results: Vec<_> = results.into_iter().collect();
        self.complete_each(Door::Future, results.into_iter()).await
    }

    async fn complete_each<H: Completable, R: AsRef<[u8]>>(
        &self,
        door: Door,
        results: impl Iterator<Item = (H, R)>,
    ) -> Vec<Result<Completed, CompleteError<H>>> {
        let mut results = results.peekable();
        let mut completed = Vec::new();
        while results.peek().is_some() {
            let group = next_group(&mut results, |result| self.len_of(result));
            let placed = door.place(self.place(&group)).await;
            let completions = self.completions(group, placed);
            completed.extend(door.append_each(&self.engine, completions).await);
        }
        completed
    }

    /// Builds the start of each handle.
    fn starts<H: Startable>(
        &self,
        handles: impl IntoIterator<Item = H>,
    ) -> Vec<Result<Start<H>, Error>> {
        let start = |handle| {
            if self.gave(&handle) { Start::new(handle) } else { Err(Error::OtherStore) }
        };
        handles.into_iter().map(start).collect()
    }

    /// Returns one place for the results of a group, which the caller must wait for.
    fn place<H: Completable, R: AsRef<[u8]>>(
        &self,
        group: &[(H, R)],
    ) -> Result<Option<Place>, Error> {
        let bytes = group.iter().filter_map(|result| self.len_of(result)).sum();
        if H::STARTED { self.engine.journal.place(bytes) } else { Ok(None) }
    }

    /// Returns the bytes of a result that is to be stored, or `None` if the result is refused
    /// before it's copied.
    fn len_of<H: Completable, R: AsRef<[u8]>>(&self, (handle, result): &(H, R)) -> Option<usize> {
        let len = result.as_ref().len();
        (self.gave(handle) && len <= self.engine.options.result_len_max).then_some(len)
    }

    /// Builds the completion of each handle, once there is a place for the results.
    fn completions<H: Completable, R: AsRef<[u8]>>(
        &self,
        group: Vec<(H, R)>,
        placed: Result<Option<Place>, Error>,
    ) -> Vec<Result<Completion<H>, CompleteError<H>>> {
        let placed = placed.map(|place| place.map(Arc::new));
        let completion = |(handle, result): (H, R)| {
            if self.gave(&handle) {
                Completion::of_result(handle, result.as_ref(), placed.clone())
            } else {
                Err(CompleteError::OtherStore { handle })
            }
        };
        group.into_iter().map(completion).collect()
    }

    /// Returns whether this store gave out the handle. The record of another store's handle would
    /// replace one of this store.
    fn gave(&self, handle: &impl Sealed) -> bool {
        Arc::ptr_eq(handle.hold().engine(), &self.engine)
    }
}

/// The bytes that most completions take in the log besides their result.
const BESIDE_RESULT: usize = 128;

/// Takes as many items as one batch has room for, by their bytes. The others stay in the iterator,
/// so only a bounded number is copied at a time.
fn next_group<T>(
    items: &mut Peekable<impl Iterator<Item = T>>,
    len: impl Fn(&T) -> Option<usize>,
) -> Vec<T> {
    let (mut group, mut taken, mut bytes) = (Vec::new(), 0, 0);
    let mut has_room = |next: &T| {
        let Some(len) = len(next) else { return true };
        (taken, bytes) = (taken + 1, bytes + len + BESIDE_RESULT);
        taken == 1 || taken <= BATCH_ITEMS_MAX && bytes <= BATCH_BYTES_MAX
    };
    while let Some(item) = items.next_if(&mut has_room) {
        group.push(item);
    }
    group
}
