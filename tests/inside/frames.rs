//! The log: what recovery makes of arbitrary bytes, and of frames that were written and then
//! damaged.

use super::{Source, encoded, encoded_logged};
use crate::clock::{Stamp, Timestamp};
use crate::error::OpenError;
use crate::local::change::RecordId;
use crate::local::codec::{Logged, decode_logged, encode_mark, encode_wall};
use crate::local::disk::Memory;
use crate::local::files::SEGMENTS;
use crate::local::log::frame::{self, FrameNumber, change_len};
use crate::local::log::segment::{FRAMES_AT, StoreSecret};
use crate::local::log::{Log, Recovered};

/// Where frames start.
const START: usize = 4_096;
const _: () = assert!(START as u64 == FRAMES_AT);
/// Bytes of frames in one segment: few, so that it soon fills up and is reused.
const CAPACITY: usize = 2_048;
/// Bytes that a segment can grow to.
const LEN_MAX: usize = 2 * START + 512;
const STEPS_MAX: usize = 32;

pub(super) fn run(bytes: &[u8]) {
    // A fuzzer sees what checksums are compared with, and would copy them: a key derived from all
    // input bytes makes each copied checksum worthless for the next input.
    let key = *blake3::hash(bytes).as_bytes();
    let mut source = Source(bytes);
    if source.byte() == 0 {
        arbitrary_segments(&key, source);
    } else {
        written_and_damaged(&key, source);
    }
}

/// Without the key, no input can contain a valid frame.
fn arbitrary_segments(key: &StoreSecret, mut source: Source<'_>) {
    let disk = empty_log(key);
    let settled = source.number();
    for name in SEGMENTS {
        let bytes = source.take(CAPACITY);
        disk.with(name, |file| put(file, START, bytes));
    }
    // After the highest number there is no next one.
    let settled = settled.min(u64::MAX - 2);
    let (_, recovered) = Log::open(&disk, key, settled).expect("there is nothing to be damaged");
    assert!(recovered.changes.is_empty());
    assert_eq!(recovered.last, settled);
}

fn written_and_damaged(key: &StoreSecret, mut source: Source<'_>) {
    let mut written = Written::new(key);
    for _ in 0..STEPS_MAX {
        if source.is_empty() || !written.step(&mut source) {
            break;
        }
    }
    let harm = written.damage(&mut source);
    written.check(harm);
}

/// The serial number of a mark.
fn marked(logged: &[u8]) -> Option<u64> {
    match decode_logged(logged) {
        Ok(Logged::Mark(serial)) => Some(serial),
        _ => None,
    }
}

/// An acknowledged frame that the vault does not have.
struct Acknowledged {
    number: FrameNumber,
    at: Timestamp,
    segment: usize,
    offset: usize,
    /// The bytes that its checksum covers, and the checksum.
    bytes: Vec<u8>,
    changes: Vec<Vec<u8>>,
}

impl Acknowledged {
    /// Whether all its changes can be decoded.
    fn is_sound(&self) -> bool {
        self.changes.iter().all(|change| decode_logged(change).is_ok())
    }

    /// What each of its changes stores at a place.
    fn said(&self) -> impl Iterator<Item = Vec<u8>> {
        self.changes.iter().flat_map(|change| match decode_logged(change) {
            Ok(Logged::Put { from, record }) => {
                let left = from.map(|from| encoded(None, from, None));
                left.into_iter()
                    .chain([encoded(None, RecordId::of(&record), Some(&record))])
                    .collect()
            }
            Ok(Logged::Remove(id)) => vec![encoded(None, id, None)],
            Ok(Logged::Mark(_) | Logged::Wall(_)) | Err(_) => Vec::new(),
        })
    }
}

/// A log, and what must be in it.
struct Written {
    key: StoreSecret,
    disk: Memory,
    log: Log,
    settled: FrameNumber,
    frames: Vec<Acknowledged>,
    /// The frame of a mark, which the next frame will overwrite.
    mark: Option<Acknowledged>,
    active: usize,
    clock: u64,
}

/// What was done to the files besides changing bytes.
#[derive(Clone, Copy, Default)]
struct Harm {
    /// A valid frame may be at a place where it was not written.
    moved: bool,
    /// The first page, or the length.
    header: bool,
}

