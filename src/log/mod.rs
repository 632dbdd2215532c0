//! The log: durability of single calls. What is in it is settled into the vault later, in bulk.

pub(crate) mod commit;
pub(crate) mod frame;
pub(crate) mod segment;

use std::io;

use crate::canary;
use crate::clock::Timestamp;
use crate::codec::{self, Logged};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::record::{Record, RecordId};
use frame::FrameNumber;
use segment::{Segment, StoreKey};

/// Bytes of the longest mark within a payload.
const MARK_LEN: usize = frame::change_len(codec::MARK_LEN_MAX);

/// Writes frames into two segments by turns.
#[derive(Debug)]
pub(crate) struct Log {
    segments: [Segment; 2],
    /// The one that is written, and the bytes it holds.
    active: usize,
    used: u64,
    salt: u64,
    next: FrameNumber,
    /// What the next frame says first. It is written already, as a frame of its own that the next
    /// one is written over, and not synced.
    mark: Option<Vec<u8>>,
    key: StoreKey,
    buffer: Vec<u8>,
}

/// What the log holds that the vault may not have yet.
#[derive(Default)]
pub(crate) struct Recovered {
    /// What each frame says of each place, oldest first.
    pub(crate) changes: Vec<(RecordId, Option<Record>)>,
    /// The last frame that is there.
    pub(crate) last: FrameNumber,
    /// The latest time in any frame.
    pub(crate) high_water: Timestamp,
    /// The vault has given out all serial numbers below this one, as the marks say.
    pub(crate) given_out: u64,
}

impl Log {
    /// Writes the two empty segments of a new store.
    pub(crate) fn create(disk: &dyn Disk, key: &StoreKey, bytes: u64) -> Result<(), OpenError> {
        for name in segment::NAMES {
            Segment::create(disk, name, key, bytes / 2)?;
        }
        disk.sync_names().map_err(|error| OpenError::io("create the log", error))
    }

    /// Opens the log, and reads all that came after the frame `settled`. New frames are numbered
    /// from `last + 2`: the one number left out is that of a frame that was perhaps written
    /// without anyone being told, and that must count for nothing if it ever shows up.
    pub(crate) fn open(
        disk: &dyn Disk,
        key: &StoreKey,
        settled: FrameNumber,
    ) -> Result<(Self, Recovered), OpenError> {
        let [first, second] = segment::NAMES;
        let segments = [Segment::open(disk, first, key)?, Segment::open(disk, second, key)?];
        let recovered = recover(&segments, key, settled)?;
        let log = Self {
            segments,
            active: 0,
            used: 0,
            salt: random(),
            next: recovered.last + 2,
            mark: None,
            key: *key,
            buffer: Vec::new(),
        };
        Ok((log, recovered))
    }

    /// Whether the active segment has room for a frame with this payload and a mark, and for the
    /// frame of a mark behind it. So there is room for a mark at any time.
    pub(crate) fn has_room(&self, payload: usize) -> bool {
        let len = frame::frame_len(MARK_LEN + payload) + frame::frame_len(MARK_LEN);
        self.used + len as u64 <= self.active_segment().capacity()
    }

    /// The longest payload that an empty segment has room for.
    pub(crate) fn payload_max(&self) -> usize {
        let capacity = usize::try_from(self.active_segment().capacity()).unwrap_or(usize::MAX);
        capacity.saturating_sub(2 * frame::frame_len(MARK_LEN) + 8)
    }

