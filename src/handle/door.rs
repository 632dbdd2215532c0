//! The two doors to every call that waits. A call is written once, as a future. One door blocks the
//! calling thread; the other is the future itself.
//!
//! Both share the batches, but differ in how a change gets there: a blocked thread can lead a
//! batch, which saves handing it over to another thread.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::Step;
use crate::error::Error;
use crate::local::Engine;
use crate::local::journal::Submission;
use crate::local::log::commit::{Place, arrival, wait};
use crate::sync::Arc;

/// How a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door {
    /// On the calling thread; such a call is never pending.
    Blocking,
    /// As a future. Dropping it undoes nothing: its change is written, and then the key is left as
    /// if the handle had been dropped at that moment. Only a first start is undone, because no
    /// caller knows that the operation runs.
    Future,
}

/// Runs a call through [`Door::Blocking`].
pub(crate) fn block<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("a call that blocks waits on its thread"),
    }
}

impl Door {
    /// Waits for a place for a long result or checkpoint.
    pub(crate) async fn place(
        self,
        place: Result<Option<Place>, Error>,
    ) -> Result<Option<Place>, Error> {
        match self {
            Self::Blocking => wait(place),
            Self::Future => arrival(place).await,
        }
    }

    /// Makes a step durable.
    pub(crate) async fn append<S: Step>(self, mut step: S) -> Result<S::Done, S::Refusal> {
        let change = step.change();
        let appended = match self {
            Self::Blocking => step.hold_mut().append(change),
            Self::Future => {
                let leaves = step.leaves();
                step.hold_mut().send(change, leaves).await
            }
        };
        step.conclude(appended)
    }

    /// Makes all steps durable with a single wait, and concludes each step with its own outcome.
    /// Refused steps are returned as they are.
    pub(crate) async fn append_each<S: Step>(
        self,
        engine: &Arc<Engine>,
        steps: Vec<Result<S, S::Refusal>>,
    ) -> Vec<Result<S::Done, S::Refusal>> {
        let changes = steps.iter().flatten().map(Step::change).collect();
        match self {
            Self::Blocking => {
                let mut outcomes = engine.journal.append_many(changes).into_iter();
                let mut conclude =
                    |step: S| step.conclude(outcomes.next().expect("each change has its outcome"));
                steps.into_iter().map(|step| conclude(step?)).collect()
            }
            Self::Future => arrive(engine, steps, changes).await,
        }
    }
}

async fn arrive<S: Step>(
    engine: &Arc<Engine>,
    mut steps: Vec<Result<S, S::Refusal>>,
    changes: Vec<Submission>,
) -> Vec<Result<S::Done, S::Refusal>> {
    let pending = engine.journal.submit_many(changes);
    for (step, pending) in steps.iter_mut().flatten().zip(pending) {
        let leaves = step.leaves();
        step.hold_mut().has_sent(pending, leaves);
    }
    let mut concluded = Vec::with_capacity(steps.len());
    for step in steps {
        concluded.push(match step {
            Ok(mut step) => {
                let appended = step.hold_mut().arrival().await;
                step.conclude(appended)
            }
            Err(refusal) => Err(refusal),
        });
    }
    concluded
}
