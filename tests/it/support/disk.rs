//! A disk in memory that tracks written and synced bytes separately, and that can be told to fail
//! or to lie.
//!
//! It does what a real disk under a real file system may do:
//!
//! - A kill leaves everything that was written. A power cut leaves what was synced, and of the
//!   rest:
//!   - each write is there, is missing, or is torn, so that each sector of 512 bytes is there or is
//!     not. All writes of all files are taken together: each survives independently, or nearly
//!     none or nearly all survive, or all up to one, which is torn, and nothing after it;
//!   - each new length is there or is not. If a shorter length is missing, the old bytes are back.
//!     A file may have its new length without the bytes, which are then zeros;
//!   - names (created, replaced, renamed) are there in order up to some point, as on a journalling
//!     file system; or, if requested, each survives independently. A file's name may survive
//!     whether or not its bytes do. A rename is atomic;
//!   - if requested, a sector that was being written holds garbage, zeros or a part of the write
//!     in the written range. That is more than the store expects ([`Image::BEYOND`]).
//! - Each operation of any kind may fail, once or from then on, with any kind of error. It has then
//!   done nothing, a part of a write, or all of its work. Or it panics.
//! - A sync of a file that fails leaves nothing, a part or all of it on the disk, and marks all of
//!   it as clean: no later sync makes up for it. Readers see what was written, or what the disk
//!   has, with either length.
//!
//! What it does not do: damage bytes that are not being written (`rot.rs` does), return bytes that
//! the file doesn't have, or lose names for good after a failed sync of names: the next successful
//! one makes them durable.

mod bytes;
mod content;
mod cut;
mod fault;
mod file;
mod names;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idemstore::sim::{Disk, DiskFile};

use bytes::Bytes;
use content::Content;
use cut::Cut;
use fault::Failure;
pub use fault::{Cache, FailedSync, Fault, Manner, Op, Persisted, SIMULATED};
use file::SimFile;
use names::Names;
use room::Room;

/// A simulated disk with one directory. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Is shown the disk after each operation that changes it.
    observer: Arc<Mutex<Option<Observer>>>,
    /// Whether this handle holds the directory's lock.
    holds_lock: bool,
}

type Observer = Box<dyn FnMut(&SimDisk) + Send>;

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
struct State {
    locked: bool,
    names: Names,
    files: Vec<Content>,
    counts: Counts,
    room: Room,
    longest_log_read: usize,
    /// The number of each operation, including those that failed.
    done: BTreeMap<Op, u64>,
    fault: Option<(Fault, Manner)>,
    /// Whether an operation has failed.
    has_failed: bool,
    /// Whether a write has run out of room.
    was_full: bool,
    failed_syncs: Option<FailedSync>,
    /// Syncs that report success and do nothing.
    lies: Option<Op>,
}

/// The operations on the disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub log_writes: u64,
    pub vault_writes: u64,
    pub log_syncs: u64,
    pub vault_syncs: u64,
}

/// How a power cut is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Whether each name survives independently.
    pub any_name: bool,
    /// Whether a sector that was being written may hold anything in the part being written.
    pub beyond: bool,
}