    /// Bytes of frames in the active segment.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of both segments, with what of them is not used.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.capacity() + segment::FRAMES_AT).sum()
    }

    /// Writes one batch as one frame, with one sync.
    pub(crate) fn append<'c>(
        &mut self,
        at: Timestamp,
        changes: impl IntoIterator<Item = &'c [u8]>,
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mark = self.mark.take();
        let payload = mark
            .as_deref()
            .into_iter()
            .chain(changes.into_iter().map(|change| -> &[u8] { change }));
        frame::encode(&mut buffer, &self.key, self.salt, self.next, at, payload);
        self.active_segment().write(self.used, &buffer)?;
        self.active_segment().sync()?;
        self.used += buffer.len() as u64;
        self.next += 1;
        self.buffer = buffer;
        Ok(())
    }

    /// Writes a mark, and does not sync it: after a kill it is there, and after a power cut perhaps.
    /// The next frame is written over it, and says the same. A mark that was written before and that
    /// no frame has said yet is replaced: it said less.
    #[cfg(any(feature = "transaction", test, fuzzing))]
    pub(crate) fn mark(&mut self, at: Timestamp, mark: Vec<u8>) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        frame::encode(&mut buffer, &self.key, self.salt, self.next, at, [mark.as_slice()]);
        self.active_segment().write(self.used, &buffer)?;
        self.mark = Some(mark);
        self.buffer = buffer;
        Ok(())
    }

    /// The last frame that was written.
    pub(crate) fn last(&self) -> FrameNumber {
        self.next - 1
    }

    /// Goes on in the other segment, in place of what that one held.
    ///
    /// A mark that no frame has said yet stays where it is, and its frame becomes one like any
    /// other: durable, before the one with the next number is written. To leave it and say it again
    /// in the other segment would not do. Its number would be there twice, and a power cut may
    /// leave either of the two, so that recovery could take no number for proof. This is the one
    /// sync that a mark can cost, and it is seldom: a call that seals the log has most often
    /// written to it after the mark.
    pub(crate) fn switch(&mut self) -> io::Result<()> {
        if self.mark.take().is_some() {
            self.active_segment().sync()?;
            self.next += 1;
        }
        self.active = 1 - self.active;
        self.used = 0;
        self.salt = random();
        Ok(())
    }

    fn active_segment(&self) -> &Segment {
        let [first, second] = &self.segments;
        if self.active == 0 { first } else { second }
    }
}

fn recover(
    segments: &[Segment; 2],
    key: &StoreKey,
    settled: FrameNumber,
) -> Result<Recovered, OpenError> {
    let mut bytes = Vec::new();
    for segment in segments {
        bytes.push(segment.read().map_err(|error| OpenError::io("read the log", error))?);
    }
    let corrupt = |detail: &str| OpenError::Corrupt { file: "log", detail: detail.to_owned() };
    let mut frames: Vec<_> = bytes
        .iter()
        .flat_map(|bytes| segment::frames(bytes, key))
        .filter(|frame| settled < frame.number || canary::sings("takes stale frames"))
        .collect();
    frames.sort_by_key(|frame| frame.number);
    let mut recovered = Recovered { last: settled, ..Recovered::default() };
    for frame in frames {
        if frame.number != recovered.last + 1 && !canary::sings("takes stale frames") {
            return Err(corrupt("an acknowledged frame is missing"));
        }
        for logged in frame.changes() {
            let logged = logged.and_then(|logged| codec::decode_logged(logged).ok());
            match logged.ok_or_else(|| corrupt("a frame holds no change"))? {
                Logged::Change(id, record) => recovered.changes.push((id, record)),
                Logged::Mark(serial) => {
                    recovered.given_out = recovered.given_out.max(serial.saturating_add(1));
                }
            }
        }
        recovered.last = frame.number;
        recovered.high_water = recovered.high_water.max(frame.at);
    }
    // A frame behind the last one of an unbroken row proves that something before it has rotted.
    let mut strays = bytes.iter().flat_map(|bytes| frame::find_all(bytes, key));
    if strays.any(|frame| recovered.last < frame.number) && !canary::sings("ends the log at rot") {
        return Err(corrupt("an acknowledged frame is damaged"));
    }
    Ok(recovered)
}

/// A number that nobody can guess, from the seed that the operating system gave the process.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
