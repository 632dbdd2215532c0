//! Rot behind an open store. redb checks its pages when it opens a file and not when it reads one,
//! so the store's own checks matter here: a checksum for each row, and a live table that knows
//! which records there must be.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use idemstore::sim::OpenOn;
use idemstore::{Error, Fingerprint, KeyInfo, ManualClock, Status, Store};

use super::{
    FRAMES_AT, Files, Image, Keys, LOGS, SEGMENT_HEADERS, VAULT, ask, disk_of, open_on, tally,
};
use crate::support::model::splitmix;
use crate::support::oracle::Truth;
use crate::support::{Answers, Bench, SimDisk, builder, key, more_than_a_page, size};

/// Everything in the image is in its vault, and the store is closed.
fn at_rest(image: &Image) -> Files {
    let disk = disk_of(&image.files);
    let store = open_on(disk.clone(), &image.clock).expect("the store opens");
    store.close().expect("the store closes");
    disk.bytes()
}

/// A store of these files that has no page in memory.
fn open_cold(files: &Files, clock: &ManualClock) -> (SimDisk, Store) {
    let disk = disk_of(files);
    let builder = builder(clock).cache_bytes(0);
    (disk.clone(), builder.open_on(disk).expect("the store opens"))
}

fn of_info(info: Option<KeyInfo>) -> Truth {
    let Some(info) = info else { return Truth::Free };
    match info.status() {
        Status::Completed => {
            Truth::Completed(info.completed().expect("it is completed").result().to_vec())
        }
        Status::NotKept => Truth::NotKept(info.not_kept().expect("it is one").result_len()),
        Status::Interrupted => Truth::Interrupted {
            attempt: info.attempts(),
            checkpoint: info.last_checkpoint().map(<[u8]>::to_vec),
        },
        other => panic!("nobody holds the key, and it is {other:?}"),
    }
}

fn assert_typed(error: &Error) {
    let is_typed = matches!(error, Error::Corrupt { .. } | Error::Storage(_) | Error::Poisoned(_));
    assert!(is_typed, "{error:?}");
}

/// Begins and looks up every key, and returns how many answers were errors.
fn ask_all(store: &Store, keys: &Keys) -> usize {
    let mut errors = 0;
    for (name, truth) in keys {
        let looked = store.get(&key(name)).map(of_info);
        for answer in [looked, ask(store, name)] {
            match answer {
                Ok(found) => assert!(found == *truth, "{name} is {found:?} and not {truth:?}"),
                Err(error) => {
                    assert_typed(&error);
                    errors += 1;
                }
            }
        }
    }
    errors
}

/// The result of a listing. Whatever it shows is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    All,
    Failed,
    /// A key was missing from it, or was listed twice.
    NotExact,
}

fn list(store: &Store, keys: &Keys) -> Listed {
    let mut shown = Keys::new();
    for info in store.keys() {
        let info = match info {
            Ok(info) => info,
            Err(error) => {
                assert_typed(&error);
                return Listed::Failed;
            }
        };
        let name = String::from_utf8_lossy(info.key().as_bytes()).into_owned();
        let truth = of_info(Some(info));
        assert_eq!(keys.get(&name), Some(&truth), "{name}");
        if shown.insert(name, truth).is_some() {
            // A page that leads back to an earlier one would be listed forever.
            return Listed::NotExact;
        }
    }
    let is_exact =
        keys.iter().all(|(name, truth)| *truth == Truth::Free || shown.contains_key(name));
    if is_exact { Listed::All } else { Listed::NotExact }
}

/// The results of rot behind an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Came {
    answers_failed: bool,
    listed: Listed,
    /// Whether the store couldn't be opened again.
    is_refused: bool,
}

fn rot_behind(image: &Image, files: &Files, damage: impl FnOnce(&SimDisk)) -> Came {
    let keys = image.states.last().expect("there is one");
    let (disk, store) = open_cold(files, &image.clock);
    let whole = disk.bytes()[VAULT].clone();
    damage(&disk);
    let errors = ask_all(&store, keys);
    let listed = list(&store, keys);
    // After a kill, redb checks every page again.
    let again = open_on(disk.after_kill(), &image.clock);
    let is_refused = again.is_none();
    assert!(again.is_none_or(|again| ask_all(&again, keys) == 0), "it was opened, and has failed");
    // redb can panic twice while it writes over rot, which aborts the process, and it writes when
    // it is closed too. So it is closed without rot by default; this switch is for seeing it
    // happen.
    let errors = errors + if size("ROT_WRITE_BEHIND", 0) == 0 { 0 } else { write(&store, keys) };
    disk.damage(VAULT, |bytes| *bytes = whole);
    let closed = store.close().err();
    let is_typed = |error| matches!(error, Error::OutcomeUnknown(_) | Error::Poisoned(_));
    assert!(closed.is_none_or(is_typed), "closing it has failed in another way");
    Came { answers_failed: 0 < errors, listed, is_refused }
}

/// Settles something, and returns how many answers have failed since.
fn write(store: &Store, keys: &Keys) -> usize {
    let written = store.begin(&key("new"), Fingerprint::of("new")).and_then(|begin| {
        begin.fresh().start().map(drop)?;
        store.settle()
    });
    written.as_ref().err().into_iter().for_each(assert_typed);
    ask_all(store, keys)
}

fn contained(what: &str, rot: impl FnOnce() -> Came) -> Came {
    catch_unwind(AssertUnwindSafe(rot))
        .unwrap_or_else(|_| panic!("a wrong answer or a panic after {what}"))
}

