//! The store's directory on a real file system: who may open it, and what isn't a store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Fingerprint, OpenError, Store};

use crate::support::{Answers, Bench, SimDisk, Started, builder, key};

fn open(path: &Path) -> Result<Store, OpenError> {
    let builder = Store::builder().log_bytes(64 * 1024).result_len_max(1024);
    builder.wait_for_lock(Duration::ZERO).open(path)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

#[test]
fn a_store_is_made_with_its_directory_and_found_again() {
    let directory = directory();
    let path = directory.path().join("a").join("b");
    let store = open(&path).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    begin.started().complete("result").expect("it completes");
    drop(store);
    let mut names: Vec<_> = fs::read_dir(&path)
        .expect("it is a directory")
        .map(|entry| entry.expect("it is readable").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "log-0", "log-1", "vault.redb"]);
    let store = open(&path).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    assert_eq!(begin.replay().result(), b"result");
}

#[test]
fn a_relative_path_is_as_good_as_any() {
    let name = format!("idemstore-test-{}", std::process::id());
    open(Path::new(&name)).expect("the store opens").close().expect("the store closes");
    fs::remove_dir_all(name).expect("it is ours");
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let path = directory.path().join("store");
    open(&path).expect("the store opens").close().expect("the store closes");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["vault.redb", "log-0", "log-1"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_store_is_open_once() {
    let directory = directory();
    let store = open(directory.path()).expect("the store opens");
    assert!(matches!(open(directory.path()), Err(OpenError::Locked)));
    store.close().expect("the store closes");
    open(directory.path()).expect("the store opens again");
}

#[cfg(unix)]
#[test]
fn a_store_is_open_once_by_whatever_name() {
    let directory = directory();
    let (path, link) = (directory.path().join("store"), directory.path().join("link"));
    let _store = open(&path).expect("the store opens");
    std::os::unix::fs::symlink(&path, &link).expect("links work here");
    assert!(matches!(open(&link), Err(OpenError::Locked)));
    // A copy of the directory with hard links to its files.
    let copy = directory.path().join("copy");
    fs::create_dir(&copy).expect("there is room for a directory");
    for name in ["vault.redb", "log-0", "log-1"] {
        fs::hard_link(path.join(name), copy.join(name)).expect("links work here");
    }
    assert!(matches!(open(&copy), Err(OpenError::Locked)));
}

#[test]
fn a_file_is_no_directory() {
    let directory = directory();
    let path = directory.path().join("file");
    fs::write(&path, "text").expect("there is room for a file");
    assert!(matches!(open(&path), Err(OpenError::NotADirectory)));
    assert!(open(&path.join("below")).is_err());
    assert_eq!(fs::read(&path).expect("it is there"), b"text");
}

#[test]
fn a_file_of_that_name_is_no_vault() {
    for content in ["", "text", &"text".repeat(10_000)] {
        let directory = directory();
        let path = directory.path().join("vault.redb");
        fs::write(&path, content).expect("there is room for a file");
        let error = open(directory.path()).expect_err("it is no store");
        let refused = matches!(error, OpenError::NotAStore { .. } | OpenError::Corrupt { .. });
        assert!(refused, "{error:?}");
        assert!(fs::read(&path).expect("it is there") == content.as_bytes(), "it was changed");
    }
}

#[test]
fn another_redb_file_is_no_vault() {
    const TABLE: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    let directory = directory();
    open(directory.path()).expect("the store opens").close().expect("the store closes");
    let path = directory.path().join("vault.redb");
    fs::remove_file(&path).expect("it is ours");
    let database = redb::Database::create(&path).expect("redb works");
    let transaction = database.begin_write().expect("redb works");
    transaction.open_table(TABLE).expect("redb works").insert("a", 1).expect("redb works");
    transaction.commit().expect("redb works");
    drop(database);
    let error = open(directory.path()).expect_err("it is no store");
    assert!(matches!(error, OpenError::NotAStore { file: "vault.redb" }), "{error:?}");
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_a_file_is_refused() {
    let directory = directory();
    let path = directory.path().join("store");
    open(&path).expect("the store opens").close().expect("the store closes");
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(path.join("log-0"), &elsewhere).expect("it is ours");
    std::os::unix::fs::symlink(&elsewhere, path.join("log-0")).expect("links work here");
    assert!(matches!(open(&path), Err(OpenError::Io { .. })));
}

#[cfg(unix)]
#[test]
fn a_place_that_may_not_be_written_is_said_to_be_so() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let path = directory.path().join("place");
    fs::create_dir(&path).expect("there is room for a directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).expect("it is ours");
    // The superuser may write anywhere: then there is nothing to refuse.
    if fs::write(path.join("probe"), "").is_err() {
        let error = open(&path.join("store")).expect_err("it cannot be written");
        assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it is ours");
}

#[test]
fn a_read_only_file_system_is_said_to_be_so() {
    let disk = SimDisk::new();
    let clock = idemstore::ManualClock::default();
    disk.fail(crate::support::disk::Fault {
        on: crate::support::disk::Op::Write,
        after: 0,
        for_good: true,
        kind: std::io::ErrorKind::ReadOnlyFilesystem,
    });
    let error = builder(&clock).open_on(disk).expect_err("it cannot be written");
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
}

#[test]
fn a_log_of_another_version_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let Bench { disk, clock, store, .. } = bench;
    store.close().expect("the store closes");
    disk.damage("log-1", |bytes| bytes[8] = 3);
    let before = disk.bytes()["log-1"].clone();
    let error = builder(&clock).open_on(disk.clone()).expect_err("it is from the future");
    let refused =
        matches!(error, OpenError::UnsupportedVersion { file: "log-1", found: 3, supported: 2 });
    assert!(refused, "{error:?}");
    assert!(disk.bytes()["log-1"] == before);
}

#[test]
fn a_vault_of_another_version_is_refused() {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let directory = directory();
    open(directory.path()).expect("the store opens").close().expect("the store closes");
    let database = redb::Database::open(directory.path().join("vault.redb")).expect("redb works");
    let transaction = database.begin_write().expect("redb works");
    let version = 7_u32.to_le_bytes();
    let mut meta = transaction.open_table(META).expect("redb works");
    meta.insert("format", version.as_slice()).expect("redb works");
    drop(meta);
    transaction.commit().expect("redb works");
    drop(database);
    let error = open(directory.path()).expect_err("it is from the future");
    let refused = matches!(
        error,
        OpenError::UnsupportedVersion { file: "vault.redb", found: 7, supported: 3 }
    );
    assert!(refused, "{error:?}");
}

#[test]
fn options_out_of_range_name_their_range() {
    let check = |builder: idemstore::Builder, name: &str| {
        let error = builder.open_on(SimDisk::new()).expect_err("it is out of range");
        assert!(error.to_string().starts_with(name), "{error}");
    };
    check(Store::builder().log_bytes(1), "log_bytes is 1,");
    check(Store::builder().log_bytes(u64::MAX), "log_bytes is");
    check(Store::builder().result_len_max(usize::MAX), "result_len_max is");
    check(
        Store::builder().log_bytes(64 * 1024).result_len_max(32 * 1024),
        "result_len_max is 32768",
    );
    // A store that was created with a smaller log keeps that size, and options that were not set
    // follow it.
    let Bench { disk, clock, store, .. } = Bench::new();
    store.close().expect("the store closes");
    let open = |builder: idemstore::Builder| builder.clock(clock.clone()).open_on(disk.clone());
    let error = open(Store::builder().result_len_max(1024 * 1024)).expect_err("it is smaller");
    assert!(error.to_string().starts_with("result_len_max is 1048576"), "{error}");
    open(Store::builder()).expect("the store opens").close().expect("the store closes");
}

/// The sets of files that a copy may consist of when it is cut off. None of them is taken for an
/// empty directory.
#[test]
fn any_part_of_a_store_without_the_rest_is_refused() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let Bench { disk, clock, store, .. } = bench;
    store.close().expect("the store closes");
    let files = disk.bytes();
    let leftovers = ["vault.redb.compact", "vault.redb.new", "log-0.part", "vault.redb.part"];
    let names = files.keys().map(String::as_str).chain(leftovers);
    let subsets = 1..1_u32 << (files.len() + leftovers.len());
    let mut refused = 0;
    for subset in subsets {
        let part = SimDisk::new();
        for (_, name) in names.clone().enumerate().filter(|(at, _)| subset >> at & 1 == 1) {
            part.put(name, files.get(name).cloned().unwrap_or(vec![1; 5_000]));
        }
        let is_whole = files.keys().all(|name| part.bytes().contains_key(name));
        match builder(&clock).open_on(part.clone()) {
            Ok(store) => {
                assert!(is_whole, "{:?}", part.bytes().keys());
                let begin = store.begin(&key("k"), Fingerprint::of("request"));
                begin.expect("begin answers").replay();
            }
            Err(OpenError::Corrupt { .. }) => {
                assert!(!is_whole, "{:?}", part.bytes().keys());
                refused += 1;
            }
            Err(error) => panic!("{error:?} of {:?}", part.bytes().keys()),
        }
    }
    assert_eq!(refused, 127 - 16);
}

#[test]
fn a_directory_shows_its_path_to_nobody() {
    let directory = idemstore::sim::Directory::new(Path::new("/secret/path"));
    assert!(!format!("{directory:?} {directory:#?}").contains("secret"));
}
