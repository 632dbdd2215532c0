//! Opening a store.

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

/// How long an open waits for a locked store: long enough for a program to end while its successor
/// starts.
const WAIT_FOR_LOCK_DEFAULT: Duration = Duration::from_secs(10);

/// Options for opening a store. Each has a default that suits most programs.
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
    /// As requested, before the default is filled in.
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
    /// Opens the store in this directory, and creates it if it does not exist.
    ///
    /// Operations that an earlier run started and did not complete are interrupted from now on: the
    /// lock on the directory proves that no other process is running them, and that no handle to
    /// them is left in this process.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// Creates a store in memory with the default options, for testing code that uses a store.
    /// Nothing is kept when it's dropped.
    ///
    /// # Errors
    ///
    /// As [`Builder::open_in_memory`], which also accepts options.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::builder().open_in_memory()
    }

    /// Returns a builder, to open a store with other options than the defaults.
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
    /// Sets how long a key stays in use, counted from the `begin` that first started its operation;
    /// 24 hours by default.
    ///
    /// Stored operations keep the retention that they began with.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets the longest result and the longest checkpoint that the store accepts, in bytes. The
    /// default is 1 MiB, or the longest result that fits the store's log if that's less. A result
    /// can take up a little less than half of the log, and at most 64 MiB.
    pub fn result_len_max(mut self, bytes: usize) -> Self {
        self.result_len_max = Some(bytes);
        self
    }

    /// Sets the most keys that are stored or held by a permit; 100 million by default. A `begin`
    /// for one more key is refused as overloaded. Expired keys don't count: they're swept when
    /// their room is needed. In memory, each record takes 16 bytes of a hash table, which makes 20
    /// to 39 bytes with the table's spare room.
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }

    /// Sets the most bytes that all keys may count for; unlimited by default. A `begin` for one
    /// more key is refused as overloaded.
    ///
    /// A completed key counts with its result. Any other key counts with the longest result that
    /// the store accepts, so that it can always be completed: if a store runs many operations at a
    /// time, choose a [`result_len_max`](Self::result_len_max) that suits its results. Each key
    /// adds its own length, that of its scope, and 128 bytes. Expired keys don't count. The files
    /// are larger than this limit: they include the log, and a result of more than 512 bytes takes
    /// up to twice its length.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// Sets the same limit for each scope: the keys of every scope may count for this many bytes.
    /// Keys without a scope share one scope.
    pub fn scope_bytes_max(mut self, bytes: u64) -> Self {
        self.scope_bytes_max = Some(bytes);
        self
    }

    /// Sets the most bytes that the log of a **new** store takes on disk, in two segments; 32 MiB
    /// by default. This bounds the results that are kept in memory until they're settled. An
    /// existing store keeps the limit it was created with, whatever is given here.
    ///
    /// The log starts with room for the longest result in each segment. A segment that fills up
    /// before it's old enough to be settled is doubled in size, if the disk has room, and keeps
    /// that size.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Sets the memory for redb's page cache, in bytes; 64 MiB by default.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets whether a background thread settles the log, sweeps expired records, and writes down
    /// within a second that the wall clock has moved; `true` by default. Without it, a call that
    /// finds the log full settles it, sweeping is left to [`Store::sweep`], and a moved wall clock
    /// is written down with the next write.
    #[doc(alias = "sweeper")]
    pub fn background_thread(mut self, run: bool) -> Self {
        self.background_thread = run;
        self
    }

    /// Sets whether a store is created if there is none; `true` by default.
    ///
    /// A service should set this to `false`. A wrong path, or a volume that isn't mounted yet, is
    /// then an error instead of a new store in which every key is free.
    ///
    /// ```
    /// # use idemstore::{OpenError, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// let opened = Store::builder().create(false).open(&path);
    /// assert!(matches!(opened, Err(OpenError::NotFound)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether a new store must be created, and an existing one refused; `false` by default.
    /// If `true`, [`Builder::create`] has no effect.
    pub fn create_new(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }

    /// Sets how long an open waits while another handle has the store open; 10 seconds by default.
    /// This lets a program start while its predecessor on the same machine is still ending.
    pub fn wait_for_lock(mut self, wait: Duration) -> Self {
        self.wait_for_lock = wait;
        self
    }

    /// Sets how far the wall clock may have moved, in either direction, since the last write to the
    /// store; any distance by default. The time during which the store was closed counts, so choose
    /// more than the longest downtime.
    pub fn clock_jump_max(mut self, max: Duration) -> Self {
        self.terms.jump_max = Some(max);
        self
    }

    /// Sets whether to trust a wall clock that is behind the store's time; `false` by default.
    ///
    /// A wall clock that was once far ahead takes the store's time with it, and the store's time
    /// never runs back. Until the wall clock has caught up, the store's time advances only while
    /// the store is open. This option sets the store's time back to the wall clock. Use it once,
    /// when the clock is known to be right: an operation that then appears to have begun in the
    /// future is kept that much longer.
    pub fn accept_clock(mut self, accept: bool) -> Self {
        self.terms.accept = accept;
        self
    }

    /// Sets where the store gets the time from; a [`SystemClock`] by default.
    ///
    /// ```
    /// # use idemstore::{Begin, Fingerprint, Key, ManualClock, Store, Timestamp};
    /// # use std::time::Duration;
    /// let clock = ManualClock::new(Timestamp::from_unix_ms(1_000_000));
    /// let store = Store::builder()
    ///     .retention(Duration::from_secs(60))
    ///     .clock(clock.clone())
    ///     .open_in_memory()?;
    /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
    /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("it is new") };
    /// permit.complete("receipt 17")?;
    ///
    /// clock.advance(Duration::from_secs(60));
    /// assert!(matches!(store.begin(&key, request)?, Begin::Fresh(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes keys collide in the live table: `mask` says which bits of their hash are used.
    pub(crate) fn colliding(mut self, mask: u64) -> Self {
        self.hash_mask = mask;
        self
    }

    /// Sets the most starts that wait for an fsync at one time.
    pub(crate) fn queueing(mut self, max: usize) -> Self {
        self.starts_max = max;
        self
    }

    /// Opens the store in this directory. If it does not exist, it's created, with all missing
    /// directories of its path.
    ///
    /// The directory is looked up by its path once, now. Whatever happens to the path later, the
    /// store stays in that directory; on other systems than Unix, it follows the path.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do. A refused open leaves existing files as they were.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store, OpenError> {
        self.open_disk(Directory::new(path.as_ref()))
    }

    /// Creates a store in memory, for testing code that uses a store. It ends with its last handle,
    /// and nothing is kept.
    ///
    /// # Errors
    ///
    /// [`OpenError`], if an option is out of its range or a thread can't be started.
    pub fn open_in_memory(self) -> Result<Store, OpenError> {
        self.create(true).open_disk(Memory::default())
    }

    /// Opens the store on a disk.
    pub(crate) fn open_disk(self, mut disk: impl Disk) -> Result<Store, OpenError> {
        self.enter(&mut disk)?;
        // Look without the lock first: the lock's file would be one more in a directory that is
        // refused.
        match Found::in_directory(&disk, false).and_then(|found| self.check_found(found)) {
            // Another process may be creating the store right now.
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
            // The open that named the files may have ended before the names were durable. Nothing
            // may be acknowledged in a store whose files a power cut could still remove.
            Found::Store => {
                disk.sync_names().map_err(|error| OpenError::io("sync the directory", error))?;
            }
        }
        self.start(Arc::new(disk))
    }

    /// Enters the directory. If it's missing and a store is to be created, creates it.
    fn enter(&self, disk: &mut impl Disk) -> Result<(), OpenError> {
        let failed = |error| OpenError::io("open the store's directory", error);
        match disk.enter(false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.check_found(Found::Nothing)?;
                // Refuse bad options before the directory is created.
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

    /// Returns the time at which a new store begins, if these options allow creating one.
    fn begin(&self) -> Result<Stamp, OpenError> {
        bounded("log_bytes", self.log_bytes, LOG_BYTES_MIN, LOG_BYTES_MAX)?;
        self.result_len_max_in(self.log_bytes)?;
        let time = Time::begin(self.time_source()).map_err(untimely(self.terms))?;
        Ok(time.stamp())
    }

    /// Creates an empty store.
    fn make(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        let stamp = self.begin()?;
        files::remove_temporary(disk)?;
        let secrets = Secrets::draw().map_err(|error| OpenError::io("generate a secret", error))?;
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

    /// Returns the longest result for a store with a log of this size.
    fn result_len_max_in(&self, log_bytes: u64) -> Result<usize, OpenError> {
        let max = result_len_max(log_bytes);
        let Some(asked) = self.result_len_max else {
            return Ok(usize::try_from(max).unwrap_or(usize::MAX).min(RESULT_LEN_DEFAULT));
        };
        bounded("result_len_max", asked as u64, 0, max)?;
        Ok(asked)
    }

    /// Returns the limits of a store with a log of this size.
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
        // The store found is whole, so leftovers of unfinished work aren't needed.
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

    /// Resumes the store's time from the last stamp that was written.
    fn resume(&self, last: Stamp) -> Result<Arc<Time>, OpenError> {
        let time = Time::resume(self.time_source(), last, self.terms);
        time.map(Arc::new).map_err(untimely(self.terms))
    }
}

/// Gives the files of a new store their names. If the process ends before this, the next open
/// starts afresh; after it, the store is whole.
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
