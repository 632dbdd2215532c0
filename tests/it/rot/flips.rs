//! Bits that flip.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Files, Image, LOGS, SEGMENT_HEADERS, Seen, VAULT, tally};
use crate::support::model::splitmix;
use crate::support::size;

/// Where a bit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Where redb finds its trees.
    VaultHeader,
    Vault,
    SegmentHeader,
    /// A frame with others after it.
    Frame,
    LastFrame,
    /// After the header of a segment, between frames, and after the last frame.
    Unused,
}

struct Bit {
    place: Place,
    file: &'static str,
    at: usize,
}

impl Image {
    /// Runs of bytes, each with its place. Together they are all bytes of the files.
    fn places(&self) -> Vec<(Place, &'static str, Range<usize>)> {
        const VAULT_HEADER_LEN: usize = 320;
        let mut places = vec![
            (Place::VaultHeader, VAULT, 0..VAULT_HEADER_LEN),
            (Place::Vault, VAULT, VAULT_HEADER_LEN..self.files[VAULT].len()),
        ];
        for log in LOGS {
            let mut at = 0;
            for header in SEGMENT_HEADERS {
                places.push((Place::Unused, log, at..header.start));
                at = header.end;
                places.push((Place::SegmentHeader, log, header));
            }
            let frames = self.frames.iter().enumerate().filter(|(_, frame)| frame.log == log);
            for (number, frame) in frames {
                let is_last = number + 1 == self.last();
                places.push((Place::Unused, log, at..frame.bytes.start));
                let place = if is_last { Place::LastFrame } else { Place::Frame };
                places.push((place, log, frame.bytes.clone()));
                at = frame.bytes.end;
            }
            places.push((Place::Unused, log, at..self.files[log].len()));
        }
        places
    }

    /// This many bits, spread evenly over all places; every bit once if there are fewer.
    fn bits(&self, mut count: usize, seed: u64) -> Vec<Bit> {
        let mut places = BTreeMap::<_, Vec<_>>::new();
        for (place, file, bytes) in self.places() {
            places.entry(place).or_default().push((file, bytes.start * 8..bytes.end * 8));
        }
        let len = |runs: &[(_, Range<usize>)]| runs.iter().map(|(_, run)| run.len()).sum::<usize>();
        let mut places: Vec<_> = places.into_iter().collect();
        // A small place leaves its surplus to the larger ones.
        places.sort_by_key(|(_, runs)| len(runs));
        let mut bits = Vec::new();
        let mut left = places.len();
        for (place, runs) in places {
            let share = (count / left).min(len(&runs));
            (count, left) = (count - share, left - 1);
            bits.extend(spread(share, len(&runs), seed).map(|at| {
                let (file, at) = nth(&runs, at);
                Bit { place, file, at }
            }));
        }
        bits
    }
}

/// The bit at this place of all bits in these runs.
fn nth(runs: &[(&'static str, Range<usize>)], mut at: usize) -> (&'static str, usize) {
    for (file, run) in runs {
        if at < run.len() {
            return (file, run.start + at);
        }
        at -= run.len();
    }
    panic!("there are not so many bits")
}

/// This many different numbers below `len`, far from each other.
fn spread(count: usize, len: usize, seed: u64) -> impl Iterator<Item = usize> {
    let first = (splitmix(seed) % len as u64) as usize;
    let mut steps = (len * 618 / 1000).max(1)..;
    let step = steps.find(|step| greatest_common_divisor(*step, len) == 1).unwrap_or(1);
    (0..count).map(move |at| (first + at * step) % len)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn flip(files: &mut Files, file: &str, bit: usize) {
    files.get_mut(file).expect("it is there")[bit / 8] ^= 1 << (bit % 8);
}

/// `ROT_FLIPS` bits, or 0 for every bit.
fn flips(image: &Image) -> usize {
    let all = image.files.values().map(|bytes| bytes.len() * 8).sum();
    match size("ROT_FLIPS", 600) as usize {
        0 => all,
        flips => flips.min(all),
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let (image, seed) = (Image::new(), size("ROT_SEED", 1));
    let bits = image.bits(flips(&image), seed);
    let tally = tally(&bits, |Bit { place, file, at }| {
        let what = format!("the flip of bit {at} of {file}, ROT_SEED={seed}");
        (*place, image.check(&what, |files| flip(files, file, *at)))
    });
    eprintln!("{} bits: {tally:?}", bits.len());
    let (whole, all_but_one) = (Seen::After(image.last()), Seen::After(image.last() - 1));
    let reached: Vec<_> = tally.into_keys().collect();
    // For the log the list is exact: nothing else was ever seen.
    let expected = [
        (Place::VaultHeader, Seen::Refused),
        (Place::VaultHeader, whole),
        (Place::Vault, Seen::Refused),
        (Place::Vault, whole),
        (Place::SegmentHeader, Seen::Refused),
        (Place::Frame, Seen::Refused),
        (Place::LastFrame, all_but_one),
        (Place::Unused, whole),
    ];
    assert_eq!(reached, expected);
}

#[test]
fn every_bit_can_be_visited_and_none_twice() {
    let image = Image::new();
    let all = image.files.values().map(|bytes| bytes.len() * 8).sum();
    for (count, seed) in [(all, 1), (all + 1, 2), (1_000, 3)] {
        let mut bits: Vec<_> =
            image.bits(count, seed).into_iter().map(|bit| (bit.file, bit.at)).collect();
        bits.sort_unstable();
        bits.dedup();
        assert_eq!(bits.len(), count.min(all));
    }
}

#[test]
fn two_flipped_bits_are_noticed_or_harmless() {
    let (image, seed) = (Image::new(), size("ROT_SEED", 1));
    // Each bit with a random one of the others, so that all places are combined.
    let flips = flips(&image) / 4;
    let (first, second) = (image.bits(flips, seed), image.bits(flips, seed + 1));
    let mut random = seed;
    let pairs: Vec<_> = first
        .iter()
        .map(|one| {
            random = splitmix(random);
            (one, &second[(random % second.len() as u64) as usize])
        })
        .collect();
    let tally = tally(&pairs, |(one, other)| {
        let what = format!(
            "the flips of bit {} of {} and bit {} of {}, ROT_SEED={seed}",
            one.at, one.file, other.at, other.file
        );
        image.check(&what, |files| {
            flip(files, one.file, one.at);
            flip(files, other.file, other.at);
        })
    });
    eprintln!("{} pairs: {tally:?}", pairs.len());
    for seen in [Seen::Refused, Seen::After(image.last() - 1), Seen::After(image.last())] {
        assert!(tally.contains_key(&seen), "never {seen:?}");
    }
}

/// redb names its last commit with one bit that no checksum covers, and the commit before it is
/// intact as well. What was settled is still in the log; for what `complete_with` has committed,
/// the log has a mark.
#[cfg(feature = "transaction")]
#[test]
fn the_bit_that_names_the_last_commit_costs_no_transaction() {
    use crate::support::{Answers, Bench};

    let bench = Bench::new();
    for name in ["first", "second"] {
        let permit = bench.begin(name, "request").fresh();
        permit.complete_with(|_| Ok::<_, ()>("result")).expect("it completes");
    }
    let (disk, clock) = (bench.disk.after_kill(), bench.clock);
    disk.damage(VAULT, |bytes| bytes[9] ^= 1);
    let Some(store) = super::open_on(disk, &clock) else { return };
    let begin = store.begin(&crate::support::key("second"), idemstore::Fingerprint::of("request"));
    assert_eq!(begin.expect("begin answers").replay().result(), b"result");
}
