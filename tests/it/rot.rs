//! Bits that change by themselves: a right answer or a typed error, never a wrong answer and
//! never a missing one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idemstore::{Begin, Fingerprint, ManualClock, OpenError};

use crate::support::disk::{Fault, Op};
use crate::support::model::splitmix;
use crate::support::{Answers, Bench, SimDisk, Started, builder, key, size};

/// A store with completed, abandoned and executing keys, some settled, some in the log only.
fn store() -> (SimDisk, ManualClock) {
    let bench = Bench::new();
    for step in 0..20 {
        if step == 10 {
            bench.store.settle().expect("it settles");
        }
        let name = format!("key {step}");
        let execution = bench.begin(&name, &name).started();
        match step % 5 {
            3 => execution.abandon().expect("it is abandoned"),
            4 => std::mem::forget(execution),
            _ => drop(execution.complete(name.repeat(step * 10)).expect("it completes")),
        }
    }
    (bench.disk.after_kill(), bench.clock)
}

#[derive(Debug, PartialEq)]
enum Seen {
    Right,
    Refused,
}

/// Opens the store and asks for every key.
fn look(disk: SimDisk, clock: &ManualClock) -> Seen {
    let store = match builder(clock).open_on(disk) {
        Ok(store) => store,
        Err(
            OpenError::Corrupt { .. }
            | OpenError::NotAStore { .. }
            | OpenError::UnsupportedVersion { .. }
            | OpenError::Storage { .. }
            | OpenError::Io { .. },
        ) => return Seen::Refused,
        Err(other) => panic!("{other}"),
    };
    for step in 0..20 {
        let name = format!("key {step}");
        match (store.begin(&key(&name), Fingerprint::of(&name)), step % 5) {
            (Ok(Begin::Fresh(_)), 3) | (Ok(Begin::Interrupted(_)), 4) => {}
            (Ok(Begin::Replay(completed)), 0..3) => {
                assert_eq!(completed.result(), name.repeat(step * 10).as_bytes(), "{name}");
            }
            (answer, _) => panic!("{name} is {answer:?}"),
        }
    }
    Seen::Right
}

/// Damages a copy of the store and looks at it; a panic is a failure that names the damage.
fn check(disk: &SimDisk, clock: &ManualClock, what: &str, damage: impl FnOnce(&SimDisk)) -> Seen {
    let damaged = disk.after_kill();
    damage(&damaged);
    catch_unwind(AssertUnwindSafe(|| look(damaged, clock)))
        .unwrap_or_else(|_| panic!("a wrong answer or a panic after {what}"))
}

