//! The segments of the log: they start short, grow once they have been filled, and are read in
//! parts.

use std::io::ErrorKind;

use idemstore::sim::{BackupOn, OpenOn};
use idemstore::{Builder, Error, ManualClock, OpenError, Store, Timestamp};

use crate::support::disk::{Fault, Manner, Op};
use crate::support::{Answers, Bench, START_MS, SimDisk, builder, key};

const MIB: u64 = 1 << 20;
/// What a segment needs besides a result: its first page, and what a change has besides its result.
const BESIDE: u64 = 16 * 1024;
const LOGS: [&str; 2] = ["log-0", "log-1"];
/// Two of these fill a segment of the initial length.
const LONG: usize = 400_000;

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_unix_ms(START_MS))
}

fn growing(clock: &ManualClock) -> Builder {
    builder(clock).log_bytes(8 * MIB).result_len_max(LONG)
}

/// A newly created store whose log may take 8 MiB.
fn made() -> Bench {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = growing(&clock).open_on(disk.clone()).expect("the store opens");
    store.close().expect("the store closes");
    reopened(disk, clock)
}

fn reopened(disk: SimDisk, clock: ManualClock) -> Bench {
    let mut bench = Bench::new();
    bench.store = growing(&clock).open_on(disk.clone()).expect("the store opens");
    (bench.disk, bench.clock) = (disk, clock);
    bench
}

fn lens(disk: &SimDisk) -> [u64; 2] {
    let files = disk.bytes();
    LOGS.map(|log| files[log].len() as u64)
}

fn complete(store: &Store, names: std::ops::Range<usize>, len: usize) {
    for name in names {
        let begin = store.begin(&key(&format!("{name}")), idemstore::Fingerprint::NONE);
        begin.expect("begin answers").fresh().complete(vec![7; len]).expect("it completes");
    }
}

fn check(store: &Store, names: std::ops::Range<usize>, len: usize) {
    for name in names {
        let begin = store.begin(&key(&format!("{name}")), idemstore::Fingerprint::NONE);
        assert_eq!(begin.expect("begin answers").replay().result(), vec![7; len], "{name}");
    }
}

#[test]
fn a_new_log_has_room_for_a_batch_or_for_the_longest_result_and_no_more() {
    for (log, result, len) in [
        (64 * MIB, 1024, MIB),
        (64 * MIB, MIB, MIB),
        (64 * MIB, 3 * MIB, 3 * MIB),
        (1024 * MIB, 64 * MIB, 64 * MIB),
    ] {
        let disk = SimDisk::new();
        let builder = builder(&clock()).log_bytes(log).result_len_max(result as usize);
        let store = builder.open_on(disk.clone()).expect("the store opens");
        for made in lens(&disk) {
            assert!((len..len + BESIDE).contains(&made), "{made} for {result}");
        }
        // The longest result fits.
        complete(&store, 0..3, result as usize);
        check(&store, 0..3, result as usize);
    }
    // A log without that much room starts at its full length.
    let disk = SimDisk::new();
    let store = builder(&clock()).log_bytes(MIB).open_on(disk.clone()).expect("the store opens");
    assert_eq!(lens(&disk), [MIB / 2; 2]);
    complete(&store, 0..200, 16 * 1024);
    assert_eq!(lens(&disk), [MIB / 2; 2]);
}

#[test]
fn a_segment_that_is_filled_grows_up_to_half_of_the_log() {
    let bench = made();
    let mut seen = vec![lens(&bench.disk)];
    for name in 0..60 {
        complete(&bench.store, name..name + 1, LONG);
        let now = lens(&bench.disk);
        seen.extend((seen.last() != Some(&now)).then_some(now));
        let on_disk: usize = bench.disk.bytes().values().map(Vec::len).sum();
        assert_eq!(bench.store.stats().file_bytes, on_disk as u64);
    }
    let first = seen[0][0];
    let [twice, half] = [2 * first, 4 * MIB];
    assert_eq!(seen, [[first, first], [twice, first], [twice, twice], [half, twice], [half, half]]);
    check(&bench.store, 0..60, LONG);
    let Bench { disk, clock, store, .. } = bench;
    drop(store);
    let bench = reopened(disk.after_power_cut(|_| 0), clock);
    assert_eq!(lens(&bench.disk), [half; 2]);
    check(&bench.store, 0..60, LONG);
}

