//! An image is opened as a store, and checked against everything that was promised.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use idemstore::redb::{ReadableTable, TableError};
use idemstore::{Begin, Key, ManualClock, Store, Timestamp};

use crate::client::request;
use crate::image::Image;
use crate::tell::State;
use crate::teller::name;
use crate::truth::{Standing, Standings, Truth};
use crate::workload::{self, ROWS, STORE};

pub type Digest = [u8; 32];

/// Checks the images of one history, each of them once.
#[derive(Debug)]
pub struct Checker {
    /// An empty directory, reused for one image after the other.
    directory: PathBuf,
    /// Images that were checked, with the number of reports by then.
    checked: HashSet<(Digest, u64)>,
    /// The same for backups, with the time at which they were opened.
    checked_backups: HashSet<(Digest, String, u64)>,
    pub distinct: HashSet<Digest>,
    pub images: u64,
    pub opens: u64,
    /// Keys that were checked.
    pub keys: u64,
}

impl Checker {
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            checked: HashSet::new(),
            checked_backups: HashSet::new(),
            distinct: HashSet::new(),
            images: 0,
            opens: 0,
            keys: 0,
        }
    }

    /// Whether an image was not checked yet with the present reports.
    pub fn is_new(&mut self, image: &Image, truth: &Truth) -> bool {
        let digest = image.digest();
        self.distinct.insert(digest);
        self.checked.insert((digest, truth.told))
    }

    /// What is wrong with an image, if anything.
    pub fn check(&mut self, image: &Image, truth: &Truth) -> Result<(), String> {
        self.images += 1;
        self.check_store(&image.within(STORE), &truth.keys, truth.now)?;
        for (name, backup) in truth.backups.iter().filter(|(_, backup)| backup.is_made) {
            let copy = image.within(name);
            if self.checked_backups.insert((copy.digest(), name.clone(), truth.now)) {
                self.check_store(&copy, &backup.keys, truth.now)
                    .map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(())
    }

    fn check_store(&mut self, image: &Image, keys: &Standings, now: u64) -> Result<(), String> {
        let clock = ManualClock::new(Timestamp::from_unix_ms(now));
        // What an open has repaired stays repaired.
        let opens = if self.opens.is_multiple_of(4) { 2 } else { 1 };
        self.opens += 1;
        self.keys += keys.len() as u64;
        self.with_files(image, |path| {
            let mut before = None;
            for _ in 0..opens {
                let found = ask(path, keys, &clock)?;
                for (key, (state, row)) in &found {
                    check_standing(key, *state, *row, &keys[key], now)?;
                }
                if before.as_ref().is_some_and(|before| *before != found) {
                    return Err("the second open finds something else".to_owned());
                }
                before = Some(found);
            }
            Ok(())
        })
    }

    fn with_files(
        &self,
        image: &Image,
        check: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.directory.join("store");
        fs::create_dir(&path).and_then(|()| image.write(&path)).expect("there is room for images");
        let checked = catch_unwind(AssertUnwindSafe(|| check(&path)));
        fs::remove_dir_all(&path).expect("it was made here");
        checked.unwrap_or_else(|_| Err("the store has panicked".to_owned()))
    }
}

fn check_standing(
    key: &str,
    state: State,
    row: Option<u64>,
    standings: &[Standing],
    now: u64,
) -> Result<(), String> {
    if standings.iter().any(|standing| standing.allows(state, row, now)) {
        return Ok(());
    }
    Err(format!("{key} is `{state}` with row {row:?} at {now}, and may be {standings:?}"))
}

/// The state of a key, and its row.
type Found = BTreeMap<String, (State, Option<u64>)>;

/// Opens a store, and begins all keys.
fn ask(path: &Path, keys: &Standings, clock: &ManualClock) -> Result<Found, String> {
    let store = workload::open(path, clock, false).map_err(|error| format!("no open: {error}"))?;
    let rows = rows(&store)?;
    let mut found = Found::new();
    for key in keys.keys() {
        let state = state(&store, key).map_err(|error| format!("{key}: {error}"))?;
        found.insert(key.clone(), (state, rows.get(key).copied()));
    }
    let listed = store.keys().map(|info| info.map(|info| name(info.key())));
    let listed = listed.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if let Some(key) = listed.iter().chain(rows.keys()).find(|key| !keys.contains_key(*key)) {
        return Err(format!("there is {key}, which nobody has used"));
    }
    store.close().map_err(|error| format!("no close: {error}"))?;
    Ok(found)
}

/// The store's answer for a key, if its calls agree on that.
fn state(store: &Store, key: &str) -> Result<State, String> {
    let key = Key::new(key).expect("it was one before");
    let info = store.get(&key).map_err(|error| error.to_string())?;
    let state = State::of(info.as_ref()).ok_or("what is stored was never written")?;
    let begin = store.begin(&key, request(&key)).map_err(|error| error.to_string())?;
    let agrees = match (&state, &begin) {
        (State::Free, Begin::Fresh(_))
        | (State::Started { .. }, Begin::Interrupted(_))
        | (State::NotKept { .. }, Begin::NotKept(_)) => true,
        (State::Done { result, .. }, Begin::Replay(completed)) => {
            completed.result() == result.bytes()
        }
        _ => false,
    };
    if agrees { Ok(state) } else { Err(format!("it is `{state}` and begins as {begin:?}")) }
}

/// The caller's own rows.
fn rows(store: &Store) -> Result<BTreeMap<String, u64>, String> {
    let transaction = store.read_transaction().map_err(|error| error.to_string())?;
    let table = match transaction.open_table(ROWS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        table => table.map_err(|error| error.to_string())?,
    };
    let rows = table.iter().map_err(|error| error.to_string())?;
    rows.map(|row| row.map(|(key, number)| (key.value().to_owned(), number.value())))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
