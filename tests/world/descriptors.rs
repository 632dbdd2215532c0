//! A process that has run out of file descriptors, and one that must end with as many as before.

use std::fs;

use idemstore::{CopyError, OpenError, Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stage::{alone, until};
use crate::words::{
    check, check_in, check_unchanged, close, complete, copy, directory, look, names, open, refused,
    small, start,
};

/// More than any store uses.
const MANY: u64 = 64;

/// Runs this while the process may have only this many descriptors.
fn limited<T>(to: u64, act: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(to), ..before }).expect("it is less");
    let done = act();
    setrlimit(Resource::Nofile, before).expect("it is as before");
    done
}

#[test]
fn a_store_that_lacks_a_descriptor_is_not_opened_and_left_as_it_was() {
    alone(|| {
        let directory = directory();
        let [path, killed] = ["store", "killed"].map(|name| directory.path().join(name));
        let store = open(&path);
        complete(&store, "one");
        store.settle().expect("there is room");
        complete(&store, "two");
        copy(&path, &crate::words::FILES, &killed);
        close(store);
        for path in [&path, &killed] {
            let before = look(path);
            let mut refused = 0;
            let store = loop {
                match limited(refused, || small().open(path)) {
                    Ok(store) => break store,
                    Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error:?}"),
                }
                check_unchanged(path, &before);
                refused += 1;
                assert!(refused < MANY, "it is never opened");
            };
            // Three that each process has, and one for each file.
            assert!(6 < refused, "only {refused}");
            check(&store, ["one", "two"]);
            close(store);
            check_in(path, &["one", "two"]);
        }
    });
}

#[test]
fn a_store_that_lacks_a_descriptor_is_made_once_there_are_some() {
    alone(|| {
        let directory = directory();
        let mut least = 0;
        loop {
            let path = directory.path().join(least.to_string());
            let made = limited(least, || small().open(&path));
            let is_made = match made {
                Ok(store) => {
                    close(store);
                    true
                }
                Err(error) => {
                    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
                    false
                }
            };
            let store = open(&path);
            complete(&store, "one");
            close(store);
            check_in(&path, &["one"]);
            if is_made {
                break;
            }
            least += 1;
            assert!(least < MANY, "it is never made");
        }
        assert!(6 < least, "it takes {least} descriptors only");
    });
}

#[test]
fn an_open_store_goes_on_without_a_descriptor() {
    alone(|| {
        let directory = directory();
        let (path, to) = (directory.path().join("store"), directory.path().join("backup"));
        fs::create_dir(&to).expect("there is room for a directory");
        let store = Store::builder().log_bytes(64 * 1024).open(&path).expect("the store opens");
        complete(&store, "before");
        let many: Vec<_> = (0..400).map(|number| format!("key {number}")).collect();
        limited(0, || {
            let started = start(&store, "started");
            // The log is filled and settled several times.
            for name in &many {
                complete(&store, name);
            }
            drop(started);
            store.settle().expect("it has its files open");
            check(&store, many.iter().map(String::as_str));
            let failed = store.backup(&to).expect_err("it has none for the copy");
            assert!(matches!(failed, CopyError::Io(_)), "{failed:?}");
            let failed = store.compact().expect_err("it has none for the copy");
            assert!(matches!(failed, CopyError::Io(_)), "{failed:?}");
            complete(&store, "after");
        });
        assert_eq!(names(&to), [""; 0], "something is left");
        store.backup(&to).expect("there are some now");
        store.compact().expect("there are some now");
        check(&store, ["before", "after", "key 0", "key 399"]);
        assert_eq!(store.close().expect("the store closes"), 0);
        for path in [path, to] {
            check_in(path, &["before", "after", "key 0", "key 399"]);
        }
    });
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    fs::read_dir("/dev/fd").expect("each system has that").count()
}

/// How many threads it has, where that is visible.
fn threads() -> Option<usize> {
    fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

#[test]
fn a_store_that_is_closed_or_refused_leaves_no_descriptor_and_no_thread() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        complete(&open(&path), "one");
        let before = (descriptors(), threads());
        for turn in 0..100 {
            let store = small().background_thread(true).open(&path).expect("the store opens");
            let refusals = [small(), small().create_new(true), small().result_len_max(1 << 20)];
            for builder in refusals {
                refused(builder, &path);
            }
            store.backup(&path).expect_err("it is there");
            if turn % 10 == 0 {
                let to = directory.path().join(format!("backup {turn}"));
                store.backup(&to).expect("there is room");
                store.compact().expect("there is room");
            }
            if turn % 2 == 0 {
                close(store);
            } else {
                drop(store);
            }
            refused(small().create_new(true), &path);
            refused(small().create(false), directory.path().join("missing"));
        }
        assert_eq!(descriptors(), before.0);
        // A thread that has ended stays visible for a moment.
        until(before.1, || (threads() == before.1).then_some(()));
        check_in(&path, &["one"]);
    });
}
