//! Limits that a store was created with, and limits that an open requests.

use std::path::Path;

use idemstore::{Builder, CompleteError, LOG_BYTES_MIN, OpenError, Store};

use crate::stage::alone;
use crate::words::{check_unchanged, close, directory, look, names, permit, refused};

const MIB: usize = 1024 * 1024;

fn plain() -> Builder {
    Store::builder().background_thread(false)
}

/// A result of this length is stored, and read again after an open with defaults.
fn check_takes(store: Store, path: &Path, name: &str, len: usize) {
    let result = vec![5; len];
    permit(&store, name).complete(&result).expect("it is taken");
    close(store);
    let store = plain().create(false).open(path).expect("the store opens");
    match crate::words::begin(&store, name).expect("begin answers") {
        idemstore::Begin::Replay(completed) => assert!(completed.result() == result),
        other => panic!("{other:?}"),
    }
    close(store);
}

#[test]
fn a_limit_is_measured_by_the_log_that_the_store_has() {
    alone(|| {
        for (log, limit) in [(64 * MIB, 24 * MIB), (48 * MIB, 20 * MIB)] {
            let directory = directory();
            let builder = || plain().result_len_max(limit);
            let store = builder().log_bytes(log as u64).open(directory.path());
            close(store.expect("it is made"));
            let store = builder().open(directory.path()).expect("the store opens");
            check_takes(store, directory.path(), "one", limit);
        }
    });
}

#[test]
fn a_store_with_a_small_log_opens_with_defaults() {
    alone(|| {
        for log in [LOG_BYTES_MIN, MIB as u64] {
            let directory = directory();
            // No limit was requested, so none is refused here either.
            close(plain().log_bytes(log).open(directory.path()).expect("it is made"));
            let store = plain().open(directory.path()).expect("the store opens");
            let refused = permit(&store, "too long").complete(vec![5; MIB]);
            let Err(CompleteError::TooLarge { len, max, .. }) = refused else {
                panic!("it is taken: {refused:?}")
            };
            assert!(len == MIB && (log / 3) < max as u64, "{max} of {log}");
            check_takes(store, directory.path(), "one", max);
        }
    });
}

/// The limit that an error names.
fn named(error: &OpenError) -> usize {
    match error {
        OpenError::Option { option: "result_len_max", max, .. } => {
            usize::try_from(*max).expect("it is no more than memory")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_limit_that_an_error_names_is_taken() {
    alone(|| {
        for log in [LOG_BYTES_MIN, LOG_BYTES_MIN + 2, 3 * MIB as u64 + 8192, 8 * MIB as u64] {
            let directory = directory();
            let path = directory.path();
            let error = refused(plain().log_bytes(log).result_len_max(usize::MAX), path);
            assert_eq!(names(path), [""; 0], "a refused creation has left something");
            let max = named(&error);
            let error = refused(plain().log_bytes(log).result_len_max(max + 1), path);
            assert_eq!(named(&error), max);
            assert_eq!(names(path), [""; 0], "a refused creation has left something");
            let store = plain().log_bytes(log).result_len_max(max).open(path).expect("it is made");
            let refused = permit(&store, "too long").complete(vec![5; max + 1]);
            assert!(matches!(refused, Err(CompleteError::TooLarge { .. })), "{refused:?}");
            check_takes(store, path, "one", max);
        }
    });
}

#[test]
fn a_limit_above_a_stores_own_is_refused_and_nothing_is_written() {
    alone(|| {
        let directory = directory();
        let path = directory.path();
        close(plain().log_bytes(LOG_BYTES_MIN).open(path).expect("it is made"));
        let before = look(path);
        // The requested log size has no effect here.
        let error = refused(plain().log_bytes(64 * MIB as u64).result_len_max(MIB), path);
        let max = named(&error);
        check_unchanged(path, &before);
        let store = plain().result_len_max(max).open(path).expect("the store opens");
        check_takes(store, path, "one", max);
    });
}

#[test]
fn a_log_out_of_its_range_makes_no_file() {
    alone(|| {
        let directory = directory();
        for log in [0, LOG_BYTES_MIN - 1, idemstore::LOG_BYTES_MAX + 1, u64::MAX] {
            let error = refused(plain().log_bytes(log), directory.path());
            assert!(matches!(error, OpenError::Option { option: "log_bytes", .. }), "{error:?}");
            assert_eq!(names(directory.path()), [""; 0]);
        }
    });
}
