//! The bodies that pass through the layer.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError};

use super::Problem;
use super::room::{Room, Share};
use crate::sync::Mutex;

/// The body of a request that was read to its end.
#[derive(Clone)]
pub(super) struct Whole {
    pub(super) data: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why a body could not be read.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of a request that the layer passes to the handler, and of a response that it sends.
///
/// If the layer has read the body, its length is known. Any other body is streamed through.
pub struct Body {
    first: Bytes,
    /// Behind a lock, because some servers need a body to be `Sync`.
    rest: Option<Mutex<UnsyncBoxBody<Bytes, BodyError>>>,
    trailers: Option<Box<HeaderMap>>,
}

impl Body {
    /// A body that is read while it's sent.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let body = body.map_err(Into::into).boxed_unsync();
        Self { first: Bytes::new(), rest: Some(Mutex::new(body)), trailers: None }
    }

    /// A body of these bytes.
    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { first: data, rest: None, trailers: trailers.map(Box::new) }
    }

    /// Reads the body to its end, unless it has more than `len_max` bytes.
    pub(super) async fn read(self, len_max: usize) -> Result<Read, BodyError> {
        let mut reading = Reading::new(self, len_max, None);
        let stop = poll_fn(|context| reading.poll(context)).await?;
        Ok(reading.stop(stop))
    }

    /// Reads what is already there of the body, up to the same limit.
    pub(super) async fn read_ahead(self, len_max: usize) -> Result<Ahead, BodyError> {
        let mut reading = Reading::new(self, len_max, None);
        match poll_fn(|context| Poll::Ready(reading.poll(context))).await {
            Poll::Ready(stop) => Ok(Ahead::Ended(reading.stop(stop?))),
            Poll::Pending => Ok(Ahead::GoesOn(reading.put_back().1)),
        }
    }

    /// Reads the body of a request, unless it has more than `len_max` bytes or there is no room for
    /// it.
    pub(super) async fn read_request(
        self,
        len_max: usize,
        room: &Room,
    ) -> Result<(Whole, Share), Problem> {
        let mut reading = Reading::new(self, len_max, Some(room.share()));
        match poll_fn(|context| reading.poll(context)).await {
            Ok(Stop::End) => {
                let share = reading.pieces.share.take().expect("it was given one");
                Ok((reading.whole(), share))
            }
            Ok(Stop::TooLong) => Err(Problem::BodyTooLarge),
            Ok(Stop::NoRoom) => Err(Problem::Unavailable),
            // A layer further out has refused to read more.
            Err(error) if is_too_long(&*error) => Err(Problem::BodyTooLarge),
            Err(_) => Err(Problem::BodyUnreadable),
        }
    }
}

fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_too_long)
}

/// The outcome of reading a body.
pub(super) enum Read {
    Whole(Whole),
    /// The body is longer than the limit: its first part, and the whole of it.
    TooLong {
        start: Bytes,
        body: Body,
    },
}

/// What was already there of a body.
pub(super) enum Ahead {
    Ended(Read),
    /// More is to come. What was read so far is in this body again.
    GoesOn(Body),
}

/// A body that is being read.
struct Reading {
    body: Body,
    pieces: Pieces,
    trailers: Option<HeaderMap>,
    len_max: usize,
}

/// Why reading a body stopped.
#[derive(Clone, Copy)]
enum Stop {
    End,
    TooLong,
    NoRoom,
}

