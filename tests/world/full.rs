//! A full disk with many callers: started operations finish, the loud scope leaves room for the
//! quiet one, and an open that finds no byte free still replays what is done.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Bound, Error, Fingerprint, Key, ManualClock, Store, Timestamp};

use crate::stage::{among_own_mounts, mount, say};
use crate::words::directory;

const RESULT_LEN: usize = 1024 * 1024;
const LOUD: usize = 60;
const QUIET: usize = 4;
const RETENTION: Duration = Duration::from_secs(3_600);

/// The completed keys, each with the byte that its result is made of.
type Done = BTreeMap<(&'static str, usize), u8>;

struct Volume<'v> {
    path: &'v Path,
    clock: ManualClock,
}

impl Volume<'_> {
    fn open(&self) -> Store {
        let builder = Store::builder().log_bytes(16 << 20).cache_bytes(4 << 20);
        let builder = builder.retention(RETENTION).clock(self.clock.clone());
        builder.open(self.path.join("store")).expect("the store opens")
    }

    /// Another program takes everything that is left.
    fn fill(&self) {
        let mut file = File::create(self.path.join("filler")).expect("there is room for a name");
        let block = [7; 4096];
        while file.write_all(&block).is_ok() {}
    }

    /// For the next round. A store that was full has free pages between others, which aren't room
    /// for a start: each round gets a new store.
    fn empty(&self) {
        fs::remove_file(self.path.join("filler")).expect("it is there");
        fs::remove_dir_all(self.path.join("store")).expect("it is ours");
    }
}

fn begin(store: &Store, (scope, at): (&str, usize)) -> Begin {
    let key = Key::scoped(scope, format!("{at}")).expect("it is a key");
    store.begin(&key, Fingerprint::NONE).expect("begin answers")
}

/// Starts and completes one operation; returns the bound, if it is refused.
fn operate(store: &Store, name: (&'static str, usize), done: &Mutex<Done>) -> Result<(), Bound> {
    let Begin::Fresh(permit) = begin(store, name) else { panic!("{name:?} is new") };
    let execution = match permit.start() {
        Ok(execution) => execution,
        Err(Error::Overloaded { bound }) => return Err(bound),
        Err(error) => panic!("{error:?}"),
    };
    let byte = name.1.to_le_bytes()[0];
    execution.complete(vec![byte; RESULT_LEN]).expect("what was started is finished");
    done.lock().expect("nobody panics").insert(name, byte);
    Ok(())
}

/// Callers of two scopes. The loud ones continue until they are refused.
fn crowd(store: &Store) -> Done {
    let (done, next) = (Mutex::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..LOUD {
            scope.spawn(|| {
                let loud = || operate(store, ("loud", next.fetch_add(1, Ordering::Relaxed)), &done);
                let bound = std::iter::repeat_with(loud).find_map(Result::err);
                assert!(matches!(bound, Some(Bound::Disk { .. })), "{bound:?}");
            });
        }
        for at in 0..QUIET {
            let done = &done;
            scope.spawn(move || {
                operate(store, ("quiet", at), done).expect("the quiet are refused nothing");
            });
        }
    });
    done.into_inner().expect("nobody panics")
}

fn check_replays(store: &Store, done: &Done) {
    for (name, byte) in done {
        let Begin::Replay(completed) = begin(store, *name) else { panic!("{name:?} is done") };
        assert!(completed.result() == vec![*byte; RESULT_LEN], "{name:?}");
    }
}

#[test]
fn what_was_started_is_finished_on_a_full_disk_and_replayed_by_the_next_open() {
    among_own_mounts(|| {
        let directory = directory();
        mount(600 << 20, directory.path());
        let clock = ManualClock::new(Timestamp::from_unix_ms(1_700_000_000_000));
        let volume = Volume { path: directory.path(), clock };
        let wanted = std::env::var("FULL_OPS").map_or(200, |ops| ops.parse().expect("a number"));
        let mut finished = 0;
        while finished < wanted {
            let store = volume.open();
            let done = crowd(&store);
            assert!(LOUD + QUIET < done.len(), "{}", done.len());
            finished += done.len();
            check_replays(&store, &done);
            volume.fill();
            check_replays(&store, &done);
            store.close().expect("the store closes on a full disk");

            let store = volume.open();
            check_replays(&store, &done);
            volume.clock.advance(RETENTION);
            while 0 < store.sweep().expect("it is swept") {}
            // The filler is still there: it is the sweep that has made room.
            let again = Mutex::default();
            for at in 0..8 {
                operate(&store, ("again", at), &again).expect("there is room");
            }
            check_replays(&store, &again.into_inner().expect("nobody panics"));
            volume.clock.advance(RETENTION);
            store.close().expect("the store closes");
            volume.empty();
        }
        say(&format!("{finished} operations of {} callers were finished", LOUD + QUIET));
    });
}
