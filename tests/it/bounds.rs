//! How much the store keeps: what is refused at a bound, and what never is.

use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{
    Begin, Bound, Builder, CompleteError, Error, Fingerprint, Key, ManualClock, Store, Timestamp,
};

use crate::support::{Answers, RETENTION_MS, START_MS, SimDisk, builder, key};

/// What a key of one byte counts for, besides its result.
const KEY_BYTES: u64 = 128 + 2;
const RESULT_LEN_MAX: usize = 1_000;
const LONGEST: u64 = KEY_BYTES + RESULT_LEN_MAX as u64;

struct Site {
    disk: SimDisk,
    clock: ManualClock,
    store: Store,
}

impl Site {
    fn new(bounds: impl FnOnce(Builder) -> Builder) -> Self {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
        let bounded = bounds(builder(&clock).result_len_max(RESULT_LEN_MAX));
        let store = bounded.open_on(disk.clone()).expect("the store opens");
        Self { disk, clock, store }
    }

    fn begin(&self, name: &str) -> Result<Begin, Error> {
        self.store.begin(&key(name), Fingerprint::NONE)
    }

    fn fresh(&self, name: &str) -> idemstore::Permit {
        self.begin(name).expect("begin answers").fresh()
    }

    fn full(&self, name: &str) -> Bound {
        match self.begin(name) {
            Err(Error::Overloaded { bound }) => bound,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    fn expire(&self) {
        self.clock.advance(Duration::from_millis(RETENTION_MS));
    }

    fn bytes(&self) -> u64 {
        self.store.stats().bytes
    }
}

#[test]
fn a_permit_counts_as_a_key_so_that_no_start_passes_the_bound() {
    let site = Site::new(|builder| builder.keys_max(10));
    let mut permits: Vec<_> = (0..10).map(|at| site.fresh(&format!("{at}"))).collect();
    assert_eq!(site.full("more"), Bound::Keys { max: 10 });
    drop(permits.pop());
    permits.push(site.fresh("more"));
    let started: Vec<_> = site.store.start_many(permits).into_iter().flatten().collect();
    assert_eq!(started.len(), 10);
    assert_eq!(site.full("again"), Bound::Keys { max: 10 });
    assert_eq!(site.store.stats().records, 10);
}

#[test]
fn what_has_expired_does_not_count() {
    for settled in [false, true] {
        let site = Site::new(|builder| builder.keys_max(3));
        for name in ["a", "b", "c"] {
            site.fresh(name).complete("result").expect("it completes");
        }
        if settled {
            site.store.settle().expect("it settles");
        }
        assert_eq!(site.full("d"), Bound::Keys { max: 3 });
        site.expire();
        let held: Vec<_> = ["d", "a", "e"].map(|name| site.fresh(name)).into_iter().collect();
        assert_eq!(site.full("f"), Bound::Keys { max: 3 });
        drop(held);
        assert_eq!(site.store.stats().records, 0);
    }
}

#[test]
fn an_expired_key_that_is_held_counts() {
    let site = Site::new(|builder| builder.keys_max(2));
    let execution = site.fresh("held").start().expect("it starts");
    site.fresh("done").complete("result").expect("it completes");
    site.store.settle().expect("it settles");
    site.expire();
    let _permit = site.fresh("new");
    assert_eq!(site.full("more"), Bound::Keys { max: 2 });
    execution.complete("late").expect("it completes");
}

#[test]
fn what_is_started_counts_with_the_longest_result_until_it_is_completed() {
    let site = Site::new(|builder| builder.bytes_max(2 * LONGEST));
    let first = site.fresh("1");
    let second = site.fresh("2").start().expect("it starts");
    assert_eq!(site.full("3"), Bound::Bytes { max: 2 * LONGEST });
    assert_eq!(site.bytes(), 2 * LONGEST);
    // However long it is, there is room for it.
    first.complete([1; RESULT_LEN_MAX]).expect("it completes");
    assert_eq!(site.full("3"), Bound::Bytes { max: 2 * LONGEST });
    second.complete("").expect("it completes");
    assert_eq!(site.bytes(), LONGEST + KEY_BYTES);
    assert_eq!(site.full("3"), Bound::Bytes { max: 2 * LONGEST });
    assert!(site.store.forget(&key("1")).expect("it is forgotten"));
    site.fresh("3").start().expect("it starts").complete_digest([0; 5_000]).expect("it is kept");
    assert_eq!(site.bytes(), 2 * KEY_BYTES);
    site.expire();
    site.fresh("4").complete("result").expect("it completes");
    // Without need nothing is swept.
    assert_eq!(site.bytes(), 3 * KEY_BYTES + 6);
    while 0 < site.store.settle().and_then(|()| site.store.sweep()).expect("it is swept") {}
    assert_eq!(site.bytes(), KEY_BYTES + 6);
}

#[test]
fn an_interrupted_operation_keeps_room_for_its_result() {
    let site = Site::new(|builder| builder.bytes_max(LONGEST));
    let mut execution = site.fresh("1").start().expect("it starts");
    execution.checkpoint([7; 700]).expect("it is stored");
    drop(execution);
    assert_eq!(site.full("2"), Bound::Bytes { max: LONGEST });
    let interrupted = site.begin("1").expect("begin answers").interrupted();
    interrupted.resolve([1; RESULT_LEN_MAX]).expect("it is resolved");
    assert_eq!(site.bytes(), LONGEST);
    // An operation that is completed late has a different place, and counts once.
    site.expire();
    let execution = site.fresh("2").start().expect("it starts");
    site.expire();
    execution.complete("late").expect("it completes");
    site.store.settle().expect("it settles");
    while 0 < site.store.sweep().expect("it is swept") {}
    assert_eq!(site.bytes(), KEY_BYTES + 4);
}

#[test]
fn each_scope_has_bytes_of_its_own() {
    let max = LONGEST + 4;
    let site = Site::new(|builder| builder.scope_bytes_max(max));
    let begin = |scope: &str, name: &str| {
        let key = Key::scoped(scope, name).expect("it is a key");
        site.store.begin(&key, Fingerprint::NONE)
    };
    let first = begin("us", "1").expect("begin answers").fresh().start().expect("it starts");
    let refused = begin("us", "2").expect_err("the scope is full");
    assert!(
        matches!(refused, Error::Overloaded { bound: Bound::ScopeBytes { max: at } } if at == max)
    );
    let other = begin("them", "1").expect("begin answers").fresh();
    site.fresh("0").complete("result").expect("it completes");
    first.abandon().expect("it is abandoned");
    drop(begin("us", "2").expect("begin answers").fresh());
    drop(other);
    assert_eq!(site.bytes(), KEY_BYTES + 6);
}

#[test]
fn the_same_counts_after_every_end() {
    let site = Site::new(|builder| builder.bytes_max(1 << 30).scope_bytes_max(1 << 20));
    let complete = |name: &str, result: &[u8]| {
        site.fresh(name).start().expect("it starts").complete(result).expect("it completes");
    };
    complete("settled", &[1; 900]);
    let replaced = site.fresh("replaced").start().expect("it starts");
    let gone = site.fresh("gone").start().expect("it starts");
    site.store.settle().expect("it settles");
    replaced.complete([2; 30]).expect("it completes");
    gone.abandon().expect("it is abandoned");
    complete("in the log", &[3; 600]);
    drop(site.fresh("interrupted").start().expect("it starts"));
    let bytes = site.bytes();
    assert_eq!(bytes, 4 * (128 + 1) + 7 + 8 + 10 + 11 + 900 + 30 + 600 + RESULT_LEN_MAX as u64);
    let Site { disk, clock, store } = site;
    for image in [disk.after_kill(), disk.after_power_cut(|_| 0)] {
        let reopened = builder(&clock).result_len_max(RESULT_LEN_MAX).open_on(image);
        assert_eq!(reopened.expect("the store opens").stats().bytes, bytes);
    }
    store.close().expect("the store closes");
    let reopened = builder(&clock).result_len_max(RESULT_LEN_MAX).open_on(disk);
    assert_eq!(reopened.expect("the store opens").stats().bytes, bytes);
}

#[test]
fn a_refusal_says_what_ends_it_and_gives_the_handle_back() {
    let bounds = [
        Bound::Keys { max: 3 },
        Bound::Bytes { max: 3 },
        Bound::ScopeBytes { max: 3 },
        Bound::Starts { max: 3 },
        Bound::StartBytes { max: 3 },
        Bound::ScopeShare,
        Bound::Serials { max: 3 },
    ];
    for bound in bounds {
        let text = Error::Overloaded { bound }.to_string();
        assert!(
            text.contains(": ") && (text.contains('3') || bound == Bound::ScopeShare),
            "{text}"
        );
        let refused = CompleteError::Overloaded { bound, handle: 7 };
        assert_eq!((refused.to_string(), refused.into_handle()), (text, Some(7)));
    }
}
