//! A store is created where one is wanted, and nowhere else.

use std::fs;
use std::path::Path;

use idemstore::{OpenError, Store};

use crate::clerk::Clerk;
use crate::stage::{alone, among_own_mounts, mount};
use crate::words::{
    check_in, check_unchanged, close, complete, directory, look, names, open, refused, small,
};

#[test]
fn no_store_is_made_where_there_should_be_one() {
    alone(|| {
        let directory = directory();
        let (missing, empty) = (directory.path().join("missing"), directory.path().join("empty"));
        fs::create_dir(&empty).expect("there is room for a directory");
        let before = look(directory.path());
        for path in [&missing, &missing.join("below"), &empty] {
            let error = refused(small().create(false), path);
            assert!(matches!(error, OpenError::NotFound), "{error:?}");
        }
        check_unchanged(directory.path(), &before);
        assert_eq!(names(&empty), [""; 0]);
        // Even with the options of a service.
        let error = refused(Store::builder().create(false), &empty);
        assert!(matches!(error, OpenError::NotFound), "{error:?}");
        assert_eq!(names(&empty), [""; 0]);
    });
}

#[test]
fn a_volume_that_is_not_mounted_is_no_new_store() {
    among_own_mounts(|| {
        let directory = directory();
        let volume = directory.path().join("volume");
        let path = volume.join("store");
        fs::create_dir(&volume).expect("there is room for a directory");
        // The mount point itself, and a directory in the volume.
        for path in [&volume, &path] {
            let error = refused(small().create(false), path);
            assert!(matches!(error, OpenError::NotFound), "{error:?}");
        }
        assert_eq!(names(&volume), [""; 0]);
        mount(16 * 1024 * 1024, &volume);
        let store = open(&path);
        complete(&store, "one");
        close(store);
        check_in(&path, &["one"]);
    });
}

#[test]
fn a_store_that_is_there_is_opened_with_either_option() {
    alone(|| {
        let directory = directory();
        let store = small().create_new(true).create(false).open(directory.path());
        let store = store.expect("it is made");
        complete(&store, "one");
        close(store);
        check_in(directory.path(), &["one"]);
        let before = look(directory.path());
        for builder in [small().create_new(true), small().create(false).create_new(true)] {
            let error = refused(builder, directory.path());
            assert!(matches!(error, OpenError::Exists), "{error:?}");
        }
        check_unchanged(directory.path(), &before);
    });
}

#[test]
fn no_store_is_made_among_files_of_others() {
    alone(|| {
        let things: [fn(&Path); 4] = [
            |path| fs::write(path.join("notes.txt"), "mine").expect("there is room"),
            |path| fs::write(path.join(".hidden"), "").expect("there is room"),
            |path| fs::create_dir(path.join("photos")).expect("there is room"),
            // Its name begins like one of a store's own names.
            |path| fs::write(path.join("vault.redb.bak"), "mine").expect("there is room"),
        ];
        for thing in things {
            let directory = directory();
            thing(directory.path());
            let before = look(directory.path());
            for builder in [small(), small().create_new(true)] {
                let error = refused(builder, directory.path());
                assert!(matches!(error, OpenError::NotEmpty), "{error:?}");
            }
            assert!(small().create(false).open(directory.path()).is_err(), "it opens");
            check_unchanged(directory.path(), &before);
        }
    });
}

#[test]
fn a_file_system_of_its_own_is_no_foreign_file() {
    alone(|| {
        let directory = directory();
        fs::create_dir(directory.path().join("lost+found")).expect("there is room");
        let error = refused(small().create(false), directory.path());
        assert!(matches!(error, OpenError::NotFound), "{error:?}");
        let store = open(directory.path());
        complete(&store, "one");
        close(store);
        check_in(directory.path(), &["one"]);
    });
}

#[test]
fn of_processes_that_make_one_store_at_once_one_makes_it() {
    alone(|| {
        let directory = directory();
        let mut clerks = [Clerk::hire(), Clerk::hire(), Clerk::hire()];
        for round in 0..20 {
            let path = directory.path().join(format!("below {round}")).join("store");
            for clerk in &mut clerks {
                clerk.tell(&format!("open-new {}", path.display()));
            }
            let mut said = clerks.each_mut().map(Clerk::hear);
            for (clerk, said) in clerks.iter_mut().zip(&said) {
                if said == "opened" {
                    clerk.hears("complete one", "completed");
                    clerk.hears("close", "closed 0");
                }
            }
            said.sort();
            assert_eq!(said[2], "opened", "nobody has made it: {said:?}");
            let others = ["Exists", "Locked"];
            assert!(said[..2].iter().all(|said| others.contains(&&**said)), "{said:?}");
            check_in(&path, &["one"]);
        }
    });
}

#[test]
fn processes_that_open_one_store_at_once_share_it_in_turns() {
    alone(|| {
        let directory = directory();
        let mut clerks = [Clerk::hire(), Clerk::hire()];
        for round in 0..10 {
            let path = directory.path().join(format!("below {round}")).join("store");
            for clerk in &mut clerks {
                for what in ["open-small ", "complete of ", "close"] {
                    let object = match what {
                        "open-small " => path.display().to_string(),
                        "close" => String::new(),
                        _ => format!("{:p}", std::ptr::from_ref(clerk)),
                    };
                    clerk.tell(&format!("{what}{object}"));
                }
            }
            for clerk in &mut clerks {
                let said = [clerk.hear(), clerk.hear(), clerk.hear()];
                assert_eq!(said, ["opened", "completed", "closed 0"]);
            }
            let keys = clerks.each_ref().map(|clerk| format!("of {:p}", std::ptr::from_ref(clerk)));
            check_in(&path, &keys.each_ref().map(String::as_str));
        }
    });
}

#[test]
fn a_process_killed_while_it_makes_a_store_leaves_nothing_in_the_way() {
    alone(|| {
        let directory = directory();
        for round in 0..20 {
            let path = directory.path().join(format!("store {round}"));
            let mut clerk = Clerk::hire();
            clerk.tell(&format!("open-new {}", path.display()));
            crate::stage::until("the store", || path.exists().then_some(()));
            clerk.kill();
            let store = open(&path);
            complete(&store, "one");
            close(store);
            check_in(&path, &["one"]);
        }
    });
}