impl Written {
    fn new(key: &StoreSecret) -> Self {
        let disk = empty_log(key);
        let (log, _) = Log::open(&disk, key, 0).expect("it is new");
        let (key, frames) = (*key, Vec::new());
        Self { key, disk, log, settled: 1, frames, mark: None, active: 0, clock: 0 }
    }

    /// `false` if that was the last step.
    fn step(&mut self, source: &mut Source<'_>) -> bool {
        match source.byte() {
            // Kept to a few values, so that the inputs in the corpus still mean the same programs.
            240.. => self.mark(source),
            byte => match byte % 8 {
                0..=3 => self.append(source),
                4 => self.switch(),
                5 => {
                    self.switch();
                    self.settled = self.log.last();
                    self.frames.clear();
                    if byte & 64 != 0 {
                        self.log.idle().double(&self.key).expect("memory does not fail");
                    }
                }
                6 => return self.reopen(None),
                _ => return self.fail_in_the_middle(source),
            },
        }
        true
    }

    fn append(&mut self, source: &mut Source<'_>) {
        let changes: Vec<_> = (0..source.byte() % 4).map(|_| some_change(source)).collect();
        let payload = payload_len(&changes);
        if self.log.payload_max() < payload {
            return;
        }
        if !self.log.has_room(payload) {
            self.switch();
        }
        self.clock += u64::from(source.byte());
        let stamp = self.stamp();
        let offset = START + usize::try_from(self.log.used()).expect("it is short");
        self.log.append(stamp, changes.iter().map(Vec::as_slice)).expect("memory does not fail");
        let changes = self.marked(changes);
        self.mark = None;
        let frame = self.written(self.log.last(), stamp.at, offset, changes);
        self.frames.push(frame);
    }

    /// A mark fits at any time.
    fn mark(&mut self, source: &mut Source<'_>) {
        let mark = encode_mark(source.number()).expect("it is short");
        let stamp = self.stamp();
        let offset = START + usize::try_from(self.log.used()).expect("it is short");
        self.log.mark(stamp, mark.clone()).expect("memory does not fail");
        let changes = vec![mark, self.wall()];
        self.mark = Some(self.written(self.log.last() + 1, stamp.at, offset, changes));
    }

    fn stamp(&self) -> Stamp {
        let at = Timestamp::from_unix_ms(self.clock);
        Stamp { at, wall: Some(at.saturating_add(std::time::Duration::from_secs(3_600))) }
    }

    /// The wall-clock entry of each frame.
    fn wall(&self) -> Vec<u8> {
        let (wall, len) = encode_wall(self.stamp().wall.expect("it has one"));
        wall[..len].to_vec()
    }

    /// The contents of the next frame: the pending mark, if there is one, the wall clock, and these
    /// changes.
    fn marked(&self, changes: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mark = self.mark.iter().filter_map(|mark| mark.changes.first().cloned());
        mark.chain([self.wall()]).chain(changes).collect()
    }

    /// The frame that the log has just written at this offset.
    fn written(
        &self,
        number: FrameNumber,
        at: Timestamp,
        offset: usize,
        changes: Vec<Vec<u8>>,
    ) -> Acknowledged {
        let end = offset + frame::HEADER_LEN + payload_len(&changes);
        let segment = self.active;
        let bytes = self.disk.with(SEGMENTS[segment], |file| file[offset..end].to_vec());
        assert_eq!(bytes, frame_of(&self.key, salt_of(&bytes), number, at, &changes));
        Acknowledged { number, at, segment, offset, bytes, changes }
    }

    /// Continues in the other segment, all of whose contents are in the vault.
    fn switch(&mut self) {
        self.frames.extend(self.mark.take());
        self.active = 1 - self.active;
        let sealed = self.frames.iter().filter(|frame| frame.segment == self.active);
        self.settled = sealed.map(|frame| frame.number).max().unwrap_or(self.settled);
        self.frames.retain(|frame| self.settled < frame.number);
        self.log.switch().expect("memory does not fail");
    }

