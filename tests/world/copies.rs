//! A copy that was cut off, or assembled from two copies: it is refused, or has everything that was
//! acknowledged.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::stage::alone;
use crate::words::{FILES, answer, check, check_in, close, complete, copy, directory, open, small};

/// Related stores, as they are on the disk.
struct Family {
    directory: TempDir,
}

/// Everything that each of them had acknowledged.
const MEMBERS: [(&str, &[&str]); 5] = [
    // Killed: its last changes are only in the log.
    ("killed", &["one", "two", "three"]),
    ("closed", &["one", "two", "three"]),
    ("backup", &["one", "two"]),
    // A backup that was opened once, and got a separate key.
    ("used backup", &["one", "two", "four"]),
    ("stranger", &["five"]),
];

impl Family {
    fn make() -> Self {
        let family = Self { directory: directory() };
        let store = open(family.path("closed"));
        complete(&store, "one");
        store.settle().expect("there is room");
        complete(&store, "two");
        store.backup(family.path("backup")).expect("there is room");
        store.backup(family.path("used backup")).expect("there is room");
        complete(&store, "three");
        copy(&family.path("closed"), &FILES, &family.path("killed"));
        close(store);
        let used = open(family.path("used backup"));
        complete(&used, "four");
        close(used);
        let stranger = open(family.path("stranger"));
        complete(&stranger, "five");
        close(stranger);
        family
    }

    fn path(&self, member: &str) -> PathBuf {
        self.directory.path().join(member)
    }
}

/// It is refused, or has all of these keys and none of the others.
fn check_copy(path: &Path, keys: &[&str], what: &dyn std::fmt::Debug) -> bool {
    let Ok(store) = small().open(path) else { return false };
    for key in keys {
        assert_eq!(answer(&store, key), "replay", "{key} of {what:?}");
    }
    close(store);
    // The same after it has been opened.
    check_in(path, keys);
    true
}

/// Every set of files that a copy can leave, by its order and the moment of the cut.
fn subsets() -> impl Iterator<Item = Vec<&'static str>> {
    (0..1_usize << FILES.len()).map(|set| {
        let files = FILES.into_iter().enumerate();
        files.filter(|(at, _)| set & 1 << at != 0).map(|(_, name)| name).collect()
    })
}

#[test]
fn a_copy_that_lacks_files_is_refused_or_whole() {
    alone(|| {
        let family = Family::make();
        for (member, keys) in MEMBERS {
            let mut opened = Vec::new();
            // With nothing copied at all, there's nothing to recognise it by.
            for files in subsets().filter(|files| !files.is_empty()) {
                let to = directory();
                copy(&family.path(member), &files, to.path());
                if check_copy(to.path(), keys, &(member, &files)) {
                    opened.push(files);
                }
            }
            // The only file that can be missing is the lock.
            assert_eq!(opened, [&FILES[1..], &FILES[..]], "{member}");
        }
    });
}

#[test]
fn a_copy_whose_last_file_is_cut_is_refused_or_whole() {
    alone(|| {
        let family = Family::make();
        for (member, keys) in MEMBERS {
            for files in subsets() {
                for last in FILES.into_iter().filter(|name| !files.contains(name)) {
                    let whole = fs::read(family.path(member).join(last)).expect("it is there");
                    let len = whole.len();
                    for cut in [0, 1, 4096, len / 2, len - 4096.min(len / 2), len - 1] {
                        // An empty lock file alone isn't a store yet.
                        if cut < len && (cut, files.len()) != (0, 0) {
                            let to = directory();
                            copy(&family.path(member), &files, to.path());
                            fs::write(to.path().join(last), &whole[..cut]).expect("there is room");
                            check_copy(to.path(), keys, &(member, &files, last, cut));
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn logs_of_a_backup_do_not_fit_its_store() {
    alone(|| {
        let family = Family::make();
        let mixed = family.path("mixed");
        copy(&family.path("killed"), &FILES, &mixed);
        copy(&family.path("backup"), &["log-0", "log-1"], &mixed);
        let error = small().open(&mixed).expect_err("it is a mix");
        assert!(matches!(error, idemstore::OpenError::Corrupt { .. }), "{error:?}");
    });
}

#[test]
fn parts_of_stores_and_their_backups_are_refused_together() {
    alone(|| {
        let family = Family::make();
        let mut mixes = 0;
        for (zero, _) in MEMBERS {
            for (one, _) in MEMBERS {
                for (vault, keys) in MEMBERS {
                    // The killed store and the closed one are the same store: this isn't a mix.
                    let of_one =
                        |member: &'static str| if member == "closed" { "killed" } else { member };
                    if of_one(zero) == of_one(one) && of_one(one) == of_one(vault) {
                        continue;
                    }
                    for lock in [Some("killed"), Some("backup"), None] {
                        let to = directory();
                        copy(&family.path(zero), &["log-0"], to.path());
                        copy(&family.path(one), &["log-1"], to.path());
                        copy(&family.path(vault), &["vault.redb"], to.path());
                        if let Some(lock) = lock {
                            copy(&family.path(lock), &["lock"], to.path());
                        }
                        let what = (zero, one, vault, lock);
                        assert!(!check_copy(to.path(), keys, &what), "{what:?} is a store");
                        mixes += 1;
                    }
                }
            }
        }
        assert!(300 < mixes, "only {mixes} mixes");
    });
}

/// A copy that is cut off leaves some of the files as they were before.
#[test]
fn a_backup_that_is_put_back_over_its_store_is_refused_until_it_is_whole() {
    alone(|| {
        let family = Family::make();
        for (under, _) in MEMBERS {
            for (over, keys) in MEMBERS.into_iter().skip(2).filter(|(over, _)| *over != under) {
                for files in subsets().filter(|files| !files.is_empty()) {
                    let to = directory();
                    copy(&family.path(under), &FILES, to.path());
                    copy(&family.path(over), &files, to.path());
                    let is_mix = !FILES[1..].iter().all(|name| files.contains(name));
                    let what = (over, "over", under, &files);
                    if files == ["lock"] {
                        // All that it shows is that there is a store.
                        continue;
                    }
                    assert_eq!(check_copy(to.path(), keys, &what), !is_mix, "{what:?}");
                }
            }
        }
    });
}

#[test]
fn what_was_no_store_is_no_store_in_an_empty_directory() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        assert_eq!(answer(&store, "one"), "fresh");
        complete(&store, "one");
        check(&store, ["one"]);
    });
}
