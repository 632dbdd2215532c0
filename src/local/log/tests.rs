use super::frame::{self, Frame, FrameNumber};
use super::header::{LEN as HEADER_LEN, PAGE_LEN, PLACES};
use super::reader::Reader;
use super::segment::{FRAMES_AT, Segment, StoreSecret};
use crate::clock::Timestamp;
use crate::error::OpenError;
use crate::local::disk::{Disk, Memory};
use crate::local::files::SEGMENTS;

const KEY: StoreSecret = [7; 32];
const LOG: &str = SEGMENTS[0];

fn frame_of(salt: u64, number: FrameNumber, changes: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0xAA; 3];
    let at = Timestamp::from_unix_ms(1_000);
    frame::encode(&mut out, &KEY, salt, number, at, changes.iter().copied());
    out
}

/// Reads a file with these bytes.
fn read<T>(bytes: &[u8], key: &StoreSecret, read: impl FnOnce(Reader<'_>) -> T) -> T {
    let disk = Memory::holding([(LOG, bytes.to_vec())]);
    let file = disk.open(LOG).expect("it is there");
    read(Reader::new(&*file, bytes.len() as u64, key))
}

/// The frames from the beginning of the file.
fn frames(bytes: &[u8], key: &StoreSecret) -> Vec<Frame> {
    read(bytes, key, |reader| {
        reader.frames(0).map(|frame| frame.expect("memory does not fail")).collect()
    })
}

/// The numbers of all frames, wherever they are.
fn strays(bytes: &[u8]) -> Vec<FrameNumber> {
    read(bytes, &KEY, |mut reader| {
        let (mut numbers, mut at) = (Vec::new(), 0);
        while let Some((head, end)) = reader.find(at).expect("memory does not fail") {
            numbers.push(head.number);
            at = end;
        }
        numbers
    })
}

#[test]
fn a_frame_comes_back_as_it_was() {
    // The last one is longer than the part that is read at one time.
    let long = vec![0x5A; 300_001];
    for changes in [&[&b"one"[..], b"", b"three"][..], &[], &[&long, b"behind"]] {
        let bytes = frame_of(5, 9, changes);
        let [read] = &frames(&bytes, &KEY)[..] else { panic!("one frame was written") };
        let head = read.head;
        assert_eq!((head.number, head.salt, head.at.as_unix_ms()), (9, 5, 1_000));
        assert_eq!(head.frame_len(), bytes.len() as u64);
        assert!(read.changes().eq(changes.iter().map(|change| Some(*change))));
    }
}

#[test]
fn every_bit_of_a_frame_counts() {
    let bytes = frame_of(5, 1, &[b"payload"]);
    let covered = frame::HEADER_LEN + 4 + 7;
    for bit in 0..covered * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(frames(&flipped, &KEY), [], "bit {bit}");
    }
}

#[test]
fn every_cut_and_every_other_key_is_noticed() {
    let bytes = frame_of(5, 1, &[b"payload!"]);
    let covered = frame::HEADER_LEN + 4 + 8;
    for len in 0..covered {
        assert_eq!(frames(&bytes[..len], &KEY), []);
    }
    assert_eq!(frames(&bytes, &[8; 32]), []);
}

#[test]
fn frames_are_found_behind_rot() {
    let mut bytes = frame_of(5, 1, &[b"first"]);
    bytes[50] ^= 1;
    bytes.extend(frame_of(5, 2, &[b"second"]));
    bytes.extend([0; 64]);
    assert_eq!(strays(&bytes), [2]);
}

#[test]
fn frames_are_found_wherever_parts_of_the_file_are_read_apart() {
    // Zeros, frames that cross the boundaries between parts, bytes that only begin like a frame,
    // and a rest that is shorter than eight bytes.
    let long = vec![0x5A; 100_000];
    for gap in (0..3_000).map(|step| step * 8).chain([65_528, 65_536, 200_000]).step_by(97) {
        let mut bytes = vec![0; 4096 * 17 + gap];
        bytes.extend(frame_of(5, 1, &[&long]));
        bytes.extend(b"ifrm\xFF\xFF\xFF\x00");
        bytes.extend(vec![0x69; gap]);
        bytes.extend(frame_of(6, 2, &[b"second"]));
        bytes.extend([1; 5]);
        assert_eq!(strays(&bytes), [1, 2], "{gap}");
    }
}