impl Reading {
    fn new(body: Body, len_max: usize, share: Option<Share>) -> Self {
        let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let pieces = Pieces { said, share, ..Pieces::default() };
        Self { body, pieces, trailers: None, len_max }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Stop, BodyError>> {
        if (self.len_max as u64) < self.body.size_hint().lower() {
            return Poll::Ready(Ok(Stop::TooLong));
        }
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?
            else {
                return Poll::Ready(Ok(Stop::End));
            };
            match frame.into_data() {
                Ok(piece) => {
                    if !self.pieces.push(piece) {
                        return Poll::Ready(Ok(Stop::NoRoom));
                    }
                    if self.len_max < self.pieces.len {
                        return Poll::Ready(Ok(Stop::TooLong));
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok().or(self.trailers.take()),
            }
        }
    }

    fn stop(self, stop: Stop) -> Read {
        match stop {
            Stop::End => Read::Whole(self.whole()),
            Stop::TooLong => {
                let (start, body) = self.put_back();
                Read::TooLong { start, body }
            }
            Stop::NoRoom => unreachable!("only the room of a request is counted"),
        }
    }

    fn whole(self) -> Whole {
        Whole { data: self.pieces.join(), trailers: self.trailers }
    }

    /// Restores the body: what was read comes first.
    fn put_back(self) -> (Bytes, Body) {
        let (start, mut body) = (self.pieces.join(), self.body);
        // Nothing was read if the body's declared length was already over the limit.
        if !start.is_empty() {
            body.first = start.clone();
        }
        (start, body)
    }
}

/// What was read of a body. Most bodies come in one piece, which isn't copied. Several pieces are
/// copied, because each one keeps alive the whole buffer that the server read it into.
#[derive(Default)]
struct Pieces {
    len: usize,
    /// The length that the body declared; 0 if it declared none.
    said: usize,
    one: Bytes,
    /// All the pieces, once there is a second one.
    chunks: Vec<BytesMut>,
    /// How many bytes are in the chunks.
    copied: usize,
    /// The room that the pieces take, if that is counted.
    share: Option<Share>,
}

/// No chunk is longer, so little of the last one stays empty.
const CHUNK_LEN_MAX: usize = 64 * 1024;
const CHUNK_LEN_MIN: usize = 1024;

impl Pieces {
    /// Returns `false` if there is no room for the piece.
    fn push(&mut self, piece: Bytes) -> bool {
        if self.share.as_mut().is_some_and(|share| !share.take(piece.len())) {
            return false;
        }
        if piece.is_empty() {
            return true;
        }
        let is_first = self.len == 0;
        self.len += piece.len();
        if is_first {
            self.one = piece;
            return true;
        }
        if self.chunks.is_empty() {
            let one = std::mem::take(&mut self.one);
            self.copy(&one);
        }
        self.copy(&piece);
        true
    }

    fn copy(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let spare = self.chunks.last().map_or(0, |last| last.capacity() - last.len());
            if spare == 0 {
                let len = self.len.clamp(CHUNK_LEN_MIN, CHUNK_LEN_MAX);
                // If the length of the body is known, the last chunk is no longer than what is
                // left.
                let left = self.said.saturating_sub(self.copied);
                let len = if left == 0 { len } else { len.min(left) };
                self.chunks.push(BytesMut::with_capacity(len));
                continue;
            }
            let (now, later) = piece.split_at(spare.min(piece.len()));
            if let Some(last) = self.chunks.last_mut() {
                last.extend_from_slice(now);
            }
            self.copied += now.len();
            piece = later;
        }
    }

    fn join(mut self) -> Bytes {
        match self.chunks.len() {
            0 => self.one,
            1 => self.chunks.remove(0).freeze(),
            _ => {
                let mut joined = Vec::with_capacity(self.len);
                // Each chunk is freed before the next is copied.
                self.chunks.into_iter().for_each(|chunk| joined.extend_from_slice(&chunk));
                joined.into()
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest.get_mut()).poll_frame(context),
            None => {
                Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(|rest| rest.lock().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.len() as u64;
        let Some(rest) = &self.rest else {
            let mut hint = SizeHint::with_exact(first);
            // In HTTP/1.1 a body with a known length can't have trailers.
            if self.trailers.is_some() {
                hint = SizeHint::new();
                hint.set_lower(first);
            }
            return hint;
        };
        let rest = rest.lock().size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// An empty body: layers around this one answer with it.
impl Default for Body {
    fn default() -> Self {
        Self::whole(Bytes::new(), None)
    }
}

impl From<Whole> for Body {
    fn from(whole: Whole) -> Self {
        Self::whole(whole.data, whole.trailers)
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        Self::whole(data, None)
    }
}

/// Shows nothing of what is sent.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_can_be_sent_and_shared_between_threads() {
        fn is_both<T: Send + Sync>() {}
        is_both::<Body>();
    }

    /// Layers such as those for CORS and time limits, right around this one, answer with it.
    #[test]
    fn a_default_body_is_empty() {
        let body = Body::default();
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }

    proptest! {
        #[test]
        fn what_was_read_in_pieces_is_joined_as_it_came(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..40),
        ) {
            let mut read = Pieces::default();
            for piece in &pieces {
                prop_assert!(read.push(piece.clone().into()));
            }
            let taken: usize = read.chunks.iter().map(BytesMut::capacity).sum();
            prop_assert!(taken <= read.len + CHUNK_LEN_MAX, "{} for {}", taken, read.len);
            prop_assert_eq!(&read.join()[..], pieces.concat());
        }
    }

    #[test]
    fn a_body_of_one_piece_is_not_copied() {
        let (piece, mut pieces) = (Bytes::from(vec![7; 100]), Pieces::default());
        assert!(
            pieces.push(Bytes::new()) && pieces.push(piece.clone()) && pieces.push(Bytes::new())
        );
        assert_eq!(pieces.join().as_ptr(), piece.as_ptr());
    }

    #[tokio::test]
    async fn a_body_without_room_is_refused_and_one_after_it_is_not() {
        let room = Room::new(2048);
        let read = |len| Body::new(Full::from(vec![7; len])).read_request(4096, &room);
        let (first, share) = read(1024).await.expect("there is room");
        assert_eq!(first.data.len(), 1024);
        assert_eq!(read(1025).await.map(|_| ()), Err(Problem::Unavailable));
        drop(share);
        assert!(read(2048).await.is_ok());
        assert_eq!(read(4097).await.map(|_| ()), Err(Problem::BodyTooLarge));
    }
}
