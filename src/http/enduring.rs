//! A future that outlives the task that waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs in the task that waits for it. If that task goes away, the future continues in a separate
/// task. Running it there from the start would cost each request a new task and two switches
/// between tasks.
pub(super) struct Enduring<T: 'static> {
    /// `None` once it has ended.
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    runtime: Handle,
}

impl<T: 'static> Enduring<T> {
    pub(super) fn new(runtime: Handle, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Some(Box::pin(future)), runtime }
    }
}

impl<T: 'static> Future for Enduring<T> {
    /// The output of the future, or its panic.
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        self.future = None;
        Poll::Ready(ended)
    }
}

impl<T: 'static> Drop for Enduring<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.runtime.spawn(async { drop(future.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("it starts")
    }

    /// Sends a message once it's let through.
    async fn pass(gate: Arc<Semaphore>, passed: oneshot::Sender<()>) {
        gate.acquire().await.expect("it stays open").forget();
        passed.send(()).expect("somebody waits");
    }

    /// A future that was polled once, the gate that lets it through, and its message.
    fn begun(runtime: &Runtime) -> (Enduring<()>, Arc<Semaphore>, oneshot::Receiver<()>) {
        let (gate, (send, passed)) = (Arc::new(Semaphore::new(0)), oneshot::channel());
        let mut enduring = Enduring::new(runtime.handle().clone(), pass(Arc::clone(&gate), send));
        let polled = Pin::new(&mut enduring).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        (enduring, gate, passed)
    }

    #[test]
    fn it_goes_on_when_nobody_waits_for_it_any_more() {
        let runtime = runtime();
        let (enduring, gate, passed) = begun(&runtime);
        drop(enduring);
        gate.add_permits(1);
        assert_eq!(runtime.block_on(passed), Ok(()));
    }

    #[test]
    fn with_its_runtime_it_ends_where_it_is() {
        for runtime_first in [true, false] {
            let runtime = runtime();
            let (enduring, gate, mut passed) = begun(&runtime);
            if runtime_first {
                drop(runtime);
                drop(enduring);
            } else {
                drop(enduring);
                drop(runtime);
            }
            assert!(passed.try_recv().is_err());
            assert_eq!(Arc::strong_count(&gate), 1, "it is gone, and all that it held");
        }
    }

    #[test]
    fn one_that_has_ended_is_not_run_again() {
        let runtime = runtime();
        let ended = runtime.block_on(Enduring::new(runtime.handle().clone(), async { 7 }));
        assert_eq!(ended.expect("it does not panic"), 7);
        let panics = async { panic!("it always does") };
        let ended: Result<(), _> =
            runtime.block_on(Enduring::new(runtime.handle().clone(), panics));
        assert!(ended.is_err());
    }
}
