//! The log: it makes single calls durable. Its contents are later settled into the vault in bulk.

pub(crate) mod commit;
pub(crate) mod frame;
mod header;
mod reader;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::io;

use crate::canary;
use crate::clock::Stamp;
use crate::error::OpenError;
use crate::limits::BATCH_BYTES_MAX;
use crate::local::change::RecordId;
use crate::local::codec::{self, Logged};
use crate::local::disk::Disk;
use crate::local::files::SEGMENTS;
use crate::local::files::Temporary;
use crate::local::secret;
use crate::rules::record::Record;
use frame::{Frame, FrameNumber, Put};
use segment::{FRAMES_AT, Segment, StoreSecret};

/// Most bytes of a mark and a wall time within a payload.
const PRELUDE_LEN: usize = 2 * frame::change_len(codec::NUMBER_LEN_MAX);

/// A larger buffer isn't kept. No batch of several changes makes it this large.
const BUFFER_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;

/// Writes frames into two segments alternately.
#[derive(Debug)]
pub(crate) struct Log {
    segments: [Segment; 2],
    /// The segment that is being written, and how many bytes of frames it holds.
    active: usize,
    used: u64,
    salt: u64,
    next: FrameNumber,
    /// The mark that the next frame must start with. It's already in the file, unsynced, as a frame
    /// that the next one overwrites.
    mark: Option<Vec<u8>>,
    key: StoreSecret,
    buffer: Vec<u8>,
}

/// An item of a payload.
enum Part<'p, P> {
    /// The mark or the wall time.
    Prelude(&'p [u8]),
    Change(P),
}

impl<P: Put> Put for Part<'_, P> {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Prelude(bytes) => bytes.put(out),
            Self::Change(change) => change.put(out),
        }
    }
}

/// What the log holds and the vault may not have yet.
#[derive(Default)]
pub(crate) struct Recovered {
    /// The content of each place after each change, oldest first.
    pub(crate) changes: Vec<(RecordId, Option<Record>)>,
    /// The last frame in the log.
    pub(crate) last: FrameNumber,
    /// The latest time stamp in the frames.
    pub(crate) stamp: Stamp,
    /// The vault has given out all serial numbers below this one, according to the marks.
    pub(crate) given_out: u64,
}

impl Recovered {
    /// The place of each change, and what it holds afterwards.
    pub(crate) fn places(&self) -> impl Iterator<Item = (RecordId, Option<&Record>)> {
        self.changes.iter().map(|(id, record)| (*id, record.as_ref()))
    }

    /// Adds the next frame, or returns what is wrong with it.
    fn take(&mut self, frame: &Frame) -> Result<(), &'static str> {
        if frame.head.number != self.last + 1 && !canary::sings("takes stale frames") {
            return Err("an acknowledged frame is missing");
        }
        let mut stamp = Stamp { at: frame.head.at, wall: None };
        for logged in frame.changes() {
            let logged = logged.and_then(|logged| codec::decode_logged(logged).ok());
            match logged.ok_or("a frame contains an invalid change")? {
                Logged::Put { from, record } => {
                    self.changes.extend(from.map(|from| (from, None)));
                    self.changes.push((RecordId::of(&record), Some(record)));
                }
                Logged::Remove(id) => self.changes.push((id, None)),
                Logged::Mark(serial) => {
                    self.given_out = self.given_out.max(serial.saturating_add(1));
                }
                Logged::Wall(wall) => stamp.wall = Some(wall),
            }
        }
        self.last = frame.head.number;
        self.stamp = self.stamp.max(stamp);
        Ok(())
    }
}

impl Log {
    /// Creates the two empty segments of a new store or of a copy, under temporary names. Each
    /// starts with `segment_len` bytes and grows up to half of `bytes_max`.
    pub(crate) fn create(
        disk: &dyn Disk,
        names: Temporary,
        key: &StoreSecret,
        bytes_max: u64,
        segment_len: u64,
    ) -> Result<(), OpenError> {
        for name in SEGMENTS {
            Segment::create(disk, &names.of(name), key, bytes_max / 2, segment_len)?;
        }
        Ok(())
    }

    /// Opens the log, and reads everything after the frame `settled`. New frames are numbered from
    /// `last + 2`. The number that is left out may be the number of a frame that was written but
    /// never acknowledged, and that must not count if it ever shows up.
    pub(crate) fn open(
        disk: &dyn Disk,
        key: &StoreSecret,
        settled: FrameNumber,
    ) -> Result<(Self, Recovered), OpenError> {
        let [first, second] = SEGMENTS;
        let segments = [Segment::open(disk, first, key)?, Segment::open(disk, second, key)?];
        let recovered = recover(&segments, key, settled)?;
        let log = Self {
            segments,
            active: 0,
            used: 0,
            salt: secret::number().map_err(|error| OpenError::io("generate a number", error))?,
            next: recovered.last + 2,
            mark: None,
            key: *key,
            buffer: Vec::new(),
        };
        Ok((log, recovered))
    }

    /// Whether the active segment has room for a frame with this payload and a mark, and for a
    /// mark's frame after it. So there is always room for a mark.
    pub(crate) fn has_room(&self, payload: usize) -> bool {
        let len = frame::frame_len(PRELUDE_LEN + payload) + frame::frame_len(PRELUDE_LEN);
        self.used + len as u64 <= self.active_segment().capacity()
    }

