//! Time: the [`Clock`] a store reads, and what it makes of it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits::PACKED_BITS;
use crate::sync::{Arc, AtomicU64, Ordering};

/// A point in time: whole milliseconds since the Unix epoch.
///
/// It ends in the year 10889; arithmetic that would go past either end stops there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last representable point in time.
    pub const MAX: Self = Self((1 << PACKED_BITS) - 1);

    /// The point in time `ms` milliseconds after the Unix epoch, or [`Timestamp::MAX`] if that is
    /// later.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        if ms < Self::MAX.0 { Self(ms) } else { Self::MAX }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_ms(self) -> u64 {
        self.0
    }

    /// The same point in time as the standard library's type.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    /// This point in time moved forward, in whole milliseconds (a part of one counts as one, so
    /// that a retention is never cut short).
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let of_seconds = duration.as_secs().saturating_mul(1_000);
        let of_rest = u64::from(duration.subsec_nanos().div_ceil(1_000_000));
        Self::from_unix_ms(self.0.saturating_add(of_seconds).saturating_add(of_rest))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({} ms)", self.0)
    }
}

/// Where a store gets the time from.
///
/// A store never lets time run backwards: a clock that steps back is held at the latest time it
/// has shown, also across restarts.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The wall clock as it was when this was created, advanced by the monotonic clock.
///
/// Setting the machine's clock does nothing to a store that is already open.
#[derive(Debug)]
pub struct SystemClock {
    wall: Timestamp,
    monotonic: Instant,
}

impl SystemClock {
    /// A clock anchored at the present wall time.
    #[must_use]
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::default().saturating_add(since_epoch), monotonic: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall.saturating_add(self.monotonic.elapsed())
    }
}

/// A clock that stands still until it is told otherwise, for tests.
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
    /// A clock that shows `now`.
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

/// The store's own time: the caller's clock, kept from ever running back.
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    /// What is added to the clock, because an earlier run of the store had seen a later time.
    ahead: Duration,
    latest_unix_ms: AtomicU64,
}

impl Time {
    /// Goes on from `high_water`, the latest time that an earlier run has seen, or from the
    /// clock's time if that is later.
    pub(crate) fn new(clock: Arc<dyn Clock>, high_water: Timestamp) -> Self {
        let ahead = high_water.saturating_since(clock.now());
        Self { clock, ahead, latest_unix_ms: AtomicU64::new(high_water.as_unix_ms()) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now().saturating_add(self.ahead).as_unix_ms();
        let latest = self.latest_unix_ms.load(Ordering::Relaxed);
        if now <= latest {
            return Timestamp::from_unix_ms(latest);
        }
        let latest = self.latest_unix_ms.fetch_max(now, Ordering::Relaxed);
        Timestamp::from_unix_ms(now.max(latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn a_part_of_a_millisecond_counts_as_one() {
        assert_eq!(at(5).saturating_add(Duration::from_nanos(1)), at(6));
        assert_eq!(at(5).saturating_add(Duration::from_millis(1)), at(6));
        assert_eq!(at(5).saturating_add(Duration::ZERO), at(5));
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        assert_eq!(at(1).saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(at(u64::MAX), Timestamp::MAX);
        assert_eq!(at(1).saturating_since(at(2)), Duration::ZERO);
    }

    #[test]
    fn time_is_held_when_the_clock_steps_back() {
        let clock = ManualClock::new(at(100));
        let time = Time::new(Arc::new(clock.clone()), at(0));
        assert_eq!(time.now(), at(100));
        clock.set(at(40));
        assert_eq!(time.now(), at(100));
        clock.set(at(101));
        assert_eq!(time.now(), at(101));
    }

    #[test]
    fn time_goes_on_from_the_high_water_mark() {
        let clock = ManualClock::new(at(40));
        let time = Time::new(Arc::new(clock.clone()), at(100));
        assert_eq!(time.now(), at(100));
        clock.advance(Duration::from_millis(7));
        assert_eq!(time.now(), at(107));
    }
}