#[test]
fn a_segment_that_is_settled_before_it_is_full_stays_as_it_is() {
    let bench = made();
    let first = lens(&bench.disk);
    for name in 0..40 {
        complete(&bench.store, name..name + 1, LONG);
        bench.store.settle().expect("it settles");
    }
    assert_eq!(lens(&bench.disk), first);
}

#[test]
fn a_segment_that_grows_costs_a_batch_no_more_than_its_sync() {
    let bench = made();
    let (mut growths, mut before) = (0, lens(&bench.disk));
    let (counts, batches) = (bench.disk.counts(), bench.store.stats().batches);
    for name in 0..60 {
        complete(&bench.store, name..name + 1, LONG);
        let now = lens(&bench.disk);
        growths += u64::from(now != before);
        before = now;
    }
    let batches = bench.store.stats().batches - batches;
    // The zeros of a growth have their own sync, and so has the header.
    assert_eq!((growths, batches), (4, 60));
    assert_eq!(bench.disk.counts().log_syncs - counts.log_syncs, batches + 2 * growths);
}

/// A store with one full segment, so that the next settle makes it longer.
fn full() -> Bench {
    let bench = made();
    complete(&bench.store, 0..3, LONG);
    assert_eq!(bench.store.stats().settles, 0);
    bench
}

#[test]
fn a_growth_that_finds_no_room_costs_nothing_but_the_growth() {
    let kinds = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
    let mut failures = 0;
    for (on, manner) in [
        (Op::LogWrite, Manner::Nothing),
        (Op::LogWrite, Manner::Part),
        (Op::LogWrite, Manner::All),
        (Op::LogSync, Manner::Nothing),
        (Op::LogSync, Manner::All),
    ] {
        for after in 0.. {
            let bench = full();
            let first = lens(&bench.disk);
            let (kind, for_good) = (kinds[after as usize % 3], after % 2 == 0);
            bench.disk.fail_as(Fault { on, after, for_good, kind }, manner);
            bench.store.settle().expect("it settles");
            if !bench.disk.has_failed() {
                break;
            }
            failures += 1;
            bench.disk.heal();
            // What was taken is released, unless the header may say that it's there.
            let now = lens(&bench.disk);
            assert!(now == first || now == [2 * first[0], first[1]], "{now:?}");
            check(&bench.store, 0..3, LONG);
            // Wherever it is cut now, the next write is there; and it grows again.
            complete(&bench.store, 3..16, LONG);
            for disk in [bench.disk.after_kill(), bench.disk.after_power_cut(|_| 0)] {
                check(&reopened(disk, bench.clock.clone()).store, 0..16, LONG);
            }
            assert!(first.iter().zip(lens(&bench.disk)).all(|(first, now)| 2 * first <= now));
        }
    }
    assert!(10 < failures, "only {failures} failures");
}

#[test]
fn a_growth_that_fails_for_another_reason_poisons_the_store() {
    for on in [Op::LogWrite, Op::LogSync] {
        let bench = full();
        let kind = ErrorKind::Other;
        bench.disk.fail(Fault { on, after: 0, for_good: false, kind });
        let settled = bench.store.settle();
        assert!(matches!(settled, Err(Error::Poisoned(_))), "{settled:?}");
        check(&reopened(bench.disk.after_power_cut(|_| 0), bench.clock).store, 0..3, LONG);
    }
}

/// A store as a kill leaves it, whose first segment has grown and has frames in the new part.
fn grown_and_killed() -> (SimDisk, ManualClock) {
    let bench = made();
    let first = lens(&bench.disk)[0];
    complete(&bench.store, 0..8, LONG);
    assert!(first < bench.store.stats().log_bytes);
    (bench.disk.after_kill(), bench.clock)
}

#[test]
fn a_header_that_rots_after_a_growth_hides_no_frame() {
    let (disk, clock) = grown_and_killed();
    // It was last written at the second place.
    for (at, is_harmless) in [(2_048, true), (2_048 + 20, true), (0, false), (20, false)] {
        let disk = disk.after_kill();
        disk.damage(LOGS[0], |file| file[at] ^= 1);
        match growing(&clock).open_on(disk) {
            Ok(store) if is_harmless => check(&store, 0..8, LONG),
            Err(OpenError::Corrupt { file: "log-0", .. }) if !is_harmless => {}
            other => panic!("{other:?} after byte {at}"),
        }
    }
}

