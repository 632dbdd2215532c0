//! Every waiting call can be made as a blocking one or as a future.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

/// Waits for a future on this thread, without a runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on_until(None, future).expect("there is no end to its patience")
}

/// Waits for a future on this thread until the deadline, and then drops it.
pub fn block_on_until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending => match deadline.map(|deadline| deadline - Instant::now()) {
                None => thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => thread::park_timeout(left),
            },
        }
    }
}

/// `wait!(as_future, handle.start, start_async())`: makes the call the one way or the other.
macro_rules! wait {
    ($as_future:expr, $handle:ident.$call:ident, $future:ident($($argument:expr),*)) => {
        if $as_future {
            $crate::support::waiting::block_on($handle.$future($($argument),*))
        } else {
            $handle.$call($($argument),*)
        }
    };
}
