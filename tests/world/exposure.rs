//! Who else may read or write a store's files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::stage::alone;
use crate::words::{FILES, close, complete, directory, open};

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Whether an open reports that others may read or write the store.
fn is_exposed(path: &Path) -> bool {
    let store = open(path);
    let exposed = store.stats().exposed;
    close(store);
    exposed
}

#[test]
fn files_and_lock_are_their_owners_alone() {
    alone(|| {
        let directory = directory();
        let (path, copy) = (directory.path().join("store"), directory.path().join("copy"));
        let store = open(&path);
        complete(&store, "one");
        store.backup(&copy).expect("there is room");
        store.compact().expect("there is room");
        assert!(!store.stats().exposed);
        close(store);
        for path in [path, copy] {
            assert_eq!(mode(&path), 0o700);
            for name in FILES {
                assert_eq!(mode(&path.join(name)), 0o600, "{name}");
            }
            assert!(!is_exposed(&path));
        }
    });
}

#[test]
fn a_file_that_others_may_read_or_write_is_told_of() {
    alone(|| {
        let directory = directory();
        close(open(directory.path()));
        for name in FILES {
            let file = directory.path().join(name);
            for (bits, exposed) in [(0o666, true), (0o604, true), (0o602, true), (0o640, false)] {
                set(&file, bits);
                assert_eq!(is_exposed(directory.path()), exposed, "{name} with {bits:o}");
                // That is the owner's choice.
                assert_eq!(mode(&file), bits);
            }
            set(&file, 0o600);
        }
        assert!(!is_exposed(directory.path()));
    });
}

#[test]
fn a_directory_that_anybody_may_write_is_told_of() {
    alone(|| {
        let directory = directory();
        close(open(directory.path()));
        for (bits, exposed) in [(0o777, true), (0o703, true), (0o755, false), (0o700, false)] {
            set(directory.path(), bits);
            assert_eq!(is_exposed(directory.path()), exposed, "{bits:o}");
        }
    });
}