    /// Opens the log in its present state. `ghost` is a frame that was written and never
    /// acknowledged.
    fn reopen(&mut self, ghost: Option<Acknowledged>) -> bool {
        let mark = self.mark.take().filter(|mark| self.is_intact(mark));
        self.frames.extend(ghost.or(mark));
        self.check(Harm::default());
        let Ok((log, recovered)) = Log::open(&self.disk, &self.key, self.settled) else {
            return false;
        };
        self.log = log;
        self.settled = recovered.last + 1;
        self.frames.clear();
        self.active = 0;
        true
    }

    /// The process ends while it writes a frame. The written bytes may become visible late.
    fn fail_in_the_middle(&mut self, source: &mut Source<'_>) -> bool {
        let offset = START + usize::try_from(self.log.used()).expect("it is short");
        let before = self.mark.as_ref().or(self.frames.last());
        let before = before.filter(|frame| frame.segment == self.active);
        let salt = before.map_or(7, |frame| salt_of(&frame.bytes));
        let (number, at) = (self.log.last() + 1, Timestamp::from_unix_ms(self.clock));
        let changes = self.marked(vec![some_change(source)]);
        let bytes = frame_of(&self.key, salt, number, at, &changes);
        let (segment, end) = (self.active, offset + bytes.len());
        if START + CAPACITY < end {
            return true;
        }
        let torn = source.below(bytes.len() + 1);
        let name = SEGMENTS[segment];
        let behind = self.disk.with(name, |file| file[offset..end].to_vec());
        self.disk.with(name, |file| put(file, offset, &bytes[..torn]));
        let is_whole = self.disk.with(name, |file| file[offset..end] == bytes);
        let late = bytes.clone();
        let ghost = Acknowledged { number, at, segment, offset, bytes, changes };
        let goes_on = self.reopen(is_whole.then_some(ghost));
        if goes_on {
            let shown = if source.byte().is_multiple_of(2) { late } else { behind };
            self.disk.with(name, |file| put(file, offset, &shown));
        }
        goes_on
    }

    fn damage(&self, source: &mut Source<'_>) -> Harm {
        let mut harm = Harm::default();
        for _ in 0..source.byte() % 5 {
            let kind = source.byte();
            let name = SEGMENTS[usize::from(kind >> 7)];
            let place = START + self.place(source);
            let len = source.below(64) + 1;
            self.disk.with(name, |file| {
                // The place may come from the other segment, which may be the longer one.
                let from = place.min(file.len() - 1);
                match kind % 16 {
                    0 => {
                        file[source.below(START)] ^= 1 << (source.byte() % 8);
                        harm.header = true;
                    }
                    1 => {
                        file.truncate(source.below(file.len()));
                        file.resize(START + CAPACITY, 0);
                        harm.header = true;
                    }
                    2 => {
                        let to = START + source.below(CAPACITY / 8) * 8;
                        let moved = file[from..].iter().take(len * 8).copied().collect::<Vec<_>>();
                        put(file, to, &moved);
                        harm.moved = true;
                    }
                    3..=5 => file[from..].iter_mut().take(len).for_each(|byte| *byte = 0),
                    6 => put(file, from, source.take(len)),
                    _ => file[from] ^= 1 << (source.byte() % 8),
                }
            });
        }
        harm
    }

    /// A place among the frames: mostly within one that is still needed.
    fn place(&self, source: &mut Source<'_>) -> usize {
        let frame = source.below(self.frames.len() + 1);
        match self.frames.get(frame) {
            Some(frame) => frame.offset - START + source.below(frame.bytes.len()),
            None => source.below(CAPACITY),
        }
    }

    fn is_intact(&self, frame: &Acknowledged) -> bool {
        let place = frame.offset..frame.offset + frame.bytes.len();
        self.disk.with(SEGMENTS[frame.segment], |file| file.get(place) == Some(&frame.bytes))
    }

