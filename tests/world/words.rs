//! Short functions for what the tests do again and again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use idemstore::{Begin, Builder, Error, Execution, Fingerprint, Key, OpenError, Permit, Store};
use tempfile::TempDir;

/// All files of a store.
pub const FILES: [&str; 4] = ["lock", "log-0", "log-1", "vault.redb"];

pub fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// A small store without background work, which doesn't wait for the lock.
pub fn small() -> Builder {
    Store::builder()
        .log_bytes(64 * 1024)
        .result_len_max(16 * 1024)
        .cache_bytes(1024 * 1024)
        .background_thread(false)
        .wait_for_lock(Duration::ZERO)
}

pub fn open(path: impl AsRef<Path>) -> Store {
    small().open(path).expect("the store opens")
}

pub fn refused(builder: Builder, path: impl AsRef<Path>) -> OpenError {
    builder.open(path).expect_err("it is refused")
}

pub fn key(name: &str) -> Key {
    Key::new(name).expect("it is a key")
}

pub fn begin(store: &Store, name: &str) -> Result<Begin, Error> {
    store.begin(&key(name), Fingerprint::of(name))
}

/// The answer of `begin`, as a word.
pub fn answer(store: &Store, name: &str) -> String {
    match begin(store, name) {
        Ok(Begin::Fresh(_)) => "fresh".to_owned(),
        Ok(Begin::Replay(completed)) => {
            let (head, filling) = completed.result().split_at(result_of(name).len());
            let is_own = head == result_of(name) && filling.iter().all(|byte| *byte == 0);
            assert!(is_own, "{name} has another's result");
            "replay".to_owned()
        }
        Ok(Begin::NotKept(_)) => "tombstone".to_owned(),
        Ok(Begin::InFlight(_)) => "in flight".to_owned(),
        Ok(Begin::Mismatch) => "mismatch".to_owned(),
        Ok(Begin::Interrupted(_)) => "interrupted".to_owned(),
        Err(error) => kind(&error),
    }
}

pub fn permit(store: &Store, name: &str) -> Permit {
    match begin(store, name).expect("begin answers") {
        Begin::Fresh(permit) => permit,
        other => panic!("{name} is not fresh: {other:?}"),
    }
}

pub fn start(store: &Store, name: &str) -> Execution {
    permit(store, name).start().expect("it starts")
}

fn result_of(name: &str) -> Vec<u8> {
    format!("result of {name}").into_bytes()
}

/// Starts and completes an operation.
pub fn try_complete(store: &Store, name: &str) -> Result<(), String> {
    let permit = match begin(store, name).map_err(|error| kind(&error))? {
        Begin::Fresh(permit) => permit,
        other => panic!("{name} is not fresh: {other:?}"),
    };
    let execution = permit.start().map_err(|error| kind(&error))?;
    execution.complete(result_of(name)).map_err(|error| kind(&error))?;
    Ok(())
}

pub fn complete(store: &Store, name: &str) {
    try_complete(store, name).expect("it is completed");
}

pub fn complete_started(execution: Execution) {
    let name = String::from_utf8(execution.key().as_bytes().to_vec()).expect("it is text");
    execution.complete(result_of(&name)).expect("it is completed");
}

/// Completes operations whose results make the vault large.
pub fn fill(store: &Store, megabytes: u32) {
    for number in 0..megabytes * 64 {
        let name = format!("large {number}");
        let permit = permit(store, &name);
        let mut result = result_of(&name);
        result.resize(16 * 1024, 0);
        permit.complete(&result).expect("there is room");
    }
    store.settle().expect("there is room");
}

/// Each of these keys is completed, with its own result.
pub fn check<'n>(store: &Store, names: impl IntoIterator<Item = &'n str>) {
    for name in names {
        assert_eq!(answer(store, name), "replay", "{name}");
    }
}

pub fn close(store: Store) {
    assert_eq!(store.close().expect("the store closes"), 0);
}

/// The store in this directory has these keys, and is intact.
pub fn check_in(path: impl AsRef<Path>, names: &[&str]) {
    let store = small().create(false).open(path).expect("the store opens");
    check(&store, names.iter().copied());
    close(store);
}

/// The kind of an error, without its details.
pub fn kind(error: &impl std::fmt::Debug) -> String {
    let shown = format!("{error:?}");
    let shown = shown.strip_prefix("Store(").unwrap_or(&shown);
    shown.split([' ', '(', ')', '{']).next().unwrap_or_default().to_owned()
}

/// The names in a directory; none if it doesn't exist.
pub fn names(path: &Path) -> Vec<String> {
    if !path.exists() {
        return Vec::new();
    }
    let mut names: Vec<_> = fs::read_dir(path)
        .expect("it is a directory")
        .map(|entry| entry.expect("it is readable").file_name().into_string().expect("it is text"))
        .collect();
    names.sort();
    names
}

/// Everything that is visible of a directory and its contents.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, (Stamp, Vec<u8>)>);

/// The inode, the mode, and the time of the last write.
type Stamp = (u64, u32, i64, i64);

pub fn look(path: &Path) -> Seen {
    let stamp = |path: &Path| {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        (metadata.ino(), metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
    };
    let mut seen: BTreeMap<_, _> = names(path)
        .into_iter()
        .map(|name| {
            let path = path.join(&name);
            let bytes = if path.is_file() { fs::read(&path).expect("it is ours") } else { vec![] };
            (name, (stamp(&path), bytes))
        })
        .collect();
    seen.insert(".".to_owned(), (stamp(path), vec![]));
    Seen(seen)
}

/// It doesn't show the contents of the files.
pub fn check_unchanged(path: &Path, before: &Seen) {
    assert!(look(path) == *before, "something was changed in {:?}", names(path));
}

/// Copies these files of a directory into another one, which it creates.
pub fn copy(from: &Path, files: &[&str], to: &Path) {
    fs::create_dir_all(to).expect("there is room for a directory");
    for name in files {
        fs::copy(from.join(name), to.join(name)).expect("there is room for a file");
    }
}
