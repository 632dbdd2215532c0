//! The [`Clock`] that a store reads, and the store's own time.

use std::fmt;
#[cfg(doc)]
use std::time::Instant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits::PACKED_BITS;
use crate::observe;
use crate::sync::{Arc, AtomicI64, AtomicU64, Ordering};

/// A point in time: whole milliseconds since the Unix epoch.
///
/// The range ends in the year 10889. Arithmetic saturates at both ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest representable point in time.
    pub const MAX: Self = Self((1 << PACKED_BITS) - 1);

    /// Creates the point in time `ms` milliseconds after the Unix epoch, or [`Timestamp::MAX`] if
    /// that is later.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        if ms < Self::MAX.0 { Self(ms) } else { Self::MAX }
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_ms(self) -> u64 {
        self.0
    }

    /// Returns the same point in time as the standard library's type.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    /// Returns this point in time moved forward by whole milliseconds. A fraction counts as one
    /// millisecond, so that a retention is never cut short.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let of_seconds = duration.as_secs().saturating_mul(1_000);
        let of_rest = u64::from(duration.subsec_nanos().div_ceil(1_000_000));
        Self::from_unix_ms(self.0.saturating_add(of_seconds).saturating_add(of_rest))
    }

    /// Returns how long after `earlier` this is, or zero if it isn't later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Formats as RFC 3339 in UTC, with milliseconds: `2026-11-30T08:05:09.042Z`. A year after 9999 has
/// five digits, which RFC 3339 does not allow.
///
/// ```
/// # use idemstore::Timestamp;
/// let leap_day = Timestamp::from_unix_ms(951_827_696_789);
/// assert_eq!(leap_day.to_string(), "2000-02-29T12:34:56.789Z");
/// ```
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, seconds) = (self.0 % 1_000, self.0 / 1_000);
        let (second, minute, hour) = (seconds % 60, seconds / 60 % 60, seconds / 3_600 % 24);
        let (year, month, day) = civil(seconds / 86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Returns the year, month and day of a day that is counted from 1970-01-01.
///
/// Years are counted from March, so that a leap day is the last day of its year. An era is the 400
/// years after which the calendar repeats.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / (DAYS_OF_ERA - 1)) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year + u64::from(month <= 2), month, day)
}

/// Converts to whole milliseconds: [`Timestamp::MAX`] for any later time, and 1970 for any earlier
/// one.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.to_system_time()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({} ms)", self.0)
    }
}

/// Where a store gets the time from.
///
/// A store needs two readings. Retentions are counted by [`now`](Clock::now), which must not step
/// while the store is open. [`wall`](Clock::wall) is the machine's time of day, which may be set at
/// any moment; from it, the store learns how long it was closed.
///
/// A store never lets time run backwards: if a clock steps back, the store's time stays at the
/// latest time seen, also across restarts.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time now, by a clock that does not step while the store is open.
    fn now(&self) -> Timestamp;

    /// Returns the machine's time of day; by default that of [`Clock::now`].
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// The wall clock at the time this was created, advanced by a clock that can't be set and that
/// continues while the machine is suspended.
///
/// That clock is `CLOCK_BOOTTIME` on Linux and Android, and `CLOCK_MONOTONIC` on Apple's systems.
/// Elsewhere it's [`Instant`], which may stop while the machine is suspended.
#[derive(Debug)]
pub struct SystemClock {
    wall: Timestamp,
    since: Steady,
}

