//! A disk in memory that keeps what was written apart from what was synced, and that fails when
//! it is told to.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idemstore::disk::{Disk, DiskFile};

use super::model::splitmix;

/// A simulated disk with one directory. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Looks at the disk after each operation that changes it.
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

#[derive(Debug, Default)]
struct State {
    locked: bool,
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Names as a power cut would leave them.
    durable_names: BTreeMap<String, Arc<Mutex<Content>>>,
    counts: Counts,
    fault: Option<Fault>,
    /// Whether an operation has failed.
    has_failed: bool,
    /// Which of the unsynced writes a sync that fails has made durable: a number decides.
    lossy_seed: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What a read sees.
    live: Vec<u8>,
    /// What was there at the last sync.
    durable: Vec<u8>,
    /// What was written since.
    pending: Vec<(u64, Vec<u8>)>,
}

/// What was done to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub log_writes: u64,
    pub vault_writes: u64,
    pub log_syncs: u64,
    pub vault_syncs: u64,
}

/// Which operation fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub on: Op,
    /// How many of them still succeed.
    pub after: u64,
    /// Whether all later ones fail too.
    pub for_good: bool,
    pub kind: io::ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    Sync,
    VaultSync,
    SetLen,
    /// A write of either kind, or a sync.
    Any,
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

    pub fn fail(&self, fault: Fault) {
        lock(&self.state).fault = Some(fault);
    }

    /// From now on a sync that fails is as Linux has it: what was written counts as clean, so that
    /// no later sync writes it, and a part of it has reached the disk all the same.
    pub fn lose_what_a_failed_sync_had(&self, seed: u64) {
        lock(&self.state).lossy_seed = Some(seed);
    }

    /// Shows the disk to `observer` after each operation that changes it.
    pub fn observe(&self, observer: impl FnMut(&Self) + Send + 'static) {
        *lock(&self.observer) = Some(Box::new(observer));
    }

    fn changed(&self) {
        // Taken out meanwhile, since it may well use this disk.
        let observer = lock(&self.observer).take();
        if let Some(mut observer) = observer {
            observer(self);
            *lock(&self.observer) = Some(observer);
        }
    }

    /// Whether an operation has failed, as it was told to.
    pub fn has_failed(&self) -> bool {
        lock(&self.state).has_failed
    }

    pub fn heal(&self) {
        lock(&self.state).fault = None;
    }

    /// The disk as a kill of the process leaves it: the page cache survives.
    pub fn after_kill(&self) -> Self {
        let state = lock(&self.state);
        Self::holding(
            state.names.iter().map(|(name, content)| (name.clone(), lock(content).live.clone())),
        )
    }

    /// The disk as a kill of the process leaves it to the next one on the same machine: what was
    /// not synced may still be lost by a power cut.
    pub fn after_kill_of_process(&self) -> Self {
        let state = lock(&self.state);
        let copies: BTreeMap<_, _> = state
            .names
            .values()
            .chain(state.durable_names.values())
            .map(|content| (Arc::as_ptr(content), Arc::new(Mutex::new(lock(content).clone()))))
            .collect();
        let copy = |names: &BTreeMap<String, Arc<Mutex<Content>>>| {
            let same = |content| copies.get(&Arc::as_ptr(content)).map(Arc::clone);
            names.iter().filter_map(|(name, file)| Some((name.clone(), same(file)?))).collect()
        };
        let state = State {
            names: copy(&state.names),
            durable_names: copy(&state.durable_names),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(state)), observer: Arc::default(), holds_lock: false }
    }

    /// The disk as a power cut leaves it. Of what was not synced each write is there or not, and
    /// is perhaps torn at a sector, as `choose` says with a number below its argument.
    pub fn after_power_cut(&self, mut choose: impl FnMut(u64) -> u64) -> Self {
        let state = lock(&self.state);
        Self::holding(
            state
                .durable_names
                .iter()
                .map(|(name, content)| (name.clone(), lock(content).torn(&mut choose))),
        )
    }

    fn holding(files: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        let names: BTreeMap<_, _> = files
            .map(|(name, bytes)| {
                let content = Content { live: bytes.clone(), durable: bytes, pending: Vec::new() };
                (name, Arc::new(Mutex::new(content)))
            })
            .collect();
        let state = State { durable_names: names.clone(), names, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), observer: Arc::default(), holds_lock: false }
    }

    /// All bytes of all files, as a read sees them.
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let state = lock(&self.state);
        state.names.iter().map(|(name, file)| (name.clone(), lock(file).live.clone())).collect()
    }

    /// Changes the bytes of one file behind the store's back.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = lock(&self.state);
        let mut content = lock(state.names.get(name).expect("the file is there"));
        change(&mut content.live);
        content.make_durable();
    }

    pub fn remove(&self, name: &str) {
        let mut state = lock(&self.state);
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let content = Content { live: bytes.clone(), durable: bytes, pending: Vec::new() };
        let content = Arc::new(Mutex::new(content));
        let mut state = lock(&self.state);
        state.durable_names.insert(name.to_owned(), Arc::clone(&content));
        state.names.insert(name.to_owned(), content);
    }

    fn handle(&self, name: &str, content: &Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            is_log: name.starts_with("log"),
            content: Arc::clone(content),
            disk: Self {
                state: Arc::clone(&self.state),
                observer: Arc::clone(&self.observer),
                holds_lock: false,
            },
        })
    }
}

