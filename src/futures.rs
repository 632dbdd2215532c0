//! The calls that wait, as futures.
//!
//! A future hands its change in and is woken when the batch is durable: the same batches as those
//! of calls that block, with one fsync for all. Dropping it takes nothing back. Its change is
//! written, and then the key is left as if the handle had been dropped at that moment; only a
//! first start is undone, since nobody was told that the operation runs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::batch::next_group;
use crate::begin::Begin;
use crate::error::{CompleteError, Error, FinishError, RunError};
use crate::handle::{
    self, Completable, Completed, Completing, Completion, Execution, Hold, InFlight, Interrupted,
    Leaves, Permit, Start, Startable, Step, Tombstone, fitting,
};
use crate::index::{Outcome as Told, Waiters};
use crate::journal::Journal;
use crate::key::{Fingerprint, Key};
use crate::log::commit::arrival;
use crate::record::Record;
use crate::run::{Effect, Outcome};
use crate::store::{Hand, Store};
use crate::sync::Arc;
use crate::transition;
use crate::wakers::Place;

/// Makes a step durable.
async fn append<S: Step>(mut step: S) -> Result<S::Done, S::Refusal> {
    let (change, leaves) = (step.change(), step.leaves());
    let appended = step.hold_mut().append(change, leaves).await;
    step.conclude(appended)
}

/// Makes each step of a group durable, with one wait.
async fn append_each<S: Step>(
    journal: &Arc<Journal>,
    mut steps: Vec<Result<S, S::Refusal>>,
) -> Vec<Result<S::Done, S::Refusal>> {
    let pending = journal.submit_many(steps.iter().flatten().map(Step::change).collect());
    for (step, pending) in steps.iter_mut().flatten().zip(pending) {
        let leaves = step.leaves();
        step.hold_mut().has_sent(pending, leaves);
    }
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        outcomes.push(match step {
            Ok(mut step) => {
                let appended = step.hold_mut().arrival().await;
                step.conclude(appended)
            }
            Err(refused) => Err(refused),
        });
    }
    outcomes
}

pub(crate) async fn complete<H: Completable>(
    handle: H,
    result: impl AsRef<[u8]>,
) -> Result<Completed, CompleteError<H>> {
    let len = result.as_ref().len();
    let handle = fitting(handle, len)?;
    let place = handle::place(&handle, len);
    let completing = Completing::new(handle, result);
    let placed = arrival(place).await;
    append(completing.placed(placed)?).await.map(Completed::new)
}

pub(crate) async fn complete_tombstone<H: Completable>(
    handle: H,
    result: impl AsRef<[u8]>,
) -> Result<Tombstone, CompleteError<H>> {
    append(Completion::of_tombstone(handle, result.as_ref())?).await.map(Tombstone::new)
}

/// Makes it durable that nothing is stored of the key any more.
async fn remove(mut hold: Hold, record: Arc<Record>) -> Result<(), Error> {
    let appended = hold.append(hold.removal(record), Leaves::Rest).await;
    hold.removed(appended)
}

impl Permit {
    /// [`Permit::start`] as a future.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// // `begin` waits for nobody.
    /// let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// let execution = permit.start_async().await?;
    /// // Here the effect happens.
    /// execution.complete_async("receipt 17").await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the future is dropped before it is ready, the operation has not run: the key is free
    /// again, as soon as that is durable. If the process ends before that, the key is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Permit::start`].
    pub async fn start_async(self) -> Result<Execution, Error> {
        append(Start::new(self)?).await
    }

    /// [`Permit::complete`] as a future. If it is dropped before it is ready, the result is stored
    /// all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Permit::complete`].
    pub async fn complete_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, CompleteError<Self>> {
        complete(self, result).await
    }

    /// [`Permit::complete_tombstone`] as a future. If it is dropped before it is ready, the
    /// operation is completed all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Permit::complete_tombstone`].
    pub async fn complete_tombstone_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Tombstone, CompleteError<Self>> {
        complete_tombstone(self, result).await
    }

    /// [`Permit::run`] with an operation that is a future.
    ///
    /// # Errors
    ///
    /// As [`Permit::run`].
    pub async fn run_async<R: AsRef<[u8]>, E>(
        self,
        operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run(self.start_async().await, operation).await
    }
}

impl Execution {
    /// [`Execution::checkpoint`] as a future. If it is dropped before it is ready, the last
    /// checkpoint or this one counts.
    ///
    /// # Errors
    ///
    /// As [`Execution::checkpoint`].
    pub async fn checkpoint_async(
        &mut self,
        progress: impl AsRef<[u8]>,
    ) -> Result<(), CompleteError<()>> {
        let progress = progress.as_ref();
        let placed = arrival(Ok(self.place(progress)?)).await;
        let (record, change) = self.with_checkpoint(progress, placed)?;
        let appended = self.hold.append(change, Leaves::Execution).await;
        self.checkpointed(record, appended)
    }

