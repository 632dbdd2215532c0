//! Places that can't hold a backup, and places that are mounted read-only: nothing changes there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use idemstore::{CopyError, Error, OpenError, Store};

use crate::clerk::Clerk;
use crate::stage::{alone, among_own_mounts, mount, remount};
use crate::words::{
    FILES, check, check_in, check_unchanged, close, complete, copy, directory, look, names, open,
    refused, small,
};

const NAME: &str = "key";

fn store_with_key(path: &Path) -> Store {
    let store = open(path);
    complete(&store, NAME);
    store
}

/// No backup is made there, and its parent directory is unchanged.
fn check_no_backup(store: &Store, to: &Path, is_it: fn(&CopyError) -> bool) {
    let above = to.parent().filter(|above| above.is_dir() && !above.starts_with("/dev"));
    let before = above.map(look);
    let failed = store.backup(to).expect_err("it is no place");
    assert!(is_it(&failed), "{}: {failed:?}", to.display());
    if let (Some(above), Some(before)) = (above, before) {
        check_unchanged(above, &before);
    }
    check(store, [NAME]);
}

fn is_io(error: &CopyError) -> bool {
    matches!(error, CopyError::Io(_))
}

fn is_taken(error: &CopyError) -> bool {
    matches!(error, CopyError::Exists)
}

#[test]
fn a_backup_into_an_impossible_place_is_refused_and_the_store_goes_on() {
    alone(|| {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let store = store_with_key(&path("store"));
        fs::write(path("file"), "of somebody else").expect("there is room");
        symlink("nowhere", path("dangling")).expect("links work here");
        symlink("loop", path("loop")).expect("links work here");
        let with_nul = directory.path().join(OsStr::from_bytes(b"a\0b"));
        let long = path(&"n".repeat(256));
        let in_device = Path::new("/dev/null/backup");
        let in_processes = Path::new("/proc/none/above/backup");
        let places = [
            &path("file"),
            &path("file/below"),
            &path("file/far/below"),
            &path("dangling"),
            &path("loop"),
            &path("loop/below"),
            &with_nul,
            &long,
            Path::new("/dev/null"),
            in_device,
            in_processes,
            Path::new(""),
        ];
        for to in places {
            check_no_backup(&store, to, is_io);
        }
        assert_eq!(fs::read(path("file")).expect("it is there"), b"of somebody else");
        store.settle().expect("there is room");
        complete(&store, "after");
        store.backup(path("backup")).expect("there is room");
        close(store);
        check_in(path("store"), &[NAME, "after"]);
        check_in(path("backup"), &[NAME, "after"]);
    });
}

#[test]
fn a_backup_into_a_store_is_refused_whosever_that_is() {
    alone(|| {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let store = store_with_key(&path("store"));
        symlink("store", path("link")).expect("links work here");
        let closed = store_with_key(&path("closed"));
        close(closed);
        let another = store_with_key(&path("open"));
        let mut clerk = Clerk::hire();
        clerk.hears(&format!("open {}", path("of a process").display()), "opened");
        clerk.hears(&format!("complete {NAME}"), "completed");
        for name in ["store", "link", "closed", "open", "of a process"] {
            let to = path(name);
            let before = look(&to);
            check_no_backup(&store, &to, is_taken);
            check_unchanged(&to, &before);
        }
        check(&another, [NAME]);
        close(another);
        clerk.hears(&format!("begin {NAME}"), "replay");
        clerk.hears("close", "closed 0");
        close(store);
        for name in ["store", "closed", "open", "of a process"] {
            check_in(path(name), &[NAME]);
        }
    });
}

#[test]
fn a_closed_store_makes_no_directory_for_a_backup() {
    alone(|| {
        let directory = directory();
        let store = store_with_key(&directory.path().join("store"));
        let clone = store.clone();
        close(store);
        let failed = clone.backup(directory.path().join("above/backup"));
        assert!(matches!(failed, Err(CopyError::Store(Error::Closed))), "{failed:?}");
        assert_eq!(names(directory.path()), ["store"]);
    });
}

#[test]
fn a_file_system_for_reading_only_is_said_to_be_so_and_takes_no_store_and_no_backup() {
    among_own_mounts(|| {
        let directory = directory();
        let mounted = directory.path().join("mounted");
        fs::create_dir(&mounted).expect("there is room for a directory");
        mount(48 << 20, &mounted);
        let [closed, killed, empty] = ["closed", "killed", "empty"].map(|name| mounted.join(name));
        fs::create_dir(&empty).expect("there is room for a directory");
        let store = store_with_key(&closed);
        // Its last changes are only in the log: opening it would write.
        copy(&closed, &FILES, &killed);
        close(store);
        remount("remount,ro,bind", &mounted);
        let store = store_with_key(&directory.path().join("store"));
        for path in [&closed, &killed, &empty, &mounted.join("new")] {
            let before = path.exists().then(|| look(path));
            let is_store = path == &closed || path == &killed;
            for builder in [small(), Store::builder()] {
                let error = refused(builder, path);
                assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
            }
            // An existing store refuses to be created again, as it also would on a writable path.
            let error = refused(small().create_new(true), path);
            let said = match error {
                OpenError::Exists => is_store,
                OpenError::NotWritable { .. } => !is_store,
                _ => false,
            };
            assert!(said, "{error:?}");
            check_no_backup(&store, path, if is_store { is_taken } else { is_io });
            if let Some(before) = before {
                check_unchanged(path, &before);
            }
        }
        remount("remount,rw,bind", &mounted);
        check_in(&closed, &[NAME]);
        check_in(&killed, &[NAME]);
        store.backup(&empty).expect("there is room");
        close(store);
    });
}