impl SystemClock {
    /// Creates a clock that starts at the present wall time.
    #[must_use]
    pub fn new() -> Self {
        Self { wall: wall(), since: Steady::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall.saturating_add(self.since.elapsed())
    }

    fn wall(&self) -> Timestamp {
        wall()
    }
}

fn wall() -> Timestamp {
    // Without a battery, a machine's clock may start before 1970.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().saturating_add(since_epoch)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(target_vendor = "apple")]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// A moment of a clock that is never set.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[derive(Debug)]
struct Steady(Duration);

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
impl Steady {
    fn now() -> Self {
        let now = rustix::time::clock_gettime(STEADY);
        Self(Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        ))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
#[derive(Debug)]
struct Steady(std::time::Instant);

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
impl Steady {
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock for tests that stands still until it's moved.
///
/// Clones share the same time.
///
/// ```
/// use idemstore::{Clock, ManualClock, Timestamp};
/// use std::time::Duration;
///
/// let clock = ManualClock::new(Timestamp::from_unix_ms(1_000));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Timestamp::from_unix_ms(3_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    unix_ms: Arc<AtomicU64>,
}

impl ManualClock {
    /// Creates a clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let clock = Self::default();
        clock.set(now);
        clock
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.unix_ms.store(now.as_unix_ms(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.unix_ms.load(Ordering::SeqCst))
    }
}

/// The latest time that a clock can show: the end of the year 2200. A later time is something other
/// than milliseconds since 1970.
pub(crate) const LATEST: Timestamp = Timestamp(7_289_654_399_999);

/// How far the wall clock may move against the store's time before that is recorded.
const DRIFT_MAX_MS: u64 = 1_000;

/// How far forward the wall clock may have moved while the store was closed before that causes an
/// event.
const CLOSED_MAX_MS: i64 = 24 * 60 * 60 * 1_000;

/// The store's time when something was written, and the wall clock at that moment. Formats 1 and 2
/// don't store the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) at: Timestamp,
    pub(crate) wall: Option<Timestamp>,
}

impl Stamp {
    /// Returns the store's time when the store is opened again: the last time that it knows, plus
    /// the time that has passed since. That is what the wall clock says has passed, but at most as
    /// much as brings the store's time up to the wall clock.
    ///
    /// The store's time may be behind the wall clock, after the machine slept or its clock was
    /// corrected. Jumping from one to the other would cut every retention short.
    fn resume(self, wall: Timestamp) -> Timestamp {
        let since_wall = wall.saturating_since(self.wall.unwrap_or(self.at));
        let to_wall = wall.saturating_since(self.at);
        self.at.saturating_add(since_wall.min(to_wall))
    }

    /// Returns how far the wall clock has moved since, in milliseconds.
    fn moved(self, wall: Timestamp) -> i64 {
        difference(wall, self.wall.unwrap_or(self.at))
    }
}

/// `one - other`, in milliseconds.
fn difference(one: Timestamp, other: Timestamp) -> i64 {
    // Both are below 2^48.
    one.0.cast_signed() - other.0.cast_signed()
}

/// Why the time can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untimely {
    /// The clock, or the latest time that the store has seen, is past [`LATEST`].
    Beyond,
    /// The wall clock has moved by this many milliseconds since the last write to the store.
    Jumped(i64),
}

/// The store's own time: the caller's clock, prevented from ever running back.
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    /// What the clock showed when the store was opened; `resumed` is the store's time at that
    /// moment.
    opened: Timestamp,
    resumed: Timestamp,
    latest_unix_ms: AtomicU64,
    /// The wall clock minus the clock, as last read for a stamp.
    drift_ms: AtomicI64,
    /// The same difference, as last written into the log.
    written_ms: AtomicI64,
    /// The last jump of the wall clock.
    jump_ms: AtomicI64,
}

/// Returns both readings of a clock at the same moment. A thread may be suspended between the two,
/// and would then read a later wall clock, so this tries again. If it never succeeds, the store's
/// time is the reading that stays behind, which keeps records longer.
fn read(clock: &dyn Clock) -> (Timestamp, Timestamp) {
    const TRIES: u32 = 8;
    let mut now = clock.now();
    for _ in 0..TRIES {
        let (before, wall) = (now, clock.wall());
        now = clock.now();
        if now == before {
            return (now, wall);
        }
    }
    (now, clock.wall())
}

/// How a store treats the time that it finds when it's opened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    /// How far the wall clock may have moved.
    pub(crate) jump_max: Option<Duration>,
    /// Whether a wall clock behind the store's time is right.
    pub(crate) accept: bool,
}

