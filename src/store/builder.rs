//! How a store is opened.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::Store;
use crate::clock::{Clock, Stamp, SystemClock, Terms, Time, Untimely};
use crate::error::OpenError;
use crate::limits::{
    CACHE_BYTES_DEFAULT, KEPT_BYTES_MIN, KEYS_MAX_DEFAULT, LOG_BYTES_DEFAULT, LOG_BYTES_MAX,
    LOG_BYTES_MIN, RESULT_LEN_DEFAULT, STARTS_MAX, result_len_max, segment_len,
};
use crate::local::disk::{Directory, Disk, Memory};
use crate::local::files::{self, Found, Temporary};
use crate::local::journal::{self, Journal};
use crate::local::log::Log;
use crate::local::room::Bounds;
use crate::local::vault::{Meta, Secrets, Vault};
use crate::local::wake::Wake;
use crate::local::{Engine, Options, sweeper};
use crate::observe;
use crate::sync::{Arc, Mutex};

const RETENTION_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long another may keep the store locked: as long as a program takes to end that a new one
/// follows.
const WAIT_FOR_LOCK_DEFAULT: Duration = Duration::from_secs(10);

/// Options of a store. Each has a default that suits most.
///
/// ```
/// use idemstore::Store;
/// use std::time::Duration;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let store = Store::builder()
///     .retention(Duration::from_secs(7 * 24 * 60 * 60))
///     .result_len_max(64 * 1024)
///     .open(path)?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    retention: Duration,
    /// As it was asked for.
    result_len_max: Option<usize>,
    keys_max: usize,
    bytes_max: Option<u64>,
    scope_bytes_max: Option<u64>,
    log_bytes: u64,
    cache_bytes: usize,
    background_thread: bool,
    create: bool,
    create_new: bool,
    wait_for_lock: Duration,
    clock: Option<Arc<dyn Clock>>,
    terms: Terms,
    hash_mask: u64,
    starts_max: usize,
}

impl Store {
    /// Opens the store in this directory, and makes it if it is not there.
    ///
    /// What an earlier run has started and not completed is interrupted from now on: the lock on
    /// the directory proves that no other process has it, and that no handle of it lives in this one.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// A store in memory with the default options, for tests of what uses a store. It keeps nothing.
    ///
    /// # Errors
    ///
    /// As [`Builder::open_in_memory`], which takes options.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::builder().open_in_memory()
    }

    /// A store with other than the default options.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            retention: RETENTION_DEFAULT,
            result_len_max: None,
            keys_max: KEYS_MAX_DEFAULT,
            bytes_max: None,
            scope_bytes_max: None,
            log_bytes: LOG_BYTES_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            background_thread: true,
            create: true,
            create_new: false,
            wait_for_lock: WAIT_FOR_LOCK_DEFAULT,
            clock: None,
            terms: Terms::default(),
            hash_mask: u64::MAX,
            starts_max: STARTS_MAX,
        }
    }
}

impl Builder {
    /// How long a key stays used, from the first `begin` that started; 24 hours by default.
    ///
    /// What is stored keeps the retention that it was begun with.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// The longest result that is taken, in bytes; by default 1 MiB, or what the store's log takes if
    /// that is less. A log takes a little less than half of its bytes, and at most 64 MiB.
    pub fn result_len_max(mut self, bytes: usize) -> Self {
        self.result_len_max = Some(bytes);
        self
    }

