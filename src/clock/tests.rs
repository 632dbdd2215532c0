//! The store's own time: its arithmetic, and machines whose clocks go wrong.

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
fn a_time_is_shown_as_rfc_3339_has_it() {
    // From GNU date, which does not have years after 9999 in this form either.
    let known = [
        (0, "1970-01-01T00:00:00.000Z"),
        (86_399_999, "1970-01-01T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (1_796_025_909_042, "2026-11-30T08:05:09.042Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
    ];
    for (ms, shown) in known {
        assert_eq!(at(ms).to_string(), shown);
    }
    // Each day follows the previous one, through a whole era.
    let next = |(year, month, day): (u64, u64, u64)| {
        let is_leap =
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let days = match month {
            2 => 28 + u64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        match (day < days, month < 12) {
            (true, _) => (year, month, day + 1),
            (false, true) => (year, month + 1, 1),
            (false, false) => (year + 1, 1, 1),
        }
    };
    let mut expected = (1970, 1, 1);
    for day in 0..150_000 {
        assert_eq!(civil(day), expected, "day {day}");
        expected = next(expected);
    }
}

#[test]
fn times_of_the_standard_library_come_back() {
    for ms in [0, 1, 1_796_025_909_042] {
        assert_eq!(Timestamp::from(SystemTime::from(at(ms))), at(ms));
    }
    let before = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(Timestamp::from(before), at(0));
    assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_micros(1_999)), at(1));
}

#[test]
fn a_wall_that_has_moved_is_to_be_noted_until_the_log_has_it() {
    let machine = Arc::new(Machine::default());
    machine.right.store(1_700_000_000_000, Ordering::Relaxed);
    let time = Time::begin(machine.clock()).expect("it is a time");
    assert!(!time.has_drifted());
    machine.wall_off.store(60_000, Ordering::Relaxed);
    // A sweep that finds nothing takes a stamp without writing it, and so does a backup.
    let _ = time.stamp();
    assert!(time.has_drifted());
    assert_eq!(time.write(|_| Err::<(), _>("the disk has failed")), Err("the disk has failed"));
    assert!(time.has_drifted());
    assert_eq!(time.write(|_| Ok::<_, ()>(7)), Ok(7));
    assert!(!time.has_drifted());
}

#[test]
fn time_is_held_when_the_clock_steps_back() {
    let clock = ManualClock::new(at(100));
    let time = Time::begin(Arc::new(clock.clone())).expect("it is a time");
    assert_eq!(time.now(), at(100));
    clock.set(at(40));
    assert_eq!(time.now(), at(100));
    clock.set(at(101));
    assert_eq!(time.now(), at(101));
}

#[test]
fn time_goes_on_from_the_high_water_mark() {
    let clock = ManualClock::new(at(40));
    let last = Stamp { at: at(100), wall: None };
    let time = Time::resume(Arc::new(clock.clone()), last, Terms::default());
    let time = time.expect("it is a time");
    assert_eq!(time.now(), at(100));
    clock.advance(Duration::from_millis(7));
    assert_eq!(time.now(), at(107));
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A machine: the right time, its uptime, and the error of its wall clock, in milliseconds.
#[derive(Default)]
struct Machine {
    right: AtomicU64,
    steady: AtomicU64,
    wall_off: AtomicI64,
}

struct ProcessClock {
    machine: Arc<Machine>,
    opened: (Timestamp, u64),
}

impl Machine {
    fn wall(&self) -> Timestamp {
        let right = self.right.load(Ordering::Relaxed);
        at(right.saturating_add_signed(self.wall_off.load(Ordering::Relaxed)))
    }

    fn clock(self: &Arc<Self>) -> Arc<ProcessClock> {
        let opened = (self.wall(), self.steady.load(Ordering::Relaxed));
        Arc::new(ProcessClock { machine: Arc::clone(self), opened })
    }

    fn pass(&self, ms: u64) {
        self.right.fetch_add(ms, Ordering::Relaxed);
        self.steady.fetch_add(ms, Ordering::Relaxed);
    }

    /// Both clocks stand still.
    fn pause(&self, ms: u64) {
        self.right.fetch_add(ms, Ordering::Relaxed);
        self.wall_off.fetch_sub(ms.cast_signed(), Ordering::Relaxed);
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        let running = self.machine.steady.load(Ordering::Relaxed) - self.opened.1;
        self.opened.0.saturating_add(Duration::from_millis(running))
    }

    fn wall(&self) -> Timestamp {
        self.machine.wall()
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % end
    }

    /// From a millisecond to some months, with each order of magnitude equally likely.
    fn span(&mut self) -> u64 {
        let order = self.below(34);
        1 + self.below(1 << order)
    }

    fn wall_off(&mut self) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => self.span().cast_signed(),
            2 => -self.span().cast_signed(),
            // A board without a battery.
            _ => -1_700_000_000_000,
        }
    }
}

/// One walk: a store is opened, written, closed and killed, and the clock of its machine is set
/// and stands still while the store is open. Returns how many records expired, and how many of
/// them expired early.
fn walk(seed: u64) -> (u64, u64) {
    let mut dice = Dice(seed);
    let machine = Arc::new(Machine::default());
    machine.right.store(1_700_000_000_000, Ordering::Relaxed);
    machine.wall_off.store(dice.wall_off(), Ordering::Relaxed);
    let open = |last| Time::resume(machine.clock(), last, Terms::default()).expect("a time");
    let mut time = Time::begin(machine.clock()).expect("it is a time");
    let mut last = time.stamp();
    let (mut records, mut expired, mut early) = (Vec::<(Timestamp, u64)>::new(), 0, 0);
    for _ in 0..40 {
        match dice.below(6) {
            0 | 1 => machine.pass(dice.span()),
            2 => machine.pause(dice.span()),
            3 => machine.wall_off.store(dice.wall_off(), Ordering::Relaxed),
            4 => {
                last = last.max(time.stamp());
                let retention = match dice.below(3) {
                    0 => 1,
                    1 => DAY_MS,
                    _ => 30 * DAY_MS,
                };
                let ends = machine.right.load(Ordering::Relaxed) + retention;
                records.push((time.now().saturating_add(Duration::from_millis(retention)), ends));
            }
            _ => {
                // Killed, closed for a while, and opened.
                machine.pass(dice.span());
                time = open(last);
                last = time.stamp();
            }
        }
        // What the background thread does.
        if time.has_drifted() {
            last = last.max(time.write(Ok::<_, ()>).expect("it is written"));
        }
        let (now, right) = (time.now(), machine.right.load(Ordering::Relaxed));
        records.retain(|(expires_at, ends)| {
            let is_over = *expires_at <= now;
            expired += u64::from(is_over);
            early += u64::from(is_over && right + 2 * DRIFT_MAX_MS < *ends);
            !is_over
        });
    }
    (expired, early)
}

#[test]
fn no_clock_that_is_set_while_the_store_is_open_cuts_a_retention_short() {
    let walks = std::env::var("CLOCK_WALKS").map_or(100_000, |it| it.parse().expect("a number"));
    let (mut expired, mut early) = (0, 0);
    for seed in 0..walks {
        let (of_walk, early_of_walk) = walk(seed);
        assert_eq!(early_of_walk, 0, "seed {seed}");
        (expired, early) = (expired + of_walk, early + early_of_walk);
    }
    assert_eq!(early, 0);
    assert!(walks < expired, "only {expired} records have expired in {walks} walks");
}