    /// [`Execution::complete`] as a future. If it is dropped before it is ready, the result is
    /// stored all the same, unless it was never polled: then the operation is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Execution::complete`].
    pub async fn complete_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, CompleteError<Self>> {
        complete(self, result).await
    }

    /// [`Execution::complete_tombstone`] as a future. If it is dropped before it is ready, the
    /// operation is completed all the same, unless it was never polled: then it is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Execution::complete_tombstone`].
    pub async fn complete_tombstone_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Tombstone, CompleteError<Self>> {
        complete_tombstone(self, result).await
    }

    /// [`Execution::abandon`] as a future. If it is dropped before it is ready, the key is freed
    /// all the same, unless it was never polled: then the operation is interrupted.
    ///
    /// # Errors
    ///
    /// As [`Execution::abandon`].
    pub async fn abandon_async(self) -> Result<(), Error> {
        remove(self.hold, self.record).await
    }
}

impl Interrupted {
    /// [`Interrupted::retry`] as a future. If it is dropped before it is ready, the operation is
    /// interrupted again, and the new attempt counts.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::retry`].
    pub async fn retry_async(self) -> Result<Execution, Error> {
        append(Start::new(self)?).await
    }

    /// [`Interrupted::resolve`] as a future. If it is dropped before it is ready, the result is
    /// stored all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::resolve`].
    pub async fn resolve_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, CompleteError<Self>> {
        complete(self, result).await
    }

    /// [`Interrupted::resolve_tombstone`] as a future. If it is dropped before it is ready, the
    /// operation is completed all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::resolve_tombstone`].
    pub async fn resolve_tombstone_async(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Tombstone, CompleteError<Self>> {
        complete_tombstone(self, result).await
    }

    /// [`Interrupted::abandon`] as a future. If it is dropped before it is ready, the key is freed
    /// all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::abandon`].
    pub async fn abandon_async(self) -> Result<(), Error> {
        remove(self.hold, self.record).await
    }

    /// [`Interrupted::run`] with an operation that is a future.
    ///
    /// # Errors
    ///
    /// As [`Interrupted::run`].
    pub async fn run_async<R: AsRef<[u8]>, E>(
        self,
        operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        run(self.retry_async().await, operation).await
    }
}

impl Store {
    /// [`Store::complete`] as a future. If it is dropped before it is ready, the result is stored
    /// all the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Store::complete`].
    pub async fn complete_async(
        &self,
        key: &Key,
        result: impl AsRef<[u8]>,
    ) -> Result<Completed, FinishError> {
        let completed = match self.take(key, transition::take_execution)? {
            Hand::Execution(hold, record) => complete(Execution::new(hold, record), result)
                .await
                .map_err(|error| error.map_handle(Execution::detach)),
            Hand::AtRest(hold, record) => complete(Interrupted::new(hold, record), result)
                .await
                .map_err(|error| error.map_handle(drop)),
            Hand::Held => return Err(FinishError::Held),
            Hand::Nothing => return Err(FinishError::NotExecuting),
        };
        completed.map_err(FinishError::Complete)
    }

    /// [`Store::abandon`] as a future. If it is dropped before it is ready, the key is freed all
    /// the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Store::abandon`].
    pub async fn abandon_async(&self, key: &Key) -> Result<(), FinishError> {
        match self.take(key, transition::take_execution)? {
            Hand::Execution(hold, record) | Hand::AtRest(hold, record) => {
                Ok(remove(hold, record).await?)
            }
            Hand::Held => Err(FinishError::Held),
            Hand::Nothing => Err(FinishError::NotExecuting),
        }
    }

    /// [`Store::forget`] as a future. If it is dropped before it is ready, the key is freed all
    /// the same, unless it was never polled.
    ///
    /// # Errors
    ///
    /// As [`Store::forget`].
    pub async fn forget_async(&self, key: &Key) -> Result<bool, Error> {
        match self.take(key, transition::take_completed)? {
            Hand::Execution(hold, record) | Hand::AtRest(hold, record) => {
                remove(hold, record).await.map(|()| true)
            }
            Hand::Held | Hand::Nothing => Ok(false),
        }
    }

    /// [`Store::start_many`] as a future. If it is dropped before it is ready, each of the
    /// operations is left as [`Permit::start_async`] and [`Interrupted::retry_async`] say.
    pub async fn start_many_async<H: Startable>(
        &self,
        handles: impl IntoIterator<Item = H>,
    ) -> Vec<Result<Execution, Error>> {
        let handles: Vec<_> = handles.into_iter().collect();
        let mut handles = handles.into_iter().peekable();
        let mut started = Vec::new();
        while handles.peek().is_some() {
            let group = next_group(&mut handles, |_| Some(0));
            started.extend(append_each(&self.shared.journal, self.starts(group)).await);
        }
        started
    }