/// Flips bits of one file: those that `bits` picks among the bits of the file.
fn flip(name: &str, count: usize, bits: impl Fn(usize, usize) -> usize) -> [usize; 2] {
    let (disk, clock) = store();
    let len = disk.bytes()[name].len();
    let mut seen = [0; 2];
    for at in 0..count {
        let bit = bits(at, len * 8);
        let what = format!("flip of bit {bit} of {name}");
        let refused = check(&disk, &clock, &what, |disk| {
            disk.damage(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }) == Seen::Refused;
        seen[usize::from(refused)] += 1;
    }
    seen
}

fn random_bit(at: usize, bits: usize) -> usize {
    (splitmix(at as u64) % bits as u64) as usize
}

#[test]
fn a_flipped_bit_of_the_vault_is_noticed_or_harmless() {
    let [right, refused] = flip("vault.redb", size("ROT_FLIPS", 3_000) as usize, random_bit);
    assert!(0 < right && 0 < refused, "{right} right, {refused} refused");
}

#[test]
fn a_flipped_bit_of_an_acknowledged_frame_is_noticed() {
    // From the second page on the log holds frames; the last one is told from a torn write by
    // nothing, and is left out here.
    let (disk, _) = store();
    let log = if disk.bytes()["log-0"][4096] == b'i' && disk.bytes()["log-1"][4096] == b'i' {
        "log-1"
    } else {
        panic!("the work was not spread over both segments")
    };
    let bytes = &disk.bytes()[log][4096..];
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("there are frames");
    let last = bytes[..end].windows(4).rposition(|word| word == b"ifrm").expect("there are frames");
    let mut covered = Vec::new();
    let mut at = 0;
    while at < last {
        let len =
            u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes")) as usize;
        covered.extend((at + 4096) * 8..(at + 4096 + 48 + len) * 8);
        at = (at + 48 + len).next_multiple_of(8);
    }
    let [right, refused] = flip(log, 2_000, |at, _| covered[random_bit(at, covered.len())]);
    assert_eq!((right, refused), (0, 2_000));
}

#[test]
fn a_flipped_bit_outside_the_frames_is_noticed_or_harmless() {
    for log in ["log-0", "log-1"] {
        let header = flip(log, 52 * 8, |at, _| at);
        assert_eq!(header, [0, 52 * 8], "the header of {log}");
    }
    let [right, _] = flip("log-0", 500, random_bit);
    assert!(0 < right);
}

#[test]
fn every_cut_is_noticed() {
    let (disk, clock) = store();
    for name in ["vault.redb", "log-0", "log-1"] {
        let len = disk.bytes()[name].len();
        for cut in (0..len).step_by(1009).chain([1, 4095, 4096, 4097, len - 1]) {
            let what = format!("cut of {name} to {cut} bytes");
            check(&disk, &clock, &what, |disk| disk.damage(name, |bytes| bytes.truncate(cut)));
        }
    }
}

#[test]
fn zeroed_and_swapped_pages_are_noticed_or_harmless() {
    let (disk, clock) = store();
    for name in ["vault.redb"] {
        let pages = disk.bytes()[name].len() / 4096;
        for page in 0..pages {
            check(&disk, &clock, &format!("zeroed page {page}"), |disk| {
                disk.damage(name, |bytes| bytes[page * 4096..][..4096].fill(0));
            });
            check(&disk, &clock, &format!("swapped page {page}"), |disk| {
                let other = (page + 1) % pages;
                disk.damage(name, |bytes| {
                    for at in 0..4096 {
                        bytes.swap(page * 4096 + at, other * 4096 + at);
                    }
                });
            });
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let (disk, clock) = store();
    for name in ["vault.redb", "log-0", "log-1"] {
        let seen = check(&disk, &clock, &format!("loss of {name}"), |disk| disk.remove(name));
        assert_eq!(seen, Seen::Refused);
    }
}

#[test]
fn the_log_of_another_store_is_noticed() {
    let (disk, clock) = store();
    let (other, _) = store();
    let seen = check(&disk, &clock, "a log from elsewhere", |disk| {
        disk.put("log-0", other.bytes()["log-0"].clone());
    });
    assert_eq!(seen, Seen::Refused);
}

#[test]
fn a_segment_that_was_wiped_is_noticed_by_the_one_after_it() {
    // Both segments hold frames that the vault does not have: the first is full, and the second
    // has gone on. This is how a kill finds a store whose settle has not come to its end.
    let bench = Bench::new();
    bench.disk.fail(Fault {
        on: Op::VaultSync,
        after: 0,
        for_good: true,
        kind: std::io::ErrorKind::Other,
    });
    let mut names = Vec::new();
    for step in 0.. {
        let name = format!("{step}");
        let permit = bench.begin(&name, "request").fresh();
        if permit.complete([7; 1_000]).is_err() {
            break;
        }
        names.push(name);
    }
    let (disk, clock) = (bench.disk.after_kill(), bench.clock);
    let whole = Bench::on(disk.after_kill(), clock.clone());
    for name in &names {
        assert_eq!(whole.begin(name, "request").replay().result(), [7; 1_000]);
    }
    let first = |name: &str| {
        let bytes = &disk.bytes()[name][4096 + 16..4096 + 24];
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    };
    let earlier = if first("log-0") < first("log-1") { "log-0" } else { "log-1" };
    disk.damage(earlier, |bytes| bytes[4096..].fill(0));
    let opened = builder(&clock).open_on(disk);
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
}
