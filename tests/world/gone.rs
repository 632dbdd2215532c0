//! A store whose directory or files are taken away reports that, and acknowledges nothing more.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use idemstore::{Error, Store};

use crate::stage::{alone, skip, until};
use crate::words::{
    FILES, answer, check, check_in, close, complete, directory, names, open, small, start,
    try_complete,
};

/// A caller that settles gets an error, and so does one that closes.
fn check_poisoned(store: Store) {
    assert!(matches!(store.settle(), Err(Error::Poisoned(_))), "it settles");
    assert_eq!(answer(&store, "another"), "Poisoned");
    assert!(matches!(store.close(), Err(Error::Poisoned(_))), "it closes");
}

#[test]
fn a_store_whose_directory_is_removed_acknowledges_nothing_more() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        complete(&store, "before");
        let started = start(&store, "started");
        fs::remove_dir_all(&path).expect("it is ours");
        let permit = crate::words::permit(&store, "after");
        assert!(matches!(permit.start(), Err(Error::OutcomeUnknown(_))), "it starts");
        assert!(started.complete("result").is_err(), "it completes");
        assert_eq!(answer(&store, "after"), "Poisoned");
        // Earlier acknowledgements still hold.
        check(&store, ["before"]);
        check_poisoned(store);
        assert_eq!(names(directory.path()), [""; 0], "it was made again");
    });
}

#[test]
fn an_operation_is_not_completed_in_a_directory_that_is_removed() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        let started = start(&store, "started");
        fs::remove_dir_all(&path).expect("it is ours");
        assert!(started.complete("result").is_err(), "it completes");
        assert!(try_complete(&store, "after").is_err(), "another completes");
        check_poisoned(store);
    });
}

#[test]
fn a_store_that_does_nothing_after_its_directory_is_removed_says_so_when_it_closes() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        complete(&store, "before");
        fs::remove_dir_all(&path).expect("it is ours");
        assert!(store.close().is_err(), "it closes");
    });
}

/// What may happen to one file under a store, and a place for the file elsewhere.
type Loss = (&'static str, fn(&Path, &Path));

const LOSSES: [Loss; 3] = [
    ("removed", |file, _| fs::remove_file(file).expect("it is ours")),
    ("replaced", |file, elsewhere| {
        fs::copy(file, elsewhere).expect("there is room");
        fs::rename(elsewhere, file).expect("it is ours");
    }),
    ("moved", |file, elsewhere| fs::rename(file, elsewhere).expect("it is ours")),
];

#[test]
fn a_store_one_of_whose_files_is_removed_replaced_or_moved_is_poisoned() {
    alone(|| {
        for (what, lose) in LOSSES {
            for name in FILES {
                let directory = directory();
                let path = directory.path().join("store");
                let store = open(&path);
                complete(&store, "before");
                lose(&path.join(name), &directory.path().join("elsewhere"));
                let settled = store.settle();
                assert!(matches!(settled, Err(Error::Poisoned(_))), "{name} {what}: {settled:?}");
                assert!(try_complete(&store, "after").is_err(), "{name} {what}");
                assert!(store.close().is_err(), "{name} {what}");
                // And what is left isn't taken for an empty store.
                match small().open(&path) {
                    Ok(store) => check(&store, ["before"]),
                    Err(error) => drop(error),
                }
            }
        }
    });
}

#[test]
fn a_store_notices_by_itself_that_a_file_is_gone() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = small().background_thread(true).open(&path).expect("the store opens");
        complete(&store, "before");
        fs::rename(path.join("vault.redb"), directory.path().join("elsewhere")).expect("ours");
        until("that the store is poisoned", || {
            (answer(&store, "after") == "Poisoned").then_some(())
        });
        assert!(store.close().is_err(), "it closes");
    });
}

#[test]
fn a_store_whose_files_are_all_moved_out_is_poisoned_and_loses_nothing() {
    alone(|| {
        let directory = directory();
        let (path, moved) = (directory.path().join("store"), directory.path().join("moved"));
        let store = open(&path);
        complete(&store, "before");
        fs::create_dir(&moved).expect("there is room for a directory");
        for name in FILES {
            fs::rename(path.join(name), moved.join(name)).expect("it is ours");
        }
        check_poisoned(store);
        check_in(&moved, &["before"]);
    });
}

#[test]
fn a_store_whose_place_another_one_takes_does_not_touch_it() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        complete(&store, "before");
        fs::remove_dir_all(&path).expect("it is ours");
        let another = open(&path);
        complete(&another, "of another");
        // Both would run this one.
        assert!(try_complete(&store, "both").is_err(), "the first goes on");
        complete(&another, "both");
        assert!(store.compact().is_err(), "the first is made smaller");
        check_poisoned(store);
        close(another);
        check_in(&path, &["of another", "both"]);
    });
}

#[test]
fn a_log_on_another_file_system_is_gone() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let memory = Path::new("/dev/shm");
        let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
        if device(memory).is_none_or(|memory| Some(memory) == device(directory.path())) {
            return skip("there is no other file system");
        }
        let elsewhere = tempfile::tempdir_in(memory).expect("there is room for a directory");
        for name in ["log-0", "log-1"] {
            let store = open(&path);
            let before = format!("before {name}");
            complete(&store, &before);
            // What `mv` does between two file systems.
            fs::copy(path.join(name), elsewhere.path().join(name)).expect("there is room");
            fs::remove_file(path.join(name)).expect("it is ours");
            check_poisoned(store);
            // Put together again, its parts are the store.
            fs::copy(elsewhere.path().join(name), path.join(name)).expect("there is room");
            check_in(&path, &[&before]);
        }
    });
}