impl Image {
    pub const ANY_NAME: Self = Self { any_name: true, beyond: false };
    pub const BEYOND: Self = Self { any_name: true, beyond: true };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }

    /// The most bytes of the log that were read in one read.
    pub fn longest_log_read(&self) -> usize {
        lock(&self.state).longest_log_read
    }

    /// How many operations of this kind there were, including those that failed.
    pub fn operations(&self, kind: Op) -> u64 {
        let state = lock(&self.state);
        state.done.iter().filter(|(op, _)| kind.means(**op)).map(|(_, done)| done).sum()
    }

    pub fn fail(&self, fault: Fault) {
        self.fail_as(fault, Manner::Nothing);
    }

    /// The failing operation has done this much of its work.
    pub fn fail_as(&self, fault: Fault, manner: Manner) {
        lock(&self.state).fault = Some((fault, manner));
    }

    /// From now on a failed sync behaves as on Linux: what was written is marked clean, so no later
    /// sync writes it, but a part of it has still reached the disk.
    pub fn lose_what_a_failed_sync_had(&self, seed: u64) {
        self.failed_syncs(FailedSync { persisted: Persisted::Some(seed), cache: Cache::Keeps });
    }

    /// What a failed sync of a file leaves behind from now on. By default a later sync makes up for
    /// it.
    pub fn failed_syncs(&self, failed: FailedSync) {
        lock(&self.state).failed_syncs = Some(failed);
    }

    /// From now on, syncs of this kind report success and do nothing.
    pub fn lie(&self, syncs: Op) {
        lock(&self.state).lies = Some(syncs);
    }

    /// Shows the disk to `observer` after each operation that changes it.
    pub fn observe(&self, observer: impl FnMut(&Self) + Send + 'static) {
        *lock(&self.observer) = Some(Box::new(observer));
    }

    pub fn ignore(&self) {
        lock(&self.observer).take();
    }

    fn changed(&self) {
        // Taken out meanwhile, since the observer may well use this disk.
        let observer = lock(&self.observer).take();
        if let Some(mut observer) = observer {
            observer(self);
            *lock(&self.observer) = Some(observer);
        }
    }

    /// Whether an operation has failed on request.
    pub fn has_failed(&self) -> bool {
        lock(&self.state).has_failed
    }

    /// Whether a write has run out of room, even with the room that the store reserves.
    pub fn was_full(&self) -> bool {
        lock(&self.state).was_full
    }

    pub fn heal(&self) {
        lock(&self.state).fault = None;
    }

    /// Looks at the disk while nothing fails. A requested failure is for afterwards.
    pub fn spare<T>(&self, look: impl FnOnce() -> T) -> T {
        let fault = lock(&self.state).fault.take();
        let seen = look();
        lock(&self.state).fault = fault;
        seen
    }

    /// The disk as a kill of the process leaves it: the page cache survives.
    pub fn after_kill(&self) -> Self {
        let state = lock(&self.state);
        let live =
            |(name, file): (&String, &usize)| (name.clone(), state.files[*file].live().clone());
        Self::holding(state.names.live().iter().map(live))
    }

    /// The disk that the next process on the same machine finds after a kill: what was not synced
    /// may still be lost in a power cut.
    pub fn after_kill_of_process(&self) -> Self {
        let state = lock(&self.state);
        let (names, files) = (state.names.clone(), state.files.clone());
        let lies = state.lies;
        let room = state.room.kept_alone();
        Self::with(State { names, files, room, lies, ..State::default() })
    }

    /// The disk as a power cut leaves it. `choose` returns a number below its argument for each
    /// choice. If it always returns 0, only what was synced is there.
    pub fn after_power_cut(&self, choose: impl FnMut(u64) -> u64) -> Self {
        self.after_power_cut_as(Image::default(), choose)
    }

    pub fn after_power_cut_as(&self, image: Image, mut choose: impl FnMut(u64) -> u64) -> Self {
        let state = lock(&self.state);
        let mut cut = Cut::of_any_kind(&mut choose, &state.unsynced());
        state.after_cut(image, &mut cut)
    }

    /// As before, but each thing that was not synced is chosen independently: [`SimDisk::ways`]
    /// counts the possible outcomes.
    pub fn after_power_cut_of_each(
        &self,
        image: Image,
        mut choose: impl FnMut(u64) -> u64,
    ) -> Self {
        let state = lock(&self.state);
        state.after_cut(image, &mut Cut::each(&mut choose))
    }

    /// From now on the disk has room for this many more bytes.
    pub fn leave_free(&self, bytes: u64) {
        let mut state = lock(&self.state);
        let files: BTreeSet<_> = state.names.live().values().copied().collect();
        let files: Vec<_> =
            files.into_iter().map(|file| (file, state.files[file].live().len() as u64)).collect();
        state.room.bound(bytes, files.into_iter());
    }

    /// The store has no reserved room any more, as after a copy that left it out.
    pub fn lose_what_is_kept(&self) {
        lock(&self.state).room.kept = 0;
    }

    /// The number of outcomes that a power cut can have, at most, if it does no more than the store
    /// expects.
    pub fn ways(&self, image: Image) -> u64 {
        let state = lock(&self.state);
        let files: BTreeSet<_> = state.names.files().collect();
        let ways = files.into_iter().map(|file| state.files[file].ways());
        ways.fold(state.names.ways(image.any_name), u64::saturating_mul)
    }

    fn holding(files: impl Iterator<Item = (String, Bytes)>) -> Self {
        let mut state = State::default();
        let mut names = names::Map::new();
        for (name, bytes) in files {
            names.insert(name, state.files.len());
            state.files.push(Content::durable(bytes));
        }
        state.names = Names::durable(names);
        Self::with(state)
    }

    fn with(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), observer: Arc::default(), holds_lock: false }
    }

    /// All bytes of all files, as a read sees them.
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let state = lock(&self.state);
        let live =
            |(name, file): (&String, &usize)| (name.clone(), state.files[*file].live().to_vec());
        state.names.live().iter().map(live).collect()
    }

    /// Distinguishes these files from others.
    pub fn digest(&self) -> [u8; 32] {
        let state = lock(&self.state);
        let mut hasher = blake3::Hasher::new();
        for (name, file) in state.names.live() {
            hasher.update(&name.len().to_le_bytes()).update(name.as_bytes());
            state.files[*file].live().digest_into(&mut hasher);
        }
        *hasher.finalize().as_bytes()
    }

    /// Changes the bytes of one file behind the store's back.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.state);
        let file = *state.names.live().get(name).expect("the file is there");
        let mut bytes = state.files[file].live().to_vec();
        change(&mut bytes);
        state.files[file] = Content::durable(bytes.into());
    }

    pub fn remove(&self, name: &str) {
        lock(&self.state).names.remove(name);
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = lock(&self.state);
        let file = state.files.len();
        state.files.push(Content::durable(bytes.into()));
        state.names.put(name, file);
    }

    fn handle(&self, name: &str, file: usize) -> Arc<dyn DiskFile> {
        let (state, observer) = (Arc::clone(&self.state), Arc::clone(&self.observer));
        let disk = Self { state, observer, holds_lock: false };
        Arc::new(SimFile::new(name.starts_with("log"), file, disk))
    }

    /// Does an operation that changes the disk, or fails on request.
    fn change<T>(&self, op: Op, mut change: impl FnMut(&mut State, u64) -> T) -> io::Result<T> {
        let mut state = lock(&self.state);
        let (number, checked) = state.check(op);
        let changed = match checked {
            Ok(()) => Ok(change(&mut state, number)),
            Err(failure) => {
                if matches!(failure.manner, Manner::All | Manner::PanicLate) {
                    change(&mut state, number);
                }
                Err(failure)
            }
        };
        drop(state);
        self.changed();
        changed.or_else(Failure::say)
    }
}

