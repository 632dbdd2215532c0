//! A store stays in the directory that it was opened in, whatever happens to the path.

use std::env::set_current_dir;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::stage::{alone, among_own_mounts, mount, run};
use crate::words::{FILES, check, check_in, check_unchanged, close, complete, directory, look};
use crate::words::{names, open};

/// A store that holds one key, closed.
fn store_with(path: &Path, name: &str) {
    let store = open(path);
    complete(&store, name);
    close(store);
}

#[test]
fn a_store_whose_working_directory_changes_stays_in_its_directory() {
    alone(|| {
        let directory = directory();
        let (here, there) = (directory.path().join("here"), directory.path().join("there"));
        fs::create_dir_all(&here).expect("there is room for a directory");
        store_with(&there.join("store"), "of another");
        let another = look(&there.join("store"));
        set_current_dir(&here).expect("it is there");
        let store = open("store");
        complete(&store, "one");
        set_current_dir(&there).expect("it is there");
        complete(&store, "two");
        store.settle().expect("there is room");
        store.compact().expect("there is room");
        complete(&store, "three");
        // The path of a backup is resolved now.
        store.backup("backup").expect("there is room");
        complete(&store, "four");
        close(store);
        check_unchanged(&there.join("store"), &another);
        check_in(here.join("store"), &["one", "two", "three", "four"]);
        check_in(there.join("backup"), &["one", "two", "three"]);
        check_in(there.join("store"), &["of another"]);
        assert_eq!(names(&here), ["store"]);
        assert_eq!(names(&there), ["backup", "store"]);
    });
}

#[test]
fn a_store_whose_working_directory_changes_during_a_long_life_settles_where_it_is() {
    alone(|| {
        let directory = directory();
        let (here, there) = (directory.path().join("here"), directory.path().join("there"));
        fs::create_dir_all(&here).expect("there is room for a directory");
        fs::create_dir_all(&there).expect("there is room for a directory");
        set_current_dir(&here).expect("it is there");
        let store = open(Path::new("."));
        set_current_dir(&there).expect("it is there");
        // The log is filled and settled several times.
        let many: Vec<_> = (0..400).map(|number| format!("key {number}")).collect();
        for name in &many {
            complete(&store, name);
        }
        close(store);
        assert_eq!(names(&here), FILES);
        assert_eq!(names(&there), [""; 0]);
        set_current_dir(&here).expect("it is there");
        let store = open(".");
        check(&store, many.iter().map(String::as_str));
    });
}

#[test]
fn a_store_whose_directory_is_renamed_goes_with_it() {
    alone(|| {
        let directory = directory();
        let (path, moved) = (directory.path().join("store"), directory.path().join("moved"));
        let store = open(&path);
        complete(&store, "one");
        fs::rename(&path, &moved).expect("it is ours");
        complete(&store, "two");
        store.compact().expect("there is room");
        complete(&store, "three");
        store.settle().expect("there is room");
        close(store);
        assert_eq!(names(directory.path()), ["moved"]);
        check_in(&moved, &["one", "two", "three"]);
    });
}

#[test]
fn the_successor_of_a_store_whose_directory_was_renamed_is_left_alone() {
    alone(|| {
        let directory = directory();
        let (path, moved) = (directory.path().join("store"), directory.path().join("moved"));
        let store = open(&path);
        complete(&store, "one");
        fs::rename(&path, &moved).expect("it is ours");
        let successor = open(&path);
        complete(&successor, "of the successor");
        successor.settle().expect("there is room");
        let before = look(&path);
        complete(&store, "two");
        store.settle().expect("there is room");
        store.compact().expect("there is room");
        close(store);
        check_unchanged(&path, &before);
        complete(&successor, "after");
        close(successor);
        check_in(&path, &["of the successor", "after"]);
        check_in(&moved, &["one", "two"]);
    });
}

#[test]
fn a_store_behind_a_link_that_is_switched_stays_where_it_was() {
    alone(|| {
        let directory = directory();
        let [current, one, two, link] =
            ["current", "v1", "v2", "link"].map(|name| directory.path().join(name));
        fs::create_dir(&one).expect("there is room for a directory");
        fs::create_dir(&two).expect("there is room for a directory");
        symlink("v1", &current).expect("links work here");
        let draining = open(&current);
        complete(&draining, "one");
        // As a deployment might do it.
        symlink("v2", &link).expect("links work here");
        fs::rename(&link, &current).expect("it is ours");
        let next = open(&current);
        complete(&next, "of the next");
        next.settle().expect("there is room");
        let before = look(&two);
        complete(&draining, "two");
        draining.compact().expect("there is room");
        draining.settle().expect("there is room");
        check_unchanged(&two, &before);
        complete(&next, "still of the next");
        next.compact().expect("there is room");
        complete(&draining, "three");
        close(draining);
        close(next);
        check_in(&one, &["one", "two", "three"]);
        check_in(&two, &["of the next", "still of the next"]);
    });
}

#[test]
fn a_store_under_its_own_backup_is_not_replaced_by_a_compaction() {
    alone(|| {
        let directory = directory();
        let [current, one, two] = ["current", "v1", "v2"].map(|name| directory.path().join(name));
        fs::create_dir(&one).expect("there is room for a directory");
        symlink("v1", &current).expect("links work here");
        let store = open(&current);
        complete(&store, "one");
        store.backup(&two).expect("there is room");
        fs::remove_file(&current).expect("it is ours");
        symlink("v2", &current).expect("links work here");
        // With the backup at the old path, the vault of one store would match the log of the other.
        let restored = open(&current);
        complete(&restored, "of the backup");
        store.compact().expect("there is room");
        complete(&store, "two");
        check(&restored, ["one", "of the backup"]);
        close(restored);
        close(store);
        check_in(&one, &["one", "two"]);
        check_in(&two, &["one", "of the backup"]);
    });
}

fn unmount(path: &Path) {
    run([OsStr::new("umount"), path.as_ref()]).expect("it is mounted");
}

#[test]
fn a_store_under_a_mount_stays_below_it() {
    among_own_mounts(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        complete(&store, "one");
        mount(16 * 1024 * 1024, &path);
        complete(&store, "two");
        store.compact().expect("there is room");
        complete(&store, "three");
        close(store);
        assert_eq!(names(&path), [""; 0], "something was written above");
        unmount(&path);
        check_in(&path, &["one", "two", "three"]);
    });
}

#[test]
fn a_store_in_a_mount_over_another_store_and_that_one_are_two() {
    among_own_mounts(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let below = open(&path);
        complete(&below, "below");
        mount(16 * 1024 * 1024, &path);
        let above = open(&path);
        complete(&above, "above");
        below.compact().expect("there is room");
        above.compact().expect("there is room");
        complete(&below, "below again");
        complete(&above, "above again");
        close(below);
        close(above);
        check_in(&path, &["above", "above again"]);
        unmount(&path);
        check_in(&path, &["below", "below again"]);
    });
}
