//! The random secrets of a store differ from any other store's, and its copies share some of them.

use std::collections::BTreeMap;
use std::path::Path;

use idemstore::redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use idemstore::{ManualClock, Timestamp};
use std::time::Duration;

use crate::stage::alone;
use crate::words::{close, complete, copy, directory, open, small};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const TABLE: TableDefinition<u64, u64> = TableDefinition::new("mine");
const SECRETS: [(&str, usize); 5] =
    [("key", 32), ("identity", 16), ("hash_key", 16), ("callee_key", 32), ("commit", 16)];

type Meta = BTreeMap<String, Vec<u8>>;

/// What identifies a vault's store. It is read from a copy, as the store may be open.
fn meta(path: &Path) -> Meta {
    let copied = directory();
    copy(path, &["vault.redb"], copied.path());
    let database = Database::open(copied.path().join("vault.redb")).expect("it is redb's");
    let meta = database.begin_read().expect("redb works").open_table(META).expect("it has one");
    let rows = meta.iter().expect("redb works").map(|row| {
        let (name, value) = row.expect("redb works");
        (name.value().to_owned(), value.value().to_vec())
    });
    rows.collect()
}

#[test]
fn two_stores_have_no_secret_in_common() {
    alone(|| {
        let directory = directory();
        let metas = ["one", "two", "three"].map(|name| {
            close(open(directory.path().join(name)));
            meta(&directory.path().join(name))
        });
        let mut drawn = Vec::new();
        for meta in &metas {
            for (name, len) in SECRETS {
                let secret = &meta[name];
                assert_eq!(secret.len(), len, "{name}");
                assert!(secret.iter().any(|byte| *byte != 0), "{name} is nothing");
                // No part of one is in another either.
                for part in secret.chunks(8) {
                    assert!(!drawn.contains(&part), "{name} was drawn before");
                    drawn.push(part);
                }
            }
        }
    });
}

#[test]
fn a_backup_has_a_key_of_its_own_and_the_rest_is_its_stores() {
    alone(|| {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let store = open(path("store"));
        complete(&store, "one");
        for name in ["backup", "another backup"] {
            store.backup(path(name)).expect("there is room");
        }
        close(store);
        let copied = open(path("backup"));
        copied.backup(path("backup of a backup")).expect("there is room");
        close(copied);
        let names = ["store", "backup", "another backup", "backup of a backup"];
        let metas = names.map(|name| meta(&path(name)));
        for (at, meta) in metas.iter().enumerate() {
            for before in &metas[..at] {
                for name in ["key", "commit"] {
                    assert_ne!(meta[name], before[name], "{name} of {}", names[at]);
                }
                for name in ["identity", "hash_key", "callee_key"] {
                    assert_eq!(meta[name], before[name], "{name} of {}", names[at]);
                }
            }
        }
    });
}

#[test]
fn each_commit_of_whatever_kind_has_a_name_of_its_own() {
    alone(|| {
        let directory = directory();
        let clock = ManualClock::new(Timestamp::from_unix_ms(1_000_000));
        let open = || {
            let builder = small().retention(Duration::from_secs(1)).clock(clock.clone());
            builder.open(directory.path()).expect("the store opens")
        };
        let mut before: Vec<(&str, Meta)> = Vec::new();
        let mut note = |what| {
            let meta = meta(directory.path());
            for (earlier, before) in &before {
                assert_ne!(meta["commit"], before["commit"], "{what} after {earlier}");
                for name in ["key", "identity", "hash_key", "callee_key"] {
                    assert_eq!(meta[name], before[name], "{what} after {earlier}");
                }
            }
            before.push((what, meta));
        };
        let store = open();
        note("made");
        complete(&store, "one");
        store.settle().expect("there is room");
        note("settled");
        clock.advance(Duration::from_secs(2));
        assert_eq!(store.sweep().expect("there is room"), 1);
        note("swept");
        store.compact().expect("there is room");
        note("made smaller");
        let written = store.transaction(|transaction| {
            transaction.open_table(TABLE)?.insert(1, 1)?;
            Ok::<_, redb::Error>(())
        });
        written.expect("it is written");
        note("written");
        let permit = crate::words::permit(&store, "two");
        let completed = permit.complete_with(|transaction| {
            transaction.open_table(TABLE)?.insert(2, 2)?;
            Ok::<_, redb::Error>("result")
        });
        completed.expect("it is completed");
        note("completed with a transaction");
        complete(&store, "three");
        close(store);
        note("closed");
        close(open());
        note("opened");
    });
}