    fn check(&self, harm: Harm) {
        let frames: Vec<_> = self.frames.iter().chain(&self.mark).collect();
        let intact: Vec<_> = frames.iter().map(|frame| self.is_intact(frame)).collect();
        match Log::open(&self.disk, &self.key, self.settled) {
            Ok((_, recovered)) => self.check_recovered(&frames, &intact, &recovered),
            Err(OpenError::Corrupt { .. }) => {
                let first_damaged = intact.iter().position(|intact| !intact);
                let is_noticed = first_damaged.is_some_and(|first| intact[first..].contains(&true));
                let unsound = frames.iter().any(|frame| !frame.is_sound());
                assert!(is_noticed || unsound || harm.moved || harm.header, "for no reason");
            }
            Err(error) => assert!(harm.header, "{error:?}"),
        }
    }

    /// What was recovered is what was written, from the first frame up to the last one that is
    /// there.
    fn check_recovered(&self, frames: &[&Acknowledged], intact: &[bool], recovered: &Recovered) {
        let count = usize::try_from(recovered.last - self.settled).expect("there are few");
        let found = &frames[..count];
        assert!(found.iter().all(|frame| frame.is_sound()), "what is no change was read as one");
        assert!(!intact[count..].contains(&true), "an acknowledged frame is lost silently");
        let written = found.iter().flat_map(|frame| frame.said());
        let read = recovered.changes.iter().map(|(id, record)| encoded(None, *id, record.as_ref()));
        assert!(written.eq(read), "what was not written was read");
        let latest = found.iter().map(|frame| frame.at).max().unwrap_or_default();
        assert_eq!(recovered.stamp.at, latest);
        let marks = found.iter().flat_map(|frame| frame.changes.iter().filter_map(|it| marked(it)));
        let given_out = marks.map(|serial| serial.saturating_add(1)).max().unwrap_or_default();
        assert_eq!(recovered.given_out, given_out);
    }
}

/// A change or, rarely, bytes that aren't one.
fn some_change(source: &mut Source<'_>) -> Vec<u8> {
    match source.byte() {
        0 => {
            let bytes = source.take(20);
            // If it happens to be a change, it is put in its shortest form, which is the one that
            // is encoded again.
            decode_logged(bytes).map_or(bytes.to_vec(), encoded_logged)
        }
        kind if kind % 2 == 0 => encoded(None, source.id(), None),
        kind => {
            let record = source.record(600);
            encoded((kind % 3 == 0).then(|| source.id()), RecordId::of(&record), Some(&record))
        }
    }
}

fn payload_len(changes: &[Vec<u8>]) -> usize {
    changes.iter().map(|change| change_len(change.len())).sum()
}

/// A frame without its padding, built according to `docs/FORMAT.md` and without the log.
fn frame_of(
    key: &StoreSecret,
    salt: u64,
    number: FrameNumber,
    at: Timestamp,
    changes: &[Vec<u8>],
) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("it is short").to_le_bytes();
    let payload: Vec<u8> =
        changes.iter().flat_map(|change| [len(change).as_slice(), change].concat()).collect();
    let mut bytes = b"ifrm".to_vec();
    bytes.extend(len(&payload));
    for field in [salt, number, at.as_unix_ms()] {
        bytes.extend(field.to_le_bytes());
    }
    let checksum = blake3::keyed_hash(key, &[bytes.as_slice(), &payload].concat());
    bytes.extend(&checksum.as_bytes()[..16]);
    bytes.extend(payload);
    bytes
}

fn salt_of(frame: &[u8]) -> u64 {
    frame[8..16].iter().rfold(0, |salt, byte| salt << 8 | u64::from(*byte))
}

/// Writes into a file, as far as the file reaches.
fn put(file: &mut [u8], from: usize, bytes: &[u8]) {
    file[from..].iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
}

/// A log that was never written to, built according to `docs/FORMAT.md`.
fn empty_log(key: &StoreSecret) -> Memory {
    let lengths = [LEN_MAX, START + CAPACITY].map(|len| (len as u64).to_le_bytes()).concat();
    let mark = [b"idemstore log segment".as_slice(), &lengths].concat();
    let mut header = [b"idemlog\0\x02\0\0\0".as_slice(), &lengths].concat();
    header.extend(blake3::keyed_hash(key, &mark).as_bytes());
    header.resize(START / 2, 0);
    let mut segment = header.repeat(2);
    segment.resize(START + CAPACITY, 0);
    Memory::holding(SEGMENTS.map(|name| (name, segment.clone())))
}
