//! The bodies that pass through the layer.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// The body of a request that was read to its end.
#[derive(Clone)]
pub(super) struct Whole {
    pub(super) data: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why a body could not be read.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of a request that the layer hands to the handler, and of a response that it sends.
///
/// One that the layer has read knows its length. Any other is passed on as it comes.
pub struct Body {
    first: Bytes,
    rest: Option<UnsyncBoxBody<Bytes, BodyError>>,
    trailers: Option<Box<HeaderMap>>,
}

impl Body {
    /// A body that is read while it is sent.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let body = body.map_err(Into::into).boxed_unsync();
        Self { first: Bytes::new(), rest: Some(body), trailers: None }
    }

    /// A body of these bytes.
    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { first: data, rest: None, trailers: trailers.map(Box::new) }
    }

    /// Reads the body to its end, if it has no more than this many bytes.
    pub(super) async fn read(mut self, len_max: usize) -> Result<Read, BodyError> {
        if (len_max as u64) < self.size_hint().lower() {
            return Ok(Read::TooLong { start: Bytes::new(), body: self });
        }
        let (mut pieces, mut trailers) = (Pieces::default(), None);
        while let Some(frame) = self.frame().await {
            match frame?.into_data() {
                Ok(bytes) => pieces.push(bytes),
                Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
            }
            if len_max < pieces.len() {
                // Nobody has seen what was read: it is sent first.
                let start = pieces.join();
                self.first = start.clone();
                return Ok(Read::TooLong { start, body: self });
            }
        }
        Ok(Read::Whole(Whole { data: pieces.join(), trailers }))
    }
}

/// What was read of a body. Most come in one piece, which is not copied.
#[derive(Default)]
struct Pieces {
    one: Bytes,
    /// All of them, from the second on.
    all: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.one.len().max(self.all.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.one = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.one);
        }
        self.all.extend_from_slice(&piece);
    }

    fn join(self) -> Bytes {
        if self.all.is_empty() { self.one } else { self.all.freeze() }
    }
}

/// What reading a body has given.
pub(super) enum Read {
    Whole(Whole),
    /// It is longer than was asked for: what was read of it, and all of it.
    TooLong {
        start: Bytes,
        body: Body,
    },
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
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => {
                Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.len() as u64;
        let Some(rest) = &self.rest else {
            let mut hint = SizeHint::with_exact(first);
            // A body of a known length has no trailers in HTTP/1.1.
            if self.trailers.is_some() {
                hint = SizeHint::new();
                hint.set_lower(first);
            }
            return hint;
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint
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

/// It shows nothing of what is sent.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