    /// The most keys, stored or held by a permit; 100 million by default. A `begin` of one more is
    /// refused as overloaded. What has expired does not count: it is swept when its room is needed.
    /// Memory is 16 bytes a record in a hash table, so 20 to 39 with its spare room.
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }

    /// The most bytes that all keys may count for; any number by default. A `begin` of one more key
    /// is refused as overloaded.
    ///
    /// A key that is completed counts with its result. Any other counts with the longest result that
    /// the store takes, so that it can always be completed: a store that is to run many operations at
    /// one time has a [`result_len_max`](Self::result_len_max) that suits its results. To that come
    /// the key, its scope and 128 bytes. What has expired does not count. The files are larger than
    /// this: they have the log, and a result of more than 512 bytes takes up to twice its length.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// The same for the keys of one scope: each scope has so many bytes of its own. Keys without a
    /// scope are one scope too.
    pub fn scope_bytes_max(mut self, bytes: u64) -> Self {
        self.scope_bytes_max = Some(bytes);
        self
    }

    /// The most bytes that a **new** store's log takes on disk, in two segments; 32 MiB by default. It
    /// bounds the results that are kept in memory until they are settled. An existing store keeps
    /// the bound it was made with, whatever is given here.
    ///
    /// The log starts with room for the longest result in each segment. A segment that was filled
    /// before it was settled for its age is made twice as long, if there is room on the disk, and
    /// stays so.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Memory for redb's page cache, in bytes; 64 MiB by default.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Whether a background thread settles the log, sweeps expired records, and writes down within a
    /// second that the wall clock has moved; it does by default. Without it a full log is settled by
    /// the call that finds it full, sweeping is left to [`Store::sweep`], and the next write has what
    /// the wall clock shows.
    #[doc(alias = "sweeper")]
    pub fn background_thread(mut self, run: bool) -> Self {
        self.background_thread = run;
        self
    }

    /// Whether a store is made if there is none; it is by default.
    ///
    /// A service says `false`. A path that is wrong, or a volume that is not mounted yet, is then an
    /// error, and not a new store in which every key is free.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether a new store is made, and one that is there refused. [`Builder::create`] counts for
    /// nothing then.
    pub fn create_new(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }

    /// How long an open waits while another has the store open; 10 seconds by default. So a program
    /// can be started while the one that it follows is still ending, on the same machine.
    pub fn wait_for_lock(mut self, wait: Duration) -> Self {
        self.wait_for_lock = wait;
        self
    }

    /// The farthest that the wall clock may have moved since the store was written last, in either
    /// direction; any distance by default. The time for which a store was closed is part of it, so
    /// choose more than the longest pause that there is.
    pub fn clock_jump_max(mut self, max: Duration) -> Self {
        self.terms.jump_max = Some(max);
        self
    }

    /// Takes a wall clock for right that is behind the store's time; it is not by default.
    ///
    /// A wall clock that was far ahead once takes the store's time with it, which never runs back.
    /// Until the wall has caught up, time goes by for the store only while it is open. This sets the
    /// store's time back to the wall. Use it once, when the clock is known to be right: an operation
    /// that the store counts as begun in the future is then kept for so much longer.
    pub fn accept_clock(mut self, accept: bool) -> Self {
        self.terms.accept = accept;
        self
    }

    /// Where the store gets the time from; a [`SystemClock`] by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes keys collide in the live table, by the bits of their hash that are left.
    pub(crate) fn colliding(mut self, mask: u64) -> Self {
        self.hash_mask = mask;
        self
    }

    /// Most starts that wait for an fsync at one time.
    pub(crate) fn queueing(mut self, max: usize) -> Self {
        self.starts_max = max;
        self
    }

    /// Opens the store in this directory, and makes it if it is not there, with all that is missing
    /// of its path.
    ///
    /// The directory is found by its path once, now. Whatever becomes of the path later, the store
    /// stays in that directory; elsewhere than on Unix, it follows the path.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do. Files that are there when an open is refused are left as they were.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store, OpenError> {
        self.open_disk(Directory::new(path.as_ref()))
    }

    /// Makes a store in memory, which ends with its last handle. It is for tests of what uses a store,
    /// and keeps nothing.
    ///
    /// # Errors
    ///
    /// [`OpenError`], for an option that is out of its range or a thread that cannot be started.
    pub fn open_in_memory(self) -> Result<Store, OpenError> {
        self.create(true).open_disk(Memory::default())
    }

    /// Opens the store on a disk.
    pub(crate) fn open_disk(self, mut disk: impl Disk) -> Result<Store, OpenError> {
        self.enter(&mut disk)?;
        // First without the lock, whose file would be one more in a directory that is refused.
        match Found::in_directory(&disk, false).and_then(|found| self.check_found(found)) {
            // Somebody may just be making the store.
            Err(OpenError::NotFound | OpenError::Corrupt { .. })
                if files::may_be_changing(&disk) => {}
            looked => looked?,
        }
        let signed = disk.lock(self.wait_for_lock);
        let signed = signed.map_err(|error| OpenError::io("lock the store's directory", error))?;
        let found = Found::in_directory(&disk, signed)?;
        self.check_found(found)?;
        match found {
            Found::Nothing => self.make(&disk)?,
            Found::Unnamed => name_new(&disk)?,
            // The open that gave the files their names may have ended before they were durable, and
            // nothing must be acknowledged in a store that a power cut could leave without them.
            Found::Store => {
                disk.sync_names().map_err(|error| OpenError::io("sync the directory", error))?;
            }
        }
        self.start(Arc::new(disk))
    }

    /// Enters the directory, and makes it if it is missing and a store is to be made.
    fn enter(&self, disk: &mut impl Disk) -> Result<(), OpenError> {
        let failed = |error| OpenError::io("open the store's directory", error);
        match disk.enter(false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.check_found(Found::Nothing)?;
                // What would be refused later is refused before the directory is made.
                self.begin()?;
                disk.enter(true).map_err(failed)
            }
            entered => entered.map_err(failed),
        }
    }

    fn check_found(&self, found: Found) -> Result<(), OpenError> {
        match found {
            Found::Store if self.create_new => Err(OpenError::Exists),
            Found::Nothing if !self.create && !self.create_new => Err(OpenError::NotFound),
            Found::Store | Found::Unnamed | Found::Nothing => Ok(()),
        }
    }

    /// The time at which a store is made, if it can be made with these options.
    fn begin(&self) -> Result<Stamp, OpenError> {
        bounded("log_bytes", self.log_bytes, LOG_BYTES_MIN, LOG_BYTES_MAX)?;
        self.result_len_max_in(self.log_bytes)?;
        let time = Time::begin(self.time_source()).map_err(untimely(self.terms))?;
        Ok(time.stamp())
    }

    /// Makes an empty store.
    fn make(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        let stamp = self.begin()?;
        files::remove_temporary(disk)?;
        let secrets = Secrets::draw().map_err(|error| OpenError::io("draw a secret", error))?;
        let meta = Meta { secrets, settled: 0, stamp, next_serial: 0, is_current: true };
        let segment_len = segment_len(self.log_bytes, self.result_len_max_in(self.log_bytes)?);
        let key = &meta.secrets.key;
        let made = Log::create(disk, Temporary::New, key, self.log_bytes, segment_len)
            .and_then(|()| Vault::create(disk, Temporary::New, self.cache_bytes, &meta))
            .and_then(|()| name_new(disk));
        made.map_err(|error| error.needing(2 * segment_len + KEPT_BYTES_MIN))
    }

    fn time_source(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::new()))
    }

    /// The longest result for a store with so large a log.
    fn result_len_max_in(&self, log_bytes: u64) -> Result<usize, OpenError> {
        let max = result_len_max(log_bytes);
        let Some(asked) = self.result_len_max else {
            return Ok(usize::try_from(max).unwrap_or(usize::MAX).min(RESULT_LEN_DEFAULT));
        };
        bounded("result_len_max", asked as u64, 0, max)?;
        Ok(asked)
    }

    /// The bounds of a store with so large a log.
    fn bounds(&self, log_bytes: u64) -> Result<Bounds, OpenError> {
        Ok(Bounds {
            keys: self.keys_max,
            bytes: self.bytes_max,
            scope_bytes: self.scope_bytes_max,
            result_len: self.result_len_max_in(log_bytes)?,
        })
    }

    fn start(self, disk: Arc<dyn Disk>) -> Result<Store, OpenError> {
        let bounds = |log_bytes| self.bounds(log_bytes);
        let found = journal::find(Arc::clone(&disk), self.cache_bytes, self.hash_mask, bounds)?;
        let result_len_max = found.result_len_max();
        let options = Options { retention: self.retention, result_len_max };
        let segment_len = segment_len(found.log_bytes_max(), options.result_len_max);
        let time = self.resume(found.stamp())?;
        let wake = Arc::<Wake>::default();
        // What was found is whole, so what is left of anything else is not needed.
        files::remove_temporary(&*disk)?;
        disk.sign().map_err(|error| OpenError::io("sign the store's directory", error))?;
        let exposed = disk.is_exposed();
        if exposed {
            observe::exposed();
        }
        drop(disk);
        let journal = Journal::open(
            found,
            Arc::clone(&time),
            Arc::clone(&wake),
            segment_len,
            self.starts_max,
        )?;
        let journal = Arc::new(journal);
        let sweeper = if self.background_thread {
            Some(sweeper::spawn(Arc::clone(&journal), Arc::clone(&wake))?)
        } else {
            None
        };
        let (index, sweeper) = (Arc::clone(journal.index()), Mutex::new(sweeper));
        let engine = Engine { index, journal, time, options, wake, sweeper, exposed };
        Ok(Store::new(Arc::new(engine)))
    }

    /// The store's time, on from what it has written last.
    fn resume(&self, last: Stamp) -> Result<Arc<Time>, OpenError> {
        let time = Time::resume(self.time_source(), last, self.terms);
        time.map(Arc::new).map_err(untimely(self.terms))
    }
}

