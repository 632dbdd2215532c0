//! What a kill leaves of a compaction, and what older versions have left behind.

use std::fs;
use std::path::Path;

use crate::clerk::Clerk;
use crate::stage::{alone, until};
use crate::words::{FILES, check_in, close, complete, directory, fill, names, open};

/// Kills clerks in the middle of a compaction until one has left its file.
fn kill_in_compaction(path: &Path) {
    let file = path.join("vault.redb.compact");
    for _ in 0..100 {
        let mut clerk = Clerk::hire();
        clerk.hears(&format!("open {}", path.display()), "opened");
        clerk.tell("compact");
        // Some compactions finish before they are noticed.
        let mut looks = 0;
        until("the file of a compaction", || {
            looks += 1;
            (file.exists() || clerk.has_ended() || looks == 1000).then_some(())
        });
        clerk.kill();
        if file.exists() {
            return;
        }
    }
    panic!("no kill has left anything");
}

#[test]
fn what_a_killed_compaction_leaves_is_removed_by_the_next_open() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        complete(&store, "one");
        fill(&store, 12);
        close(store);
        for _ in 0..3 {
            kill_in_compaction(directory.path());
            let store = open(directory.path());
            assert_eq!(names(directory.path()), FILES);
            store.compact().expect("there is room");
            close(store);
            check_in(directory.path(), &["one", "large 0", "large 767"]);
        }
    });
}

#[test]
fn copies_that_older_versions_have_left_are_removed() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        complete(&store, "one");
        close(store);
        let left = FILES[1..].iter().flat_map(|name| {
            ["new", "init", "part", "compact"].map(|suffix| format!("{name}.{suffix}"))
        });
        for name in left {
            // With results of clients in it.
            let copied =
                fs::copy(directory.path().join("vault.redb"), directory.path().join(&name));
            copied.expect("there is room");
        }
        check_in(directory.path(), &["one"]);
        assert_eq!(names(directory.path()), FILES);
    });
}

#[test]
fn what_is_not_a_stores_own_stays_where_it_is() {
    alone(|| {
        let directory = directory();
        let store = open(directory.path());
        complete(&store, "one");
        close(store);
        let others = ["log-2.new", "notes.new", "vault.redb.old"];
        for name in others {
            fs::write(directory.path().join(name), "mine").expect("there is room");
        }
        check_in(directory.path(), &["one"]);
        for name in others {
            let kept = fs::read(directory.path().join(name)).expect("it is there");
            assert_eq!(kept, b"mine", "{name}");
        }
    });
}
