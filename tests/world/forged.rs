//! Forged vaults, with valid checksums.

use std::fs;
use std::path::Path;

use idemstore::OpenError;
use idemstore::redb::{Database, TableDefinition};
use tempfile::TempDir;
use twox_hash::XxHash3_128;

use crate::stage::alone;
use crate::words::{
    answer, check, check_unchanged, close, complete, directory, look, open, permit, refused, small,
};

const RECORDS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("records");
const RESULTS: TableDefinition<u64, &[u8]> = TableDefinition::new("results");
const DOUBTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("idemstore-doubts");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// A closed store with some records, one of which has a separate result.
fn store() -> TempDir {
    let directory = directory();
    let store = open(directory.path());
    for number in 0..50 {
        complete(&store, &format!("key {number}"));
    }
    permit(&store, "long").complete(vec![9; 4096]).expect("there is room");
    close(store);
    directory
}

/// The vault is refused as damaged, and not one byte of it changes.
#[track_caller]
fn check_refused(path: &Path) {
    let before = look(path);
    let error = refused(small(), path);
    assert!(matches!(error, OpenError::Corrupt { file: "vault.redb", .. }), "{error:?}");
    check_unchanged(path, &before);
}

fn change_tables(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path.join("vault.redb")).expect("it is redb's");
    let transaction = database.begin_write().expect("redb works");
    change(&transaction);
    transaction.commit().expect("redb works");
}

#[test]
fn a_vault_without_its_records_is_refused() {
    alone(|| {
        let moved: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("moved");
        let directory = store();
        change_tables(directory.path(), |transaction| {
            transaction.rename_table(RECORDS, moved).expect("it is there");
        });
        check_refused(directory.path());
        change_tables(directory.path(), |transaction| {
            transaction.rename_table(moved, RECORDS).expect("it is there");
        });
        let store = open(directory.path());
        check(&store, ["key 0", "key 49"]);
    });
}

#[test]
fn a_vault_without_any_of_its_tables_is_refused() {
    alone(|| {
        type Delete = fn(&redb::WriteTransaction) -> bool;
        let deletes: [Delete; 4] = [
            |transaction| transaction.delete_table(RECORDS).expect("redb works"),
            |transaction| transaction.delete_table(RESULTS).expect("redb works"),
            |transaction| transaction.delete_table(DOUBTS).expect("redb works"),
            |transaction| transaction.delete_table(META).expect("redb works"),
        ];
        for (at, delete) in deletes.into_iter().enumerate() {
            let directory = store();
            change_tables(directory.path(), |transaction| assert!(delete(transaction)));
            let before = look(directory.path());
            let error = refused(small(), directory.path());
            // Without `meta` it could be any redb file.
            let refused = matches!(
                (at, &error),
                (0..3, OpenError::Corrupt { file: "vault.redb", .. })
                    | (3, OpenError::NotAStore { file: "vault.redb" })
            );
            assert!(refused, "{at}: {error:?}");
            check_unchanged(directory.path(), &before);
        }
    });
}

#[test]
fn a_vault_with_another_table_under_the_name_of_one_is_refused() {
    alone(|| {
        const OTHER: TableDefinition<u64, u64> = TableDefinition::new("records");
        let directory = store();
        change_tables(directory.path(), |transaction| {
            transaction.delete_table(RECORDS).expect("redb works");
            transaction.open_table(OTHER).expect("redb works").insert(1, 1).expect("redb works");
        });
        check_refused(directory.path());
    });
}

#[test]
fn a_vault_with_doubts_is_a_later_versions() {
    alone(|| {
        let directory = store();
        change_tables(directory.path(), |transaction| {
            let mut doubts = transaction.open_table(DOUBTS).expect("it is there");
            doubts.insert((1, 1), &b"doubt"[..]).expect("redb works");
        });
        check_refused(directory.path());
    });
}

/// Offsets in the first page of a redb file.
const PAGE_SIZE: usize = 12;
const HEADER_PAGES: usize = 16;
const SLOTS: [usize; 2] = [64, 192];
/// Offsets in a slot: page, checksum and length of the tree of tables, the page of the system's own
/// tree, and the checksum over all of that.
const USER_ROOT: usize = 8;
const USER_CHECKSUM: usize = 16;
const SYSTEM_ROOT: usize = 40;
const SLOT_CHECKSUM: usize = 112;
/// Offsets in the row of a table: its length, and a second length behind the page and checksum of
/// its root.
const TABLE_LENGTHS: [usize; 2] = [1, 34];

/// The bytes of a vault to forge.
struct Forged(Vec<u8>);

impl Forged {
    fn of(path: &Path) -> Self {
        Self(fs::read(path.join("vault.redb")).expect("it is there"))
    }

