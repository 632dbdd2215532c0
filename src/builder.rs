//! How a store is opened.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Time};
use crate::disk::{Directory, Disk};
use crate::error::OpenError;
use crate::journal::{self, Journal};
use crate::limits::{
    CACHE_BYTES_DEFAULT, CHANGE_OVERHEAD_MAX, KEYS_MAX_DEFAULT, LOG_BYTES_DEFAULT, LOG_BYTES_MAX,
    LOG_BYTES_MIN, RESULT_LEN_DEFAULT, RESULT_LEN_MAX,
};
use crate::log::segment::{self, StoreKey};
use crate::log::{Log, random};
use crate::store::{Options, Shared, Store};
use crate::sweeper;
use crate::sync::{Arc, Mutex};
use crate::vault::{Meta, Vault};
use crate::wake::Wake;

const RETENTION_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

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
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    retention: Duration,
    result_len_max: usize,
    keys_max: usize,
    log_bytes: u64,
    cache_bytes: usize,
    sweeper: bool,
    clock: Option<Arc<dyn Clock>>,
    hash_mask: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            retention: RETENTION_DEFAULT,
            result_len_max: RESULT_LEN_DEFAULT,
            keys_max: KEYS_MAX_DEFAULT,
            log_bytes: LOG_BYTES_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            sweeper: true,
            clock: None,
            hash_mask: u64::MAX,
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

    /// The longest result that is taken, in bytes; 1 MiB by default.
    pub fn result_len_max(mut self, bytes: usize) -> Self {
        self.result_len_max = bytes;
        self
    }

    /// The most records that are kept; 100 million by default. A `begin` of a new key above it is
    /// refused as overloaded. Expired records count until they are swept, and keys that are only
    /// reserved do not count, so that it may be exceeded by as many as are held. Memory is 16 bytes a
    /// record in a hash table, so 20 to 39 with its spare room.
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }

    /// Size of a **new** store's log on disk, in bytes, in two segments; 32 MiB by default. It
    /// bounds the results that are kept in memory until they are settled. An existing store keeps
    /// the size it was made with.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Memory for redb's page cache, in bytes; 64 MiB by default.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Whether a background thread settles the log and sweeps expired records; it does by default.
    /// Without it a full log is settled by the call that finds it full, and sweeping is left to
    /// [`Store::sweep`].
    pub fn sweeper(mut self, sweeper: bool) -> Self {
        self.sweeper = sweeper;
        self
    }

    /// Where the store gets the time from; a [`SystemClock`] by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes keys collide in the live table, by the bits of their hash that are left. For the
    /// store's own tests.
    #[doc(hidden)]
    pub fn hash_mask(mut self, mask: u64) -> Self {
        self.hash_mask = mask;
        self
    }

    /// Opens the store in this directory, and makes it if it is not there, with all that is missing
    /// of its path.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what to do.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store, OpenError> {
        self.open_on(Directory::new(path.as_ref()))
    }

    /// Opens the store on another disk than the file system's. For the store's own tests.
    #[doc(hidden)]
    pub fn open_on(self, mut disk: impl Disk) -> Result<Store, OpenError> {
        self.check()?;
        disk.lock().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotADirectory => OpenError::NotADirectory,
            _ => OpenError::io("lock the store's directory", error),
        })?;
        if Vault::exists(&disk)? {
            // Whoever gave the vault its name may have ended before that was durable, and nothing
            // must be acknowledged in a store that a power cut could leave without it.
            disk.sync_names().map_err(|error| OpenError::io("sync the directory", error))?;
        } else {
            self.create(&disk)?;
        }
        self.start(Box::new(disk))
    }

    fn check(&self) -> Result<(), OpenError> {
        bounded("log_bytes", self.log_bytes, LOG_BYTES_MIN, LOG_BYTES_MAX)?;
        self.check_result_len_max(longest_result(self.log_bytes / 2 - segment::FRAMES_AT))
    }

    fn check_result_len_max(&self, max: u64) -> Result<(), OpenError> {
        bounded("result_len_max", self.result_len_max as u64, 0, max)
    }

    /// Makes an empty store. The vault gets its name last, so that a kill on the way leaves a
    /// directory that the next open starts afresh.
    fn create(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        segment::check_unused(disk)?;
        let mut key = StoreKey::default();
        let random = std::iter::repeat_with(|| random().to_le_bytes()).flatten();
        key.iter_mut().zip(random).for_each(|(to, from)| *to = from);
        Log::create(disk, &key, self.log_bytes)?;
        let meta = Meta { key, settled: 0, high_water: self.now(), next_serial: 0 };
        Vault::create(disk, self.cache_bytes, &meta)
    }

    fn now(&self) -> crate::clock::Timestamp {
        self.clock.as_ref().map_or_else(|| SystemClock::new().now(), |clock| clock.now())
    }

    fn start(self, disk: Box<dyn Disk>) -> Result<Store, OpenError> {
        let opened = journal::open(disk, self.cache_bytes, self.hash_mask)?;
        self.check_result_len_max(longest_result(opened.log.payload_max() as u64))?;
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let time = Arc::new(Time::new(clock, opened.meta.high_water));
        let (index, wake) = (Arc::clone(&opened.index), Arc::<Wake>::default());
        let journal = Arc::new(Journal::new(opened, Arc::clone(&time), Arc::clone(&wake)));
        let sweeper = if self.sweeper {
            Some(sweeper::spawn(Arc::clone(&journal), Arc::clone(&wake))?)
        } else {
            None
        };
        let options = Options {
            retention: self.retention,
            result_len_max: self.result_len_max,
            keys_max: self.keys_max,
        };
        let sweeper = Mutex::new(sweeper);
        let shared = Shared { index, journal, time, options, wake, sweeper };
        Ok(Store { shared: Arc::new(shared) })
    }
}

/// The longest result that fits this much of a log segment, if that is shorter than what any
/// store takes.
fn longest_result(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(2 * CHANGE_OVERHEAD_MAX as u64).min(RESULT_LEN_MAX as u64)
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
            .field("sweeper", &self.sweeper)
            .finish_non_exhaustive()
    }
}
