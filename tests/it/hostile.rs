//! Files that redb considers intact, with numbers in them that no store has written.

use std::panic::catch_unwind;
use std::path::Path;

use idemstore::{Fingerprint, OpenError, Store};

use crate::support::key;

fn open(path: &Path) -> Result<Store, OpenError> {
    Store::builder().log_bytes(64 * 1024).result_len_max(1024).background_thread(false).open(path)
}

/// Changes a store behind its back and uses it: `true` if it was refused.
fn is_refused(what: &str, change: impl FnOnce(&redb::WriteTransaction)) -> bool {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = open(directory.path()).expect("it opens");
    let begin = |store: &Store, name| store.begin(&key(name), Fingerprint::NONE);
    drop(begin(&store, "k").map(drop));
    store.close().expect("it closes");
    let database = redb::Database::open(directory.path().join("vault.redb")).expect("redb works");
    let transaction = database.begin_write().expect("redb works");
    change(&transaction);
    transaction.commit().expect("redb works");
    drop(database);
    catch_unwind(|| match open(directory.path()) {
        Err(OpenError::Corrupt { .. }) => true,
        Err(other) => panic!("{other:?}"),
        Ok(store) => {
            for name in ["k", "l", "m"] {
                drop(begin(&store, name).map(drop));
            }
            drop(store.close());
            drop(open(directory.path()));
            false
        }
    })
    .unwrap_or_else(|_| panic!("a panic because of {what}"))
}

#[test]
fn numbers_of_meta_that_no_store_writes_are_refused() {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let mut failed = Vec::new();
    for field in ["settled", "next_serial"] {
        for value in [u64::MAX, u64::MAX - 1, u64::MAX - 2] {
            let refused = catch_unwind(|| {
                is_refused(field, |transaction| {
                    let mut meta = transaction.open_table(META).expect("redb works");
                    meta.insert(field, value.to_le_bytes().as_slice()).expect("redb works");
                })
            });
            if !matches!(refused, Ok(true)) {
                failed.push((field, value, refused.is_ok()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_row_with_a_number_that_no_store_writes_is_refused() {
    const RECORDS: redb::TableDefinition<(u64, u64), &[u8]> = redb::TableDefinition::new("records");
    let mut failed = Vec::new();
    for (expires_at, serial) in
        [(1 << 47, u64::MAX), (1 << 47, 1 << 48), (u64::MAX, 1), (1 << 48, 1)]
    {
        let refused = catch_unwind(|| {
            is_refused("a row", |transaction| {
                // An intact row, with the checksum for its own place.
                let mut row = vec![1, 2, 0, b'k', 0];
                row.extend([0; 32]);
                row.extend([0, 1, 0]);
                let mut place = [0; 32];
                place[..8].copy_from_slice(&expires_at.to_le_bytes());
                place[8..16].copy_from_slice(&u64::to_le_bytes(serial));
                let checksum = blake3::keyed_hash(&place, &row);
                row.extend(&checksum.as_bytes()[..8]);
                let mut records = transaction.open_table(RECORDS).expect("redb works");
                records.insert((expires_at, serial), row.as_slice()).expect("redb works");
            })
        });
        if !matches!(refused, Ok(true)) {
            failed.push((expires_at, serial, refused.is_ok()));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// All zeros, for which a file system allocates nothing: it would be a log that was never written
/// to, if it were not so long.
#[test]
fn a_log_longer_than_any_store_makes_is_not_read_to_its_end() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let log = std::fs::File::create(directory.path().join("log-1")).expect("there is room for it");
    log.set_len(1 << 42).expect("it has no blocks");
    let error = open(directory.path()).expect_err("it is none of a store's");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}