#[test]
fn a_segment_that_has_grown_and_was_cut_is_refused() {
    let (disk, clock) = grown_and_killed();
    let grown = lens(&disk);
    let first = lens(&made().disk)[0];
    assert!(first < grown[0]);
    for cut in [first, first + 1, grown[0] - 4096, grown[0] - 1] {
        let disk = disk.after_kill();
        disk.damage(LOGS[0], |file| file.truncate(cut as usize));
        let opened = growing(&clock).open_on(disk);
        assert!(matches!(opened, Err(OpenError::Corrupt { file: "log-0", .. })), "{opened:?}");
    }
    check(&reopened(disk, clock).store, 0..8, LONG);
}

#[test]
fn a_store_that_is_opened_for_longer_results_gets_the_room_for_them() {
    let bench = made();
    complete(&bench.store, 0..1, LONG);
    let Bench { disk, clock, store, .. } = bench;
    store.close().expect("the store closes");
    let first = lens(&disk);
    let open = |len: u64| builder(&clock).result_len_max(len as usize).open_on(disk.clone());
    // A result longer than the log can ever hold is refused, and nothing has grown for it.
    let refused = open(4 * MIB);
    let max = 4 * MIB - 6_280;
    assert!(
        matches!(refused, Err(OpenError::Option { option: "result_len_max", max: found, .. })
            if found == max),
        "{refused:?}"
    );
    // And so is one that the disk has no room for.
    disk.fail(Fault { on: Op::LogWrite, after: 2, for_good: true, kind: ErrorKind::StorageFull });
    let error = open(3 * MIB).expect_err("the disk is full");
    assert!(error.to_string().starts_with("could not make the log longer"), "{error}");
    assert_eq!(lens(&disk), first);
    open(LONG as u64).expect("it has the room for that").close().expect("the store closes");
    disk.heal();
    for len in [3 * MIB, max] {
        let store = open(len).expect("there is room");
        assert!(lens(&disk).iter().all(|now| (len..=4 * MIB).contains(now)));
        let name = len as usize;
        complete(&store, name..name + 1, name);
        store.close().expect("the store closes");
    }
    let store = open(1).expect("what was longer stays");
    assert_eq!(lens(&disk), [4 * MIB; 2]);
    check(&store, max as usize..max as usize + 1, max as usize);
}

#[test]
fn a_backup_has_a_log_that_is_short_again_and_grows_as_far() {
    let bench = made();
    let first = lens(&bench.disk);
    complete(&bench.store, 0..40, LONG);
    assert_eq!(lens(&bench.disk), [4 * MIB; 2]);
    let copy = SimDisk::new();
    bench.store.backup_on(copy.clone()).expect("it is backed up");
    assert_eq!(lens(&copy), first);
    let copy = reopened(copy, bench.clock);
    check(&copy.store, 0..40, LONG);
    complete(&copy.store, 40..80, LONG);
    assert_eq!(lens(&copy.disk), [4 * MIB; 2]);
}

#[test]
fn an_open_reads_the_log_in_parts() {
    let (disk, clock) = (SimDisk::new(), clock());
    let open = |disk: &SimDisk| {
        let builder = builder(&clock).log_bytes(32 * MIB).result_len_max(MIB as usize);
        builder.open_on(disk.clone()).expect("the store opens")
    };
    // Both segments have been filled with short results, and one of them is reused.
    let store = open(&disk);
    complete(&store, 0..300, 10_000);
    let killed = disk.after_kill();
    check(&open(&killed), 0..300, 10_000);
    assert!(20 < killed.operations(Op::LogRead));
    assert!(killed.longest_log_read() <= 64 * 1024, "{} bytes", killed.longest_log_read());
    // A longer read is that of a single frame.
    complete(&store, 300..301, MIB as usize);
    let killed = disk.after_kill();
    check(&open(&killed), 300..301, MIB as usize);
    assert!(
        killed.longest_log_read() <= MIB as usize + 2_048,
        "{} bytes",
        killed.longest_log_read()
    );
}
