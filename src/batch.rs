//! Many operations with one wait, for consumers of queues.

use crate::begin::Begin;
use crate::error::{CompleteError, Error};
use crate::handle::sealed::Sealed;
use crate::handle::{Completable, Completed, Completion, Execution, Start, Startable, Step};
use crate::key::{Fingerprint, Key};
use crate::store::Store;
use crate::sync::Arc;

impl Store {
    /// Asks about many requests, as [`Store::begin`] does about one, and answers each of them in
    /// its place.
    ///
    /// A request that comes twice among them is answered twice: the first has the key, and the
    /// second finds it in flight.
    pub fn begin_many<'k>(
        &self,
        requests: impl IntoIterator<Item = (&'k Key, Fingerprint)>,
    ) -> Vec<Result<Begin, Error>> {
        requests.into_iter().map(|(key, fingerprint)| self.begin(key, fingerprint)).collect()
    }

    /// Starts many operations, as [`Permit::start`](crate::Permit::start) and
    /// [`Interrupted::retry`](crate::Interrupted::retry) do one, with one wait for up to 1,024 of
    /// them, or 1 MiB.
    ///
    /// Each has its own answer, in its place. A handle of another store is refused, and its key
    /// let go.
    pub fn start_many<H: Startable>(
        &self,
        handles: impl IntoIterator<Item = H>,
    ) -> Vec<Result<Execution, Error>> {
        self.append_each(self.starts(handles))
    }

    /// Completes many operations, as [`Execution::complete`] does one, with one wait for up to
    /// 1,024 of them, or 1 MiB.
    ///
    /// Each has its own answer, in its place, so a result that is refused gives its own handle
    /// back and does nothing to the others. So does a handle of another store.
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
    ///     // The third message is the first one again: it is in flight.
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
        let completed = self.append_each(self.completions(results));
        completed.into_iter().map(|record| record.map(Completed::new)).collect()
    }

    /// A start of each handle.
    pub(crate) fn starts<H: Startable>(
        &self,
        handles: impl IntoIterator<Item = H>,
    ) -> Vec<Result<Start<H>, Error>> {
        let start = |handle| {
            if self.gave(&handle) { Start::new(handle) } else { Err(Error::OtherStore) }
        };
        handles.into_iter().map(start).collect()
    }

    /// A completion of each handle.
    pub(crate) fn completions<H: Completable, R: AsRef<[u8]>>(
        &self,
        results: impl IntoIterator<Item = (H, R)>,
    ) -> Vec<Result<Completion<H>, CompleteError<H>>> {
        let completion = |(handle, result): (H, R)| {
            if self.gave(&handle) {
                Completion::of_result(handle, result.as_ref())
            } else {
                Err(CompleteError::OtherStore { handle })
            }
        };
        results.into_iter().map(completion).collect()
    }

    /// Whether a handle is of this store. The record of another's would take the place of one here.
    fn gave(&self, handle: &impl Sealed) -> bool {
        Arc::ptr_eq(handle.hold().shared(), &self.shared)
    }

    /// Appends each step that there is, all with one wait, and concludes each with its own outcome.
    fn append_each<S: Step>(
        &self,
        steps: Vec<Result<S, S::Refusal>>,
    ) -> Vec<Result<S::Done, S::Refusal>> {
        let changes = steps.iter().flatten().map(Step::change).collect();
        let mut outcomes = self.shared.journal.append_many(changes).into_iter();
        steps
            .into_iter()
            .map(|step| step?.conclude(outcomes.next().unwrap_or(Err(Error::Closed))))
            .collect()
    }
}
