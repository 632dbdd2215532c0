//! Many operations with one wait, for consumers of queues.

use crate::begin::Begin;
use crate::error::{CompleteError, Error};
use crate::handle::{self, Completed, Completion, Execution, Handle, Permit, Start};
use crate::key::{Fingerprint, Key};
use crate::record::Kept;
use crate::store::Store;

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

    /// Starts many operations, as [`Permit::start`] does one, with one wait for all of them:
    /// one fsync for up to 1,024 of them, or 1 MiB.
    ///
    /// Each has its own answer, in its place.
    pub fn start_many(
        &self,
        permits: impl IntoIterator<Item = Permit>,
    ) -> Vec<Result<Execution, Error>> {
        let starts = permits.into_iter().map(Start::new).collect();
        self.append_each(starts, Start::change, Start::conclude)
    }

    /// Completes many operations, as [`Execution::complete`] does one, with one wait for all of
    /// them: one fsync for up to 1,024 of them, or 1 MiB.
    ///
    /// Each has its own answer, in its place, so a result that is refused gives its own handle
    /// back and does nothing to the others.
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
    pub fn complete_many<H: Handle, R: AsRef<[u8]>>(
        &self,
        results: impl IntoIterator<Item = (H, R)>,
    ) -> Vec<Result<Completed, CompleteError<H>>> {
        let completions = results
            .into_iter()
            .map(|(handle, result)| match handle::whole(&self.shared, result.as_ref()) {
                Ok(result) => {
                    Completion::new(handle, Kept::Whole(result)).map_err(CompleteError::refused)
                }
                Err(too_large) => Err(too_large.give_back(handle)),
            })
            .collect();
        self.append_each(completions, Completion::change, |completion, appended| {
            let record = completion.conclude(appended).map_err(CompleteError::refused)?;
            Ok(Completed::new(record))
        })
    }

    /// Appends the change of each item that there is, all with one wait, and concludes each with
    /// its own outcome.
    fn append_each<I, T, E>(
        &self,
        mut items: Vec<Result<I, E>>,
        change: impl Fn(&mut I) -> crate::record::Change,
        conclude: impl Fn(I, Result<(), Error>) -> Result<T, E>,
    ) -> Vec<Result<T, E>> {
        let changes = items.iter_mut().flatten().map(change).collect();
        let mut outcomes = self.shared.journal.append_many(changes).into_iter();
        items
            .into_iter()
            .map(|item| conclude(item?, outcomes.next().unwrap_or(Err(Error::Closed))))
            .collect()
    }
}
