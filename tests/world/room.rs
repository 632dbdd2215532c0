//! Places without room: a backup that fails or is killed leaves something that is refused and isn't
//! in the way, and a log that can't grow costs nothing.

use std::fs;
use std::path::Path;

use idemstore::{CopyError, Error, Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clerk::Clerk;
use crate::stage::{alone, among_own_mounts, mount, remount, until};
use crate::words::{
    answer, check, check_in, close, complete, directory, fill, names, open, small, start,
};

/// The directory of a failed backup is empty, or refused.
fn check_nothing(path: &Path) {
    if path.exists() && !names(path).is_empty() {
        let error = small().open(path).expect_err("it is no store");
        assert!(matches!(error, idemstore::OpenError::Corrupt { .. }), "{error:?}");
    }
}

/// Backs up a store where there is too little room, makes room, and tries again.
fn fail_and_do_again(store: &Store, to: &Path, make_room: impl FnOnce()) {
    let failed = store.backup(to).expect_err("there is no room");
    assert!(!matches!(failed, CopyError::Store(_)), "{failed:?}");
    assert_eq!(names(to), [""; 0], "something is left");
    complete(store, "after");
    make_room();
    store.backup(to).expect("there is room");
    check_in(to, &["before", "after"]);
}

#[test]
fn a_backup_without_room_leaves_nothing() {
    among_own_mounts(|| {
        let directory = directory();
        let to = directory.path().join("backup");
        fs::create_dir(&to).expect("there is room for a directory");
        let store = open(directory.path().join("store"));
        complete(&store, "before");
        fill(&store, 2);
        // Enough for the log and some of the vault, for a part of the log, and only for names.
        for pages in [64, 10, 2] {
            mount(pages * 4096, &to);
            let failed = store.backup(&to).expect_err("there is no room");
            assert!(matches!(failed, CopyError::Io(_) | CopyError::Storage(_)), "{failed:?}");
            assert_eq!(names(&to), [""; 0], "something is left, with {pages} pages");
            check(&store, ["before"]);
        }
        fail_and_do_again(&store, &to, || remount("remount,size=64m", &to));
        close(store);
    });
}

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).expect("it is less");
}

const LIMITED: &str = "IDEMSTORE_WORLD_LIMITED";

/// The shell ignores the signal that would end the process.
#[test]
fn a_backup_whose_file_may_not_grow_leaves_nothing() {
    if std::env::var_os(LIMITED).is_some() {
        return backup_within_limits();
    }
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    let name = "room::a_backup_whose_file_may_not_grow_leaves_nothing";
    let output = crate::stage::again(&wrapper, name).env(LIMITED, "").output();
    let output = output.expect("there is a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn backup_within_limits() {
    let directory = directory();
    let (path, to) = (directory.path().join("store"), directory.path().join("backup"));
    let store = open(&path);
    complete(&store, "before");
    fill(&store, 2);
    let vault = fs::metadata(path.join("vault.redb")).expect("it is there").len();
    // In the log, at once, in the middle of the vault, and one page before its end.
    for bytes in [0, 40 * 1024, 100 * 1024, vault / 2, vault - 4096] {
        limit_files(Some(bytes));
        let failed = store.backup(&to);
        limit_files(None);
        assert!(matches!(failed, Err(CopyError::Io(_))), "{failed:?}");
        assert_eq!(names(&to), [""; 0], "something is left, with {bytes} bytes");
        check(&store, ["before"]);
    }
    limit_files(Some(100 * 1024));
    fail_and_do_again(&store, &to, || limit_files(None));
    close(store);
}

/// Kills clerks in the middle of a backup until one has left the file `part`, and returns its path.
fn killed_with(directory: &Path, part: &str) -> std::path::PathBuf {
    let store = directory.join("store");
    for number in 0..100 {
        let to = directory.join(format!("backup {part} {number}"));
        let mut clerk = Clerk::hire();
        clerk.hears(&format!("open {}", store.display()), "opened");
        clerk.tell(&format!("backup {}", to.display()));
        until(part, || {
            (to.join(part).exists() || clerk.has_ended() || is_whole(&to)).then_some(())
        });
        clerk.kill();
        if !is_whole(&to) && to.join(part).exists() {
            return to;
        }
    }
    panic!("no kill has left {part}");
}

fn is_whole(path: &Path) -> bool {
    path.join("vault.redb").exists()
}

#[test]
fn a_backup_that_is_killed_is_refused_and_the_next_one_takes_its_place() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = open(&path);
        complete(&store, "before");
        fill(&store, 12);
        close(store);
        for part in ["log-0.part", "log-1.part", "vault.redb.part"] {
            let to = killed_with(directory.path(), part);
            let before = names(&to);
            check_nothing(&to);
            assert_eq!(names(&to), before, "a refused open has changed it");
            let store = open(&path);
            store.backup(&to).expect("it is nobody's");
            check_in(&to, &["before", "large 0"]);
            close(store);
        }
    });
}

#[test]
fn a_backup_into_a_place_that_is_taken_changes_nothing() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path().join("store"));
        complete(&store, "before");
        let another = directory.path().join("another");
        let taken = open(&another);
        complete(&taken, "of another");
        for is_open in [true, false] {
            let failed = store.backup(&another);
            assert!(matches!(failed, Err(CopyError::Exists)), "{is_open}: {failed:?}");
            if is_open {
                taken.settle().expect("there is room");
            }
        }
        close(taken);
        check_in(&another, &["of another"]);
        assert_eq!(answer(&store, "before"), "replay");
        assert!(!matches!(store.settle(), Err(Error::Poisoned(_))));
    });
}

#[test]
fn a_log_that_cannot_grow_stays_as_it_is_until_there_is_room() {
    among_own_mounts(|| {
        let directory = directory();
        let path = directory.path().join("store");
        fs::create_dir(&path).expect("there is room for a directory");
        // Room for a new log, a vault with one checkpoint and the reserve for the next, but not for
        // a longer log.
        mount(28 << 20, &path);
        let builder = || {
            Store::builder().log_bytes(64 << 20).result_len_max(4 << 20).background_thread(false)
        };
        let lens = || {
            ["log-0", "log-1"].map(|log| fs::metadata(path.join(log)).expect("it is there").len())
        };
        let store = builder().open(&path).expect("there is room");
        let first = lens();
        let mut execution = start(&store, "one");
        let mut go_on = |steps: std::ops::Range<u8>| {
            for step in steps {
                execution.checkpoint(vec![step; 1 << 20]).expect("the log has room");
            }
        };
        go_on(0..24);
        assert!(2 < store.stats().settles, "it was never full");
        assert_eq!(lens(), first);
        remount("remount,size=128m", &path);
        go_on(24..48);
        assert!(lens().iter().zip(first).all(|(now, first)| 2 * first <= *now), "{:?}", lens());
        assert_eq!(execution.last_checkpoint(), Some(vec![47; 1 << 20].as_slice()));
        drop(execution);
        close(store);
        let store = builder().open(&path).expect("it is whole");
        assert_eq!(answer(&store, "one"), "interrupted");
        close(store);
    });
}