/// Gives the files of a new store their names. Before that the next open would start afresh, after it
/// the store is whole.
fn name_new(disk: &dyn Disk) -> Result<(), OpenError> {
    Temporary::New.name_all(disk).map_err(|error| OpenError::io("name the store's files", error))
}

fn untimely(terms: Terms) -> impl Fn(Untimely) -> OpenError {
    move |untimely| match untimely {
        Untimely::Beyond => OpenError::Clock,
        Untimely::Jumped(moved_ms) => OpenError::ClockJump {
            moved_ms,
            max_ms: terms
                .jump_max
                .and_then(|max| u64::try_from(max.as_millis()).ok())
                .unwrap_or(u64::MAX),
        },
    }
}

fn bounded(option: &'static str, value: u64, min: u64, max: u64) -> Result<(), OpenError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(OpenError::Option { option, value, min, max })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("retention", &self.retention)
            .field("result_len_max", &self.result_len_max)
            .field("keys_max", &self.keys_max)
            .field("log_bytes", &self.log_bytes)
            .field("cache_bytes", &self.cache_bytes)
            .field("background_thread", &self.background_thread)
            .field("create", &self.create)
            .field("create_new", &self.create_new)
            .field("wait_for_lock", &self.wait_for_lock)
            .finish_non_exhaustive()
    }
}