impl State {
    /// Whether the operation succeeds, and its number.
    fn check(&mut self, op: Op) -> (u64, Result<(), Failure>) {
        let number = self.done.values().sum();
        *self.done.entry(op).or_default() += 1;
        let Some((fault, manner)) = &mut self.fault else { return (number, Ok(())) };
        if !fault.on.means(op) {
            return (number, Ok(()));
        }
        if 0 < fault.after {
            fault.after -= 1;
            return (number, Ok(()));
        }
        let error = io::Error::new(fault.kind, SIMULATED);
        let failure = Failure { error, manner: *manner };
        self.has_failed = true;
        if !fault.for_good {
            self.fault = None;
        }
        (number, Err(failure))
    }

    /// Takes room for a write. The reserved room is for the store's files, but not for one that is
    /// being created.
    fn take_room(&mut self, file: usize, offset: u64, len: u64) -> bool {
        let names = ["log-0", "log-1", "vault.redb"];
        let may_take = names.iter().any(|name| self.names.live().get(*name) == Some(&file));
        self.room.take(file, offset, len, may_take)
    }

    /// Frees the room of the file that loses this name.
    fn free(&mut self, name: &str) {
        if let Some(file) = self.names.live().get(name).copied() {
            self.room.cut(file, 0);
        }
    }

    fn lies(&self, op: Op) -> bool {
        self.lies.is_some_and(|lies| lies.means(op))
    }

    fn unsynced(&self) -> Vec<u64> {
        let files: BTreeSet<_> = self.names.files().collect();
        let files = files.into_iter().flat_map(|file| self.files[file].unsynced());
        let mut unsynced: Vec<_> = files.chain(self.names.unsynced()).collect();
        unsynced.sort_unstable();
        unsynced
    }

    fn after_cut(&self, image: Image, cut: &mut Cut<'_>) -> SimDisk {
        (cut.any_name, cut.beyond) = (image.any_name, image.beyond);
        let names = self.names.after_cut(cut);
        let files = names.into_iter().map(|(name, file)| (name, self.files[file].after_cut(cut)));
        SimDisk::holding(files)
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = lock(&self.state);
        if let (_, Err(failure)) = state.check(Op::List) {
            drop(state);
            return failure.say();
        }
        Ok(state.names.live().keys().cloned().collect())
    }

    /// It waits for nothing, and doesn't know signatures.
    fn lock(&mut self, _: Duration) -> io::Result<bool> {
        let mut state = lock(&self.state);
        if let (_, Err(failure)) = state.check(Op::Lock) {
            drop(state);
            return failure.say();
        }
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        self.holds_lock = true;
        Ok(false)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        if let (_, Err(failure)) = state.check(Op::Open) {
            drop(state);
            return failure.say();
        }
        let file = state.names.live().get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(name, *file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.change(Op::Create, |state, number| {
            let file = state.files.len();
            state.files.push(Content::default());
            state.names.create(number, name, file);
            file
        })?;
        Ok(self.handle(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let renamed = self.change(Op::Rename, |state, number| {
            state.free(to);
            state.names.rename(number, from, to)
        })?;
        if renamed { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(Op::Remove, |state, number| {
            state.free(name);
            state.names.unlink(number, name);
        })
    }

    fn keep(&self, bytes: u64) -> io::Result<()> {
        let keeps = lock(&self.state).room.keep(bytes);
        if keeps { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn kept(&self) -> u64 {
        lock(&self.state).room.kept
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change(Op::SyncNames, |state, _| {
            if !state.lies(Op::SyncNames) {
                state.names.sync();
            }
        })
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        if self.holds_lock {
            lock(&self.state).locked = false;
        }
    }
}