    /// The longest payload that fits into either segment when it is empty. Segments never get
    /// shorter.
    pub(crate) fn payload_max(&self) -> usize {
        let capacity = self.segments.iter().map(Segment::capacity).min().expect("there are two");
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        capacity.saturating_sub(2 * frame::frame_len(PRELUDE_LEN) + 8)
    }

    /// Bytes of frames in the active segment.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Length of both segments in bytes, including unused space.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::file_len).sum()
    }

    /// The total length to which the segments can grow.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.segments.iter().map(Segment::len_max).sum()
    }

    /// Extends both segments to this length, if they are shorter. The vault must already have
    /// everything that they hold.
    pub(crate) fn lengthen(&mut self, segment_len: u64) -> io::Result<()> {
        self.segments.iter_mut().try_for_each(|segment| segment.grow(&self.key, segment_len))
    }

    /// The segment that isn't being written. It can grow as long as writing doesn't switch to it.
    pub(crate) fn idle(&mut self) -> &mut Segment {
        let [first, second] = &mut self.segments;
        if self.active == 0 { second } else { first }
    }

    /// Writes a batch as one frame, with one sync.
    pub(crate) fn append<P: Put>(
        &mut self,
        stamp: Stamp,
        changes: impl IntoIterator<Item = P>,
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mark = self.mark.take();
        self.encode(&mut buffer, stamp, mark.as_deref(), changes);
        self.active_segment().write(self.used, &buffer)?;
        self.active_segment().sync()?;
        self.used += buffer.len() as u64;
        self.next += 1;
        // One long result is no reason to keep a large buffer for ever.
        if buffer.capacity() <= BUFFER_BYTES_MAX {
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Writes a mark without a sync: it survives a kill, and may survive a power cut. The next
    /// frame overwrites it and repeats the mark. An earlier mark that no frame has repeated yet is
    /// replaced, since the new one says more.
    #[cfg(any(feature = "transaction", test, fuzzing))]
    pub(crate) fn mark(&mut self, stamp: Stamp, mark: Vec<u8>) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.encode(&mut buffer, stamp, Some(&mark), [&[][..]; 0]);
        self.active_segment().write(self.used, &buffer)?;
        self.mark = Some(mark);
        self.buffer = buffer;
        Ok(())
    }

    /// Encodes the next frame: the mark, the wall time, the changes.
    fn encode<P: Put>(
        &self,
        buffer: &mut Vec<u8>,
        stamp: Stamp,
        mark: Option<&[u8]>,
        changes: impl IntoIterator<Item = P>,
    ) {
        let (wall, len) = codec::encode_wall(stamp.wall.unwrap_or(stamp.at));
        let prelude = mark.into_iter().chain(wall.get(..len)).map(Part::Prelude);
        let payload = prelude.chain(changes.into_iter().map(Part::Change));
        frame::encode(buffer, &self.key, self.salt, self.next, stamp.at, payload);
    }

    /// The last frame that was written.
    pub(crate) fn last(&self) -> FrameNumber {
        self.next - 1
    }

    /// Continues in the other segment, and overwrites its contents.
    ///
    /// If there is a mark that no frame has repeated yet, it stays where it is, and its frame
    /// becomes an ordinary one: it is made durable before the frame with the next number is
    /// written. Leaving it there and repeating the mark in the other segment would not do. Its
    /// number would then be used twice, and a power cut could leave either frame, so that frame
    /// numbers would no longer prove anything to recovery. This is the only sync that a mark can
    /// cost, and it's rare: a call that seals the log has usually written to it since the mark.
    pub(crate) fn switch(&mut self) -> io::Result<()> {
        if self.mark.take().is_some() {
            self.active_segment().sync()?;
            self.next += 1;
        }
        self.active = 1 - self.active;
        self.used = 0;
        self.salt = secret::number()?;
        Ok(())
    }

    fn active_segment(&self) -> &Segment {
        let [first, second] = &self.segments;
        if self.active == 0 { first } else { second }
    }
}

fn recover(
    segments: &[Segment; 2],
    key: &StoreSecret,
    settled: FrameNumber,
) -> Result<Recovered, OpenError> {
    let unreadable = |error| OpenError::io("read the log", error);
    let corrupt = |detail: &str| OpenError::Corrupt { file: "log", detail: detail.to_owned() };
    let mut uses = Vec::new();
    for segment in segments {
        let mut reader = segment.reader(key);
        let first = reader.head(FRAMES_AT).map_err(unreadable)?;
        uses.extend(first.map(|first| (first.number, reader)));
    }
    // Numbers rise within each use of a segment, so all frames of one use come before all frames of
    // the other.
    uses.sort_by_key(|(first, _)| *first);
    let mut recovered = Recovered { last: settled, ..Recovered::default() };
    for frame in uses.into_iter().flat_map(|(_, reader)| reader.frames(FRAMES_AT)) {
        let frame = frame.map_err(unreadable)?;
        if settled < frame.head.number || canary::sings("takes stale frames") {
            recovered.take(&frame).map_err(corrupt)?;
        }
    }
    // A later frame after the end of the unbroken sequence proves that something before it has
    // rotted.
    for segment in segments {
        let (mut reader, mut at) = (segment.reader(key), FRAMES_AT);
        while let Some((stray, end)) = reader.find(at).map_err(unreadable)? {
            if recovered.last < stray.number && !canary::sings("ends the log at rot") {
                return Err(corrupt("an acknowledged frame is damaged"));
            }
            at = end;
        }
    }
    Ok(recovered)
}