    /// [`Store::complete_many`] as a future. If it is dropped before it is ready, any number of the
    /// results is stored; the others leave their keys as dropped handles do.
    pub async fn complete_many_async<H: Completable, R: AsRef<[u8]>>(
        &self,
        results: impl IntoIterator<Item = (H, R)>,
    ) -> Vec<Result<Completed, CompleteError<H>>> {
        let results: Vec<_> = results.into_iter().collect();
        let mut results = results.into_iter().peekable();
        let mut completed = Vec::new();
        while results.peek().is_some() {
            let group = next_group(&mut results, |result| self.len_of(result));
            let placed = arrival(self.place(&group)).await;
            let completions = self.completions(group, placed);
            completed.extend(append_each(&self.shared.journal, completions).await);
        }
        completed.into_iter().map(|record| record.map(Completed::new)).collect()
    }

    /// [`Store::run`] with an operation that is a future. If it is dropped while the operation
    /// runs, that is interrupted.
    ///
    /// ```
    /// use idemstore::{Effect, Outcome};
    /// # use idemstore::{Fingerprint, Key, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # async fn charge(_: u32) -> Result<String, &'static str> { Ok("receipt 17".to_owned()) }
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let outcome = store.run_async(&key, request, async |execution| {
    ///     match charge(execution.attempt()).await {
    ///         Ok(receipt) => Effect::Done(receipt),
    ///         Err(no_answer) => Effect::Unknown(no_answer),
    ///     }
    /// });
    /// assert!(matches!(outcome.await, Ok(Outcome::Done(_))));
    /// # });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Store::run`].
    pub async fn run_async<R: AsRef<[u8]>, E>(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
    ) -> Result<Outcome<E>, RunError<R, E>> {
        match Outcome::without_run(self.begin(key, fingerprint).map_err(RunError::NotRun)?) {
            Ok(permit) => permit.run_async(operation).await,
            Err(outcome) => Ok(outcome),
        }
    }
}

async fn run<R: AsRef<[u8]>, E>(
    started: Result<Execution, Error>,
    operation: impl AsyncFnOnce(&mut Execution) -> Effect<R, E>,
) -> Result<Outcome<E>, RunError<R, E>> {
    let mut execution = started.map_err(RunError::NotRun)?;
    Ok(match operation(&mut execution).await {
        Effect::Done(result) => match execution.complete_async(&result).await {
            Ok(completed) => Outcome::Done(completed),
            Err(source) => return Err(RunError::NotStored { result, source }),
        },
        Effect::DidNotHappen(reason) => match execution.abandon_async().await {
            Ok(()) => Outcome::DidNotHappen(reason),
            Err(source) => return Err(RunError::NotFreed { reason, source }),
        },
        // Dropping the execution leaves the key interrupted.
        Effect::Unknown(error) => Outcome::Unknown(error),
    })
}

impl InFlight {
    /// [`InFlight::wait`] as a future, which is woken by the outcome. It knows no time: put the
    /// time-out of your runtime around it. Dropping it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`InFlight::wait`].
    pub async fn wait_async(mut self) -> Result<Begin, Error> {
        self.store().shared.journal.employ_steward()?;
        loop {
            if let Some(waiters) = self.join()
                && let Told::Completed(record) = Waiting::new(&self, waiters).await
            {
                return self.answer(record);
            }
            match self.ask()? {
                // Somebody else was faster: wait for them.
                Begin::InFlight(newer) => self = newer,
                begin => return Ok(begin),
            }
        }
    }
}

/// Waits for the outcome of a key, among others.
struct Waiting<'f> {
    in_flight: &'f InFlight,
    /// `None` once it has left.
    waiters: Option<Arc<Waiters>>,
    /// Where they keep this one's waker.
    place: Option<Place>,
}

impl<'f> Waiting<'f> {
    fn new(in_flight: &'f InFlight, waiters: Arc<Waiters>) -> Self {
        Self { in_flight, waiters: Some(waiters), place: None }
    }
}

impl Future for Waiting<'_> {
    type Output = Told;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Told> {
        let Self { waiters, place, .. } = self.get_mut();
        match waiters {
            Some(waiters) => {
                waiters.poll(context.waker().clone(), place).map_or(Poll::Pending, Poll::Ready)
            }
            None => Poll::Ready(Told::Gone),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(waiters) = self.waiters.take() else { return };
        // In a forked child a lock may be held by a thread that the child does not have.
        let is_here = self.in_flight.store().shared.journal.check_process().is_ok();
        let left = self.place.filter(|_| is_here).and_then(|place| waiters.leave(place));
        self.in_flight.leave(waiters);
        drop(left);
    }
}