impl Time {
    /// Resumes from `last`, the last stamp that the store has written.
    pub(crate) fn resume(
        clock: Arc<dyn Clock>,
        last: Stamp,
        terms: Terms,
    ) -> Result<Self, Untimely> {
        let (opened, wall) = read(&*clock);
        if LATEST < wall || LATEST < opened || LATEST < last.at && !terms.accept {
            return Err(Untimely::Beyond);
        }
        let jump_ms = last.moved(wall);
        if terms.jump_max.is_some_and(|max| max < Duration::from_millis(jump_ms.unsigned_abs())) {
            return Err(Untimely::Jumped(jump_ms));
        }
        if !(-DRIFT_MAX_MS.cast_signed()..=CLOSED_MAX_MS).contains(&jump_ms) {
            observe::clock_moved(jump_ms);
        }
        let resumed = last.resume(wall);
        let resumed = if terms.accept { resumed.min(wall) } else { resumed };
        Ok(Self {
            opened,
            resumed,
            latest_unix_ms: AtomicU64::new(resumed.as_unix_ms()),
            drift_ms: AtomicI64::new(difference(wall, opened)),
            written_ms: AtomicI64::new(difference(wall, opened)),
            jump_ms: AtomicI64::new(jump_ms),
            clock,
        })
    }

    /// Begins at the time that the clock shows.
    pub(crate) fn begin(clock: Arc<dyn Clock>) -> Result<Self, Untimely> {
        let (_, wall) = read(&*clock);
        Self::resume(clock, Stamp { at: wall, wall: Some(wall) }, Terms::default())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.at(self.clock.now())
    }

    /// Returns the store's time, if the clock can be trusted.
    pub(crate) fn checked_now(&self) -> Option<Timestamp> {
        let clock = self.clock.now();
        (clock <= LATEST).then(|| self.at(clock))
    }

    fn at(&self, clock: Timestamp) -> Timestamp {
        let latest = self.latest_unix_ms.load(Ordering::Relaxed);
        let now = self.resumed.saturating_add(clock.saturating_since(self.opened)).as_unix_ms();
        // A nonsensical clock is not followed: no later time would be right.
        if now <= latest || LATEST < clock {
            return Timestamp::from_unix_ms(latest);
        }
        let latest = self.latest_unix_ms.fetch_max(now, Ordering::Relaxed);
        Timestamp::from_unix_ms(now.max(latest))
    }

    /// Returns the time to write, and the wall clock with it.
    pub(crate) fn stamp(&self) -> Stamp {
        self.read_stamp().0
    }

    /// Writes a stamp into the log. Once the stamp is durable, its drift need not be written again.
    pub(crate) fn write<T, E>(&self, write: impl FnOnce(Stamp) -> Result<T, E>) -> Result<T, E> {
        let (stamp, drift) = self.read_stamp();
        let written = write(stamp)?;
        self.written_ms.store(drift, Ordering::Relaxed);
        Ok(written)
    }

    fn read_stamp(&self) -> (Stamp, i64) {
        let (clock, wall) = read(&*self.clock);
        let (drift, before) = (difference(wall, clock), self.drift_ms.load(Ordering::Relaxed));
        if DRIFT_MAX_MS < drift.abs_diff(before) {
            self.drift_ms.store(drift, Ordering::Relaxed);
            self.jump_ms.store(drift - before, Ordering::Relaxed);
            observe::clock_moved(drift - before);
        }
        (Stamp { at: self.at(clock), wall: Some(wall) }, drift)
    }

    /// Returns whether the wall clock has moved against the clock since the last [`Time::write`].
    /// Taking a stamp alone proves nothing: it may be for a sweep that found nothing, or for a
    /// backup.
    pub(crate) fn has_drifted(&self) -> bool {
        let (clock, wall) = read(&*self.clock);
        let drift = difference(wall, clock);
        DRIFT_MAX_MS < drift.abs_diff(self.written_ms.load(Ordering::Relaxed))
    }

    /// Returns the last jump of the wall clock, in milliseconds: how far it had moved when the
    /// store was opened, or a later jump.
    pub(crate) fn jump_ms(&self) -> i64 {
        self.jump_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
