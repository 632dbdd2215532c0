//! A mutex that is acquired in the order in which it was requested. An ordinary mutex may go again
//! and again to a thread that releases it and requests it again at once, before the sleeping
//! threads have woken up.

use std::ops::{Deref, DerefMut};

use super::{Condvar, Mutex, MutexGuard};

pub(crate) struct FairMutex<T> {
    line: Mutex<Line>,
    moved: Condvar,
    value: Mutex<T>,
}

/// Each thread that requests the lock takes the next number.
#[derive(Default)]
struct Line {
    next: u64,
    /// The number that has the lock, or that will get it next.
    served: u64,
}

impl<T> FairMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { line: Mutex::default(), moved: Condvar::new(), value: Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> FairGuard<'_, T> {
        let mut line = self.line.lock();
        let number = line.next;
        line.next += 1;
        while line.served != number {
            self.moved.wait(&mut line);
        }
        drop(line);
        FairGuard { value: self.value.lock(), _turn: Turn { line: &self.line, moved: &self.moved } }
    }

    /// How many threads wait for the one that has the lock.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        let line = self.line.lock();
        (line.next - line.served).saturating_sub(1)
    }
}

/// The value is released before the turn is over.
pub(crate) struct FairGuard<'m, T> {
    value: MutexGuard<'m, T>,
    _turn: Turn<'m>,
}

impl<T> Deref for FairGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for FairGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

struct Turn<'m> {
    line: &'m Mutex<Line>,
    moved: &'m Condvar,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.lock().served += 1;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_who_asks_again_comes_after_those_who_wait() {
        let lock = FairMutex::new(Vec::new());
        thread::scope(|scope| {
            let mut held = lock.lock();
            for (before, name) in ["first", "second", "third"].into_iter().enumerate() {
                let lock = &lock;
                scope.spawn(move || lock.lock().push(name));
                while lock.waiting() <= before as u64 {
                    thread::yield_now();
                }
            }
            held.push("holder");
            drop(held);
            lock.lock().push("holder again");
        });
        let order = lock.lock().clone();
        assert_eq!(order, ["holder", "first", "second", "third", "holder again"]);
    }

    #[test]
    fn a_holder_that_panics_lets_the_next_one_have_it() {
        let lock = FairMutex::new(1);
        thread::scope(|scope| {
            let held = || {
                let _held = lock.lock();
                panic!("as it is meant to");
            };
            scope.spawn(held).join().expect_err("it panics");
        });
        assert_eq!(*lock.lock(), 1);
    }
}