impl Content {
    /// All of it, whatever was synced.
    fn make_durable(&mut self) {
        self.durable.clone_from(&self.live);
        self.pending.clear();
    }

    /// What was written since the last sync, or what `choose` takes of it.
    fn sync(&mut self, mut choose: impl FnMut() -> bool) {
        for (offset, written) in std::mem::take(&mut self.pending) {
            if choose() {
                overwrite(&mut self.durable, offset as usize, &written);
            }
        }
        self.durable.truncate(self.live.len());
    }

    fn set_len(&mut self, len: usize) {
        self.live.resize(len, 0);
        // A new length that is not synced is a matter of the vault alone, and redb syncs it before
        // it relies on it: it is taken as durable at once, longer but never shorter.
        if self.durable.len() < len {
            self.durable.resize(len, 0);
        }
        for (offset, written) in &mut self.pending {
            written.truncate(len.saturating_sub(*offset as usize));
        }
    }

    fn torn(&self, choose: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
        const SECTOR: usize = 512;
        let mut bytes = self.durable.clone();
        for (offset, written) in &self.pending {
            match choose(4) {
                0 => {}
                1 => {
                    // Each sector for itself; the file's length goes with the last one.
                    let mut at = *offset as usize;
                    let end = at + written.len();
                    while at < end {
                        let next = ((at / SECTOR + 1) * SECTOR).min(end);
                        if choose(2) == 0 {
                            let from = at - *offset as usize;
                            overwrite(&mut bytes, at, &written[from..from + (next - at)]);
                        }
                        at = next;
                    }
                }
                _ => overwrite(&mut bytes, *offset as usize, written),
            }
        }
        bytes
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    if bytes.len() < at + with.len() {
        bytes.resize(at + with.len(), 0);
    }
    bytes[at..at + with.len()].copy_from_slice(with);
}

impl State {
    fn check(&mut self, op: Op) -> io::Result<()> {
        let Some(fault) = &mut self.fault else { return Ok(()) };
        let meant = fault.on == op || (fault.on == Op::Any && op != Op::Read);
        if !meant {
            return Ok(());
        }
        if 0 < fault.after {
            fault.after -= 1;
            return Ok(());
        }
        let kind = fault.kind;
        self.has_failed = true;
        if !fault.for_good {
            self.fault = None;
        }
        Err(io::Error::new(kind, "simulated"))
    }
}

impl Disk for SimDisk {
    fn lock(&mut self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        self.holds_lock = true;
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = lock(&self.state);
        let content = state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(name, content))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.check(Op::Write)?;
        let content = Arc::<Mutex<Content>>::default();
        state.names.insert(name.to_owned(), Arc::clone(&content));
        drop(state);
        self.changed();
        Ok(self.handle(name, &content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check(Op::Write)?;
        let content = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), content);
        drop(state);
        self.changed();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check(Op::Sync)?;
        state.durable_names = state.names.clone();
        drop(state);
        self.changed();
        Ok(())
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        if self.holds_lock {
            lock(&self.state).locked = false;
        }
    }
}

#[derive(Debug)]
struct SimFile {
    is_log: bool,
    content: Arc<Mutex<Content>>,
    disk: SimDisk,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).live.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        lock(&self.disk.state).check(Op::Read)?;
        let content = lock(&self.content);
        let from = offset as usize;
        let bytes = content.live.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        state.check(Op::Write)?;
        if self.is_log {
            state.counts.log_writes += 1;
        } else {
            state.counts.vault_writes += 1;
        }
        drop(state);
        let mut content = lock(&self.content);
        overwrite(&mut content.live, offset as usize, bytes);
        content.pending.push((offset, bytes.to_vec()));
        drop(content);
        self.disk.changed();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.disk.state).check(Op::SetLen)?;
        lock(&self.content).set_len(len as usize);
        self.disk.changed();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let synced = lock(&self.disk.state).sync(self.is_log);
        match &synced {
            Ok(()) => lock(&self.content).sync(|| true),
            Err(failed) => {
                if let Some(mut seed) = failed.lossy_seed {
                    lock(&self.content).sync(|| {
                        seed = splitmix(seed);
                        seed % 2 == 0
                    });
                }
            }
        }
        self.disk.changed();
        synced.map_err(|failed| failed.error)
    }
}

struct FailedSync {
    error: io::Error,
    lossy_seed: Option<u64>,
}

impl State {
    fn sync(&mut self, is_log: bool) -> Result<(), FailedSync> {
        let checked = self
            .check(Op::Sync)
            .and_then(|()| if is_log { Ok(()) } else { self.check(Op::VaultSync) });
        checked.map_err(|error| FailedSync { error, lossy_seed: self.lossy_seed })?;
        if is_log {
            self.counts.log_syncs += 1;
        } else {
            self.counts.vault_syncs += 1;
        }
        Ok(())
    }
}
