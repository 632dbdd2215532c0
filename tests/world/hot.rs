//! Copies made of a store while it is written to, by someone who knows nothing about it. Each is
//! refused, or has everything that was acknowledged before the copy was begun.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::Store;

use crate::stage::{Ending, alone, run};
use crate::words::{
    FILES, answer, check, check_in, close, complete, copy, directory, open, small, start,
};

const WRITERS: usize = 2;

/// A store in a directory, and how many of its keys each writer knows to be completed.
struct Busy {
    directory: tempfile::TempDir,
    store: Store,
    acknowledged: [AtomicUsize; WRITERS],
    is_over: AtomicBool,
}

fn name(writer: usize, number: usize) -> String {
    format!("key {number} of {writer}")
}

impl Busy {
    fn new() -> Self {
        let directory = directory();
        let store = open(directory.path().join("store"));
        let (acknowledged, is_over) = Default::default();
        Self { directory, store, acknowledged, is_over }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What has been acknowledged so far.
    fn counts(&self) -> [usize; WRITERS] {
        self.acknowledged.each_ref().map(|count| count.load(Ordering::SeqCst))
    }

    /// Runs this while writers fill the store and another thread maintains it.
    fn under_load(&self, act: impl FnOnce()) {
        thread::scope(|scope| {
            let _ending = Ending(&self.is_over);
            for (writer, count) in self.acknowledged.iter().enumerate() {
                scope.spawn(move || {
                    while !self.is_over.load(Ordering::SeqCst) {
                        complete(&self.store, &name(writer, count.load(Ordering::SeqCst)));
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            scope.spawn(|| self.look_after());
            act();
        });
    }

    fn look_after(&self) {
        for turn in 1.. {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            if turn % 8 == 0 {
                self.store.compact().expect("there is room");
            } else {
                self.store.settle().expect("there is room");
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    /// Copies the store, and returns whether the copy is a store. If so, it has all these keys.
    fn check_copy(&self, make: impl FnOnce(&Path, &Path)) -> bool {
        let (store, to) = (self.path("store"), self.path("copy"));
        let counts = self.counts();
        make(&store, &to);
        let opened = small().open(&to);
        let is_store = opened.is_ok();
        if let Ok(copy) = opened {
            for (writer, count) in counts.into_iter().enumerate() {
                for number in 0..count {
                    let name = name(writer, number);
                    assert_eq!(answer(&copy, &name), "replay", "{name} of {counts:?}");
                }
            }
            complete(&copy, "of the copy");
            close(copy);
            check_in(&to, &["of the copy"]);
        }
        fs::remove_dir_all(&to).expect("it is ours");
        is_store
    }
}

fn copy_as_a_whole(store: &Path, to: &Path) {
    // It doesn't find files that are renamed meanwhile, and reports an error.
    let _ = run([OsStr::new("cp"), "-r".as_ref(), store.as_ref(), to.as_ref()]);
}

#[test]
fn a_copy_of_a_store_under_load_is_refused_or_has_all_that_was_acknowledged_before() {
    alone(|| {
        let busy = Busy::new();
        busy.under_load(|| {
            for _ in 0..10 {
                busy.check_copy(copy_as_a_whole);
            }
        });
        // No one writes any more, and the store is still open.
        assert!(busy.check_copy(copy_as_a_whole), "a copy of a store at rest is refused");
        close(busy.store);
    });
}

#[test]
fn a_copy_of_a_store_under_load_is_so_in_whatever_order_its_files_are_copied() {
    alone(|| {
        let busy = Busy::new();
        busy.under_load(|| {
            let [lock, zero, one, vault] = FILES;
            for order in [[zero, one, vault], [vault, zero, one], [one, vault, zero]] {
                for with_lock in [true, false] {
                    busy.check_copy(|store, to| {
                        for name in order {
                            copy(store, &[name], to);
                            // Other callers come and write.
                            thread::sleep(Duration::from_millis(10));
                        }
                        if with_lock {
                            copy(store, &[lock], to);
                        }
                    });
                }
            }
        });
        close(busy.store);
    });
}

/// What a slow copy may contain: each file is from a different moment.
#[test]
fn files_of_several_moments_are_refused_or_have_all_of_the_first_one() {
    alone(|| {
        let directory = directory();
        let moment = |number: usize| directory.path().join(format!("moment {number}"));
        let store = open(directory.path().join("store"));
        let acts: [fn(&Store); 5] = [
            |_| {},
            |store| store.settle().expect("there is room"),
            |store| drop(start(store, "started")),
            |store| {
                store.compact().expect("there is room");
            },
            |store| store.settle().expect("there is room"),
        ];
        for (number, act) in acts.iter().enumerate() {
            act(&store);
            complete(&store, &name(0, number));
            copy(&directory.path().join("store"), &FILES, &moment(number));
        }
        close(store);
        let moments = 0..acts.len();
        for zero in moments.clone() {
            for one in moments.clone() {
                for vault in moments.clone() {
                    let to = directory.path().join("copy");
                    copy(&moment(zero), &["lock", "log-0"], &to);
                    copy(&moment(one), &["log-1"], &to);
                    copy(&moment(vault), &["vault.redb"], &to);
                    let opened = small().open(&to);
                    if let Ok(copy) = opened {
                        let keys: Vec<_> =
                            (0..=zero.min(one).min(vault)).map(|number| name(0, number)).collect();
                        check(&copy, keys.iter().map(String::as_str));
                        drop(copy);
                    } else {
                        assert!(zero != one || one != vault, "moment {zero} is refused");
                    }
                    fs::remove_dir_all(&to).expect("it is ours");
                }
            }
        }
    });
}
