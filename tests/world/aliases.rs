//! A store that several names lead to is one store, and locked under each of them.

use std::fs;
use std::path::Path;

use idemstore::{OpenError, Store};

use crate::clerk::Clerk;
use crate::stage::{alone, among_own_mounts, bind};
use crate::words::{
    FILES, check, check_in, check_unchanged, close, complete, copy, directory, look, open, refused,
    small,
};

const NAME: &str = "key";

fn store_with_key(path: &Path) -> Store {
    let store = open(path);
    complete(&store, NAME);
    store
}

/// Both another process and this one find the store locked at this path.
fn check_locked(path: &Path) {
    let error = refused(small(), path);
    assert!(matches!(error, OpenError::Locked), "{}: {error:?}", path.display());
    Clerk::hire().hears(&format!("open-found {}", path.display()), "Locked");
}

#[test]
fn a_store_is_locked_under_each_name_of_each_of_its_files() {
    alone(|| {
        let directory = directory();
        let path = directory.path().join("store");
        let store = store_with_key(&path);
        for name in FILES {
            let another = directory.path().join(format!("with its {name}"));
            copy(&path, &FILES, &another);
            fs::remove_file(another.join(name)).expect("it is ours");
            fs::hard_link(path.join(name), another.join(name)).expect("links work here");
            let before = look(&path);
            check_locked(&another);
            check_unchanged(&path, &before);
        }
        complete(&store, "after");
        close(store);
        check_in(&path, &[NAME, "after"]);
    });
}

#[test]
fn a_store_is_locked_wherever_it_or_one_of_its_files_is_mounted_too() {
    among_own_mounts(|| {
        let directory = directory();
        let (path, mounted) = (directory.path().join("store"), directory.path().join("mounted"));
        fs::create_dir(&mounted).expect("there is room for a directory");
        let store = store_with_key(&path);
        bind(&path, &mounted);
        check_locked(&mounted);
        for name in FILES {
            let another = directory.path().join(format!("with its {name}"));
            copy(&path, &FILES, &another);
            bind(&path.join(name), &another.join(name));
            let before = look(&path);
            check_locked(&another);
            check_unchanged(&path, &before);
        }
        complete(&store, "after");
        close(store);
        // And the other way round.
        let store = open(&mounted);
        check(&store, [NAME, "after"]);
        check_locked(&path);
        close(store);
        check_in(&path, &[NAME, "after"]);
    });
}