#[test]
fn frames_end_where_another_use_of_the_segment_shows_through() {
    let numbers = |of: [(u64, FrameNumber); 3]| {
        let bytes = of.map(|(salt, number)| frame_of(salt, number, &[b"change"])).concat();
        frames(&bytes, &KEY).iter().map(|frame| frame.head.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers([(1, 5), (1, 6), (1, 7)]), [5, 6, 7]);
    assert_eq!(numbers([(1, 5), (1, 6), (2, 7)]), [5, 6]);
    assert_eq!(numbers([(1, 5), (1, 7), (1, 8)]), [5]);
    assert_eq!(numbers([(1, 5), (1, 5), (1, 6)]), [5]);
}

/// A segment of 8 KiB that can grow to 20 KiB.
fn made() -> (Memory, Segment) {
    let disk = Memory::default();
    Segment::create(&disk, LOG, &KEY, 20 * 1024, 8 * 1024).expect("memory does not fail");
    let segment = opened(&disk).expect("it is whole");
    (disk, segment)
}

fn opened(disk: &Memory) -> Result<Segment, OpenError> {
    Segment::open(disk, LOG, &KEY)
}

fn lens(segment: &Segment) -> [u64; 3] {
    [FRAMES_AT + segment.capacity(), segment.file_len(), segment.len_max()].map(|len| len / 1024)
}

fn is_corrupt(opened: Result<Segment, OpenError>, says: &str) -> bool {
    matches!(opened, Err(OpenError::Corrupt { detail, .. }) if detail == says)
}

#[test]
fn the_bytes_of_a_header_stay_what_they_are() {
    let (disk, mut segment) = made();
    let at_first = "6964656d6c6f6700\
        02000000\
        0050000000000000\
        0020000000000000\
        27a35fe53674ac989685a67a8cdacc4cc2556e5e89b4945944b6c4f27323a5ed";
    let copy = |place: usize| {
        disk.with(LOG, |file| file[PLACES[place]..PLACES[place] + HEADER_LEN].to_vec())
    };
    let at_first = crate::local::codec::from_hex(at_first);
    assert_eq!(copy(0), at_first);
    assert_eq!(copy(1), at_first);
    segment.double(&KEY).expect("memory does not fail");
    assert_eq!(copy(0), at_first);
    assert_eq!(copy(1)[20..28], (16 * 1024_u64).to_le_bytes());
    let is_zero = |file: &mut Vec<u8>| {
        let rest = [HEADER_LEN..PLACES[1], PLACES[1] + HEADER_LEN..file.len()];
        rest.into_iter().all(|rest| file[rest].iter().all(|byte| *byte == 0))
    };
    assert!(disk.with(LOG, is_zero));
}

#[test]
fn a_segment_grows_up_to_the_length_that_it_was_made_for() {
    let (disk, mut segment) = made();
    for kib in [16, 20, 20] {
        segment.double(&KEY).expect("memory does not fail");
        assert_eq!(lens(&segment), [kib, kib, 20]);
        assert_eq!(lens(&opened(&disk).expect("it is whole")), [kib, kib, 20]);
    }
    segment.grow(&KEY, 4096).expect("memory does not fail");
    assert_eq!(lens(&segment), [20, 20, 20]);
}

#[test]
fn every_cut_of_a_segment_that_has_grown_is_noticed() {
    let (disk, mut segment) = made();
    segment.double(&KEY).expect("memory does not fail");
    let whole = disk.with(LOG, |file| file.clone());
    for len in (0..whole.len()).rev().step_by(511) {
        disk.with(LOG, |file| file.truncate(len));
        assert!(opened(&disk).is_err(), "{len}");
    }
    disk.with(LOG, |file| *file = [whole.clone(), vec![0; 4096]].concat());
    assert_eq!(lens(&opened(&disk).expect("a growth may have been cut off")), [16, 20, 20]);
    disk.with(LOG, |file| file.push(0));
    assert!(is_corrupt(opened(&disk), "it is longer than it can be"));
}

/// A damaged copy is taken for the result of a crash if the file has grown by then.
#[test]
fn a_header_that_was_being_written_costs_nothing_and_one_that_has_rotted_is_noticed() {
    let (disk, mut segment) = made();
    let damage = |place: usize| {
        let kept = disk.with(LOG, |file| file.clone());
        disk.with(LOG, |file| file[PLACES[place]..][..512].fill(0xAA));
        let opened = opened(&disk);
        disk.with(LOG, |file| *file = kept);
        opened
    };
    for place in [0, 1] {
        assert!(is_corrupt(damage(place), "its header is damaged"));
    }
    // The older copy isn't needed any longer, but it isn't the one that was written last.
    for (kib, newer, older) in [(16, 1, 0), (20, 0, 1)] {
        segment.double(&KEY).expect("memory does not fail");
        let before = lens(&damage(newer).expect("it is whole"));
        assert_eq!(before, [if kib == 16 { 8 } else { 16 }, kib, 20]);
        assert!(is_corrupt(damage(older), "its header is damaged"));
    }
    // The segment grows again from what is left.
    disk.with(LOG, |file| file[PLACES[0]..][..512].fill(0xAA));
    let mut segment = opened(&disk).expect("it is whole");
    segment.double(&KEY).expect("memory does not fail");
    assert_eq!(lens(&opened(&disk).expect("it is whole")), [20, 20, 20]);
}

#[test]
fn a_flipped_bit_of_a_header_is_noticed_or_costs_nothing() {
    let (disk, mut segment) = made();
    segment.double(&KEY).expect("memory does not fail");
    let mut seen = [0, 0];
    let copy_with = |bit| PLACES.iter().position(|at| (*at..at + HEADER_LEN).contains(&(bit / 8)));
    // Every bit of the two copies, and some of the unused bits.
    let bits = (0..PAGE_LEN * 8).filter(|bit| copy_with(*bit).is_some() || bit % 61 == 0);
    for bit in bits {
        disk.with(LOG, |file| file[bit / 8] ^= 1 << (bit % 8));
        let within = copy_with(bit);
        match opened(&disk) {
            Ok(segment) if within == Some(1) => {
                assert_eq!(lens(&segment), [8, 16, 20]);
                seen[1] += 1;
            }
            Ok(segment) => {
                assert_eq!(within, None, "bit {bit}");
                assert_eq!(lens(&segment), [16, 16, 20]);
            }
            Err(_) => {
                assert_eq!(within, Some(0), "bit {bit}");
                seen[0] += 1;
            }
        }
        disk.with(LOG, |file| file[bit / 8] ^= 1 << (bit % 8));
    }
    assert_eq!(seen, [HEADER_LEN * 8; 2]);
}