#[test]
fn a_bit_that_flips_in_the_vault_of_an_open_store_is_noticed_or_harmless() {
    let image = Image::new();
    let (files, seed) = (at_rest(&image), size("ROT_SEED", 1));
    let bits = files[VAULT].len() as u64 * 8;
    let work: Vec<_> = (0..size("ROT_FLIPS_BEHIND", 240)).collect();
    let tally = tally(&work, |at| {
        let bit = (splitmix(seed ^ splitmix(*at)) % bits) as usize;
        contained(&format!("the flip of bit {bit}, ROT_SEED={seed}"), || {
            rot_behind(&image, &files, |disk| {
                disk.damage(VAULT, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            })
        })
    });
    eprintln!("{tally:?}");
    assert_reached(&tally);
}

/// Answers that failed and answers that didn't, and stores that could be opened again or not.
fn assert_reached(tally: &BTreeMap<Came, usize>) {
    for wanted in [true, false] {
        assert!(tally.keys().any(|came| came.answers_failed == wanted), "{tally:?}");
        assert!(tally.keys().any(|came| came.is_refused == wanted), "{tally:?}");
        assert!(tally.keys().any(|came| (came.listed == Listed::All) == wanted), "{tally:?}");
    }
}

#[test]
fn a_page_that_is_lost_or_strays_behind_an_open_store_is_noticed_or_harmless() {
    let image = Image::new();
    let files = at_rest(&image);
    let pages = files[VAULT].len() / 4096;
    let work: Vec<_> =
        (1..pages).flat_map(|one| (0..pages).map(move |other| (one, other))).collect();
    let step = size("ROT_STRAY_STEP", 17) as usize;
    let work: Vec<_> = work.into_iter().step_by(step).collect();
    let tally = tally(&work, |(one, other)| {
        contained(&format!("page {other} instead of page {one}"), || {
            rot_behind(&image, &files, |disk| {
                disk.damage(VAULT, |bytes| {
                    // A page of zeros stands in for the header, which is not read from the disk
                    // again.
                    let page = if *other == 0 {
                        vec![0; 4096]
                    } else {
                        bytes[other * 4096..][..4096].to_vec()
                    };
                    bytes[one * 4096..][..4096].copy_from_slice(&page);
                });
            })
        })
    });
    eprintln!("{tally:?}");
    assert_reached(&tally);
}

#[test]
fn rot_in_the_log_of_an_open_store_harms_no_answer_and_not_the_vault() {
    let image = Image::new();
    let (files, seed) = (at_rest(&image), size("ROT_SEED", 1));
    let work: Vec<_> = (0..size("ROT_FLIPS_BEHIND", 240) / 3).collect();
    let tally = tally(&work, |at| {
        let (disk, store) = open_cold(&files, &image.clock);
        let mut keys = image.states.last().expect("there is one").clone();
        for name in ["new", "another"] {
            let permit = store.begin(&key(name), Fingerprint::of(name)).expect("begin answers");
            permit.fresh().complete(name).expect("it completes");
            keys.insert(name.to_owned(), Truth::Completed(name.into()));
        }
        let random = splitmix(seed ^ splitmix(*at));
        let log = LOGS[(random % 2) as usize];
        // In the header, in the frames that were just written, or anywhere.
        let within = [SEGMENT_HEADERS[0].end, FRAMES_AT + 300, files[log].len()][(at % 3) as usize];
        let bit = (splitmix(random) % (within as u64 * 8)) as usize;
        let what = format!("the flip of bit {bit} of {log}, ROT_SEED={seed}");
        disk.damage(log, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        assert_eq!(ask_all(&store, &keys), 0, "{what}");
        assert_eq!(list(&store, &keys), Listed::All, "{what}");
        store.close().expect("the store closes");
        let again = open_on(disk, &image.clock);
        let is_refused = again.is_none();
        let is_header = |byte: usize| SEGMENT_HEADERS.iter().any(|header| header.contains(&byte));
        assert_eq!(is_refused, is_header(bit / 8), "{what}");
        assert!(again.is_none_or(|store| ask_all(&store, &keys) == 0), "{what}");
        is_refused
    });
    assert_eq!(tally.len(), 2, "{tally:?}");
}

/// An open store with one rotten key in its vault.
fn rotten_key() -> (SimDisk, ManualClock, Store) {
    let bench = Bench::new();
    for name in ["the first key", "the second key", "the third key"] {
        bench.complete(name, "request", "result");
    }
    more_than_a_page(&bench);
    let bench = bench.reopen();
    let Bench { disk, clock, store, .. } = bench;
    store.close().expect("the store closes");
    let (disk, store) = open_cold(&disk.bytes(), &clock);
    disk.damage(VAULT, |bytes| {
        // Each copy of it, one of which is in use.
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(b"the second key") {
                bytes[at] ^= 1;
            }
        }
    });
    let asked = store.begin(&key("the second key"), Fingerprint::of("request"));
    assert!(matches!(asked, Err(Error::Corrupt { .. })), "{asked:?}");
    (disk, clock, store)
}

#[test]
fn a_settle_that_writes_a_rotten_row_anew_does_not_make_it_good() {
    let (disk, clock, store) = rotten_key();
    let other = store.begin(&key("the fourth key"), Fingerprint::of("request"));
    other.expect("begin answers").fresh().complete("result").expect("it completes");
    store.close().expect("the store closes");
    let Some(store) = open_on(disk, &clock) else { return };
    match store.begin(&key("the second key"), Fingerprint::of("request")) {
        Err(error) => assert_typed(&error),
        Ok(begin) => assert_eq!(begin.replay().result(), b"result"),
    }
}

#[test]
fn a_listing_does_not_pass_over_a_rotten_row() {
    let (_, _, store) = rotten_key();
    let listed = store.keys().collect::<Result<Vec<_>, _>>();
    assert!(listed.is_err(), "{} keys are listed", listed.expect("it is right").len());
}