    fn write(&self, path: &Path) {
        fs::write(path.join("vault.redb"), &self.0).expect("there is room");
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.0[at..].first_chunk().expect("it is in the file"))
    }

    fn short(&self, at: usize) -> usize {
        let bytes = self.0[at..].first_chunk().expect("it is in the file");
        usize::try_from(u32::from_le_bytes(*bytes)).expect("it is a place in memory")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn seal_slot(&mut self, slot: usize) {
        let checksum = XxHash3_128::oneshot(&self.0[slot..slot + SLOT_CHECKSUM]);
        self.put(slot + SLOT_CHECKSUM, &checksum.to_le_bytes());
    }

    /// Where a page of the first region is.
    fn page(&self, number: u64) -> usize {
        let page_size = self.short(PAGE_SIZE);
        let index = usize::try_from(number & 0xF_FFFF).expect("it is a place in memory");
        let order = number >> 59;
        assert_eq!(number >> 20 & 0xF_FFFF, 0, "the file is small");
        page_size * (1 + self.short(HEADER_PAGES)) + index * (page_size << order)
    }

    /// Sets the length of the table of records, with valid checksums, in both slots: redb falls
    /// back to the other slot if it rejects one.
    fn set_records(&mut self, records: u64) {
        for slot in SLOTS {
            self.set_records_in(slot, records);
        }
    }

    fn set_records_in(&mut self, slot: usize, records: u64) {
        let page = self.page(self.number(slot + USER_ROOT));
        assert_eq!(self.0[page], 1, "a leaf has all the tables");
        let pairs = usize::from(u16::from_le_bytes([self.0[page + 2], self.0[page + 3]]));
        let ends = |at: usize| page + 4 + 4 * at;
        // First the ends of all keys, then those of all values.
        let mut key = page + 4 + 8 * pairs;
        let mut value = page + self.short(ends(pairs - 1));
        let mut found = false;
        for pair in 0..pairs {
            let key_end = page + self.short(ends(pair));
            let value_end = page + self.short(ends(pairs + pair));
            if &self.0[key..key_end] == b"records" {
                for at in TABLE_LENGTHS {
                    self.put(value + at, &records.to_le_bytes());
                }
                found = true;
            }
            (key, value) = (key_end, value_end);
        }
        assert!(found, "there is no table of records");
        let checksum = XxHash3_128::oneshot(&self.0[page..value]);
        self.put(slot + USER_CHECKSUM, &checksum.to_le_bytes());
        self.seal_slot(slot);
    }

    /// Sets the order of the root page at this offset of a slot.
    fn set_order(&mut self, slot: usize, root: usize, order: u64) {
        let number = self.number(slot + root) & !(0b1_1111 << 59) | order << 59;
        self.put(slot + root, &number.to_le_bytes());
        self.seal_slot(slot);
    }
}

#[test]
fn a_vault_that_says_how_many_records_it_has_is_not_believed() {
    alone(|| {
        let directory = store();
        // The true number is accepted, so what follows is refused because of its number.
        let mut forged = Forged::of(directory.path());
        forged.set_records(51);
        assert!(forged.0 == Forged::of(directory.path()).0, "the checksums are others");
        for records in [1 << 60, 1 << 28, 1 << 20, 1000, 52, 50, 1, 0, u64::MAX] {
            let mut forged = Forged::of(directory.path());
            forged.set_records(records);
            let forgery = copy_with(directory.path(), &forged);
            check_refused(forgery.path());
        }
        let store = open(directory.path());
        check(&store, ["key 0", "key 49"]);
    });
}

#[test]
fn a_vault_whose_roots_are_larger_than_its_file_is_refused() {
    alone(|| {
        let directory = store();
        for slot in SLOTS {
            for root in [USER_ROOT, SYSTEM_ROOT] {
                for order in [20, 31, 12] {
                    let mut forged = Forged::of(directory.path());
                    forged.set_order(slot, root, order);
                    let forgery = copy_with(directory.path(), &forged);
                    let before = look(forgery.path());
                    let limit = memory();
                    let opened = small().open(forgery.path());
                    assert!(opened.is_err(), "{slot} {root} {order}");
                    let used = memory() - limit;
                    assert!(used < 64 * 1024, "it took {used} KiB");
                    check_unchanged(forgery.path(), &before);
                }
            }
        }
        let store = open(directory.path());
        assert_eq!(answer(&store, "key 7"), "replay");
    });
}

/// The peak memory of this process, in KiB. It never falls.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix("kB")?.trim().parse().ok());
    peak.unwrap_or_default()
}

/// Another directory with this vault instead of its own.
fn copy_with(path: &Path, forged: &Forged) -> TempDir {
    let directory = directory();
    crate::words::copy(path, &crate::words::FILES, directory.path());
    forged.write(directory.path());
    directory
}
