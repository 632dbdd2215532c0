//! A store that is refused stays unchanged: every byte, every name, every time.

use std::fs;
use std::path::Path;

use idemstore::redb::{Database, TableDefinition};
use idemstore::{Builder, OpenError, Store};
use tempfile::TempDir;

use crate::stage::alone;
use crate::words::{
    FILES, check_in, check_unchanged, close, complete, copy, directory, look, open, small, start,
};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The places of one store, closed and killed.
fn stores() -> (TempDir, [std::path::PathBuf; 2]) {
    let directory = directory();
    let paths = ["closed", "killed"].map(|name| directory.path().join(name));
    let store = open(&paths[0]);
    complete(&store, "one");
    store.settle().expect("there is room");
    complete(&store, "two");
    let execution = start(&store, "three");
    copy(&paths[0], &FILES, &paths[1]);
    drop(execution);
    close(store);
    (directory, paths)
}

/// Writes these fields into `meta`.
fn set_meta(path: &Path, fields: &[(&str, &[u8])]) {
    let database = Database::open(path.join("vault.redb")).expect("it is redb's");
    let transaction = database.begin_write().expect("redb works");
    let mut meta = transaction.open_table(META).expect("it has one");
    for (name, value) in fields {
        meta.insert(name, value).expect("redb works");
    }
    drop(meta);
    transaction.commit().expect("redb works");
}

#[track_caller]
fn check_refused(path: &Path, builder: Builder, is_it: impl Fn(&OpenError) -> bool) {
    let before = look(path);
    let error = builder.open(path).expect_err("it is refused");
    assert!(is_it(&error), "{error:?}");
    check_unchanged(path, &before);
}

#[test]
fn a_store_of_a_later_format_is_refused_and_nothing_is_written() {
    alone(|| {
        let (_directory, paths) = stores();
        for path in &paths {
            for format in [4_u32, 5, u32::MAX] {
                set_meta(path, &[("format", &format.to_le_bytes())]);
                for builder in [small(), Store::builder(), small().create(false)] {
                    check_refused(path, builder, |error| {
                        matches!(error, OpenError::UnsupportedVersion { found, supported: 3, .. }
                            if *found == format)
                    });
                }
            }
            set_meta(path, &[("format", &3_u32.to_le_bytes())]);
            check_in(path, &["one", "two"]);
        }
    });
}

#[test]
fn a_store_whose_log_is_damaged_is_refused_and_nothing_is_written() {
    alone(|| {
        let (_directory, [_, killed]) = stores();
        let log = ["log-0", "log-1"].map(|name| killed.join(name));
        // A log with something after its first page.
        let is_used = |log: &&std::path::PathBuf| {
            fs::read(log).expect("it is there")[4096..].iter().any(|byte| *byte != 0)
        };
        let log = log.iter().rfind(is_used).expect("something is not settled");
        let whole = fs::read(log).expect("it is there");
        // In its header, and in a frame that another one follows.
        for at in [0, 20, 4096 + 50] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(log, &damaged).expect("there is room");
            check_refused(&killed, small(), |error| {
                matches!(error, OpenError::Corrupt { .. } | OpenError::NotAStore { .. })
            });
        }
        fs::write(log, &whole).expect("there is room");
        check_in(&killed, &["one", "two"]);
    });
}

#[test]
fn a_store_that_an_option_does_not_fit_is_refused_and_nothing_is_written() {
    alone(|| {
        let (_directory, paths) = stores();
        for path in &paths {
            check_refused(path, small().result_len_max(1 << 20), |error| {
                matches!(error, OpenError::Option { option: "result_len_max", .. })
            });
            check_refused(path, small().create_new(true), |error| {
                matches!(error, OpenError::Exists)
            });
            check_in(path, &["one", "two"]);
        }
    });
}

#[test]
fn a_store_whose_time_is_after_the_year_2200_is_refused_and_nothing_is_written() {
    alone(|| {
        let (_directory, [closed, _]) = stores();
        let late = (1_u64 << 47).to_le_bytes();
        set_meta(&closed, &[("high_water", &late)]);
        check_refused(&closed, small(), |error| matches!(error, OpenError::Clock));
        // Its clock is now right, and someone who knows that can say so.
        let store = small().accept_clock(true).open(&closed).expect("the store opens");
        close(store);
        check_in(&closed, &["one", "two"]);
    });
}

#[test]
fn a_store_whose_vault_is_damaged_is_refused_and_nothing_is_written() {
    alone(|| {
        let (_directory, paths) = stores();
        for path in &paths {
            let vault = path.join("vault.redb");
            let whole = fs::read(&vault).expect("it is there");
            let mut refused = 0;
            for at in (0..whole.len()).step_by(whole.len() / 200) {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                fs::write(&vault, &damaged).expect("there is room");
                let before = look(path);
                if small().result_len_max(1 << 20).open(path).is_err() {
                    // Intact or not, this option doesn't fit it.
                    check_unchanged(path, &before);
                    refused += 1;
                }
            }
            assert!(200 <= refused, "only {refused}");
            fs::write(&vault, &whole).expect("there is room");
            check_in(path, &["one", "two"]);
        }
    });
}
