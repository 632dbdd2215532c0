//! A response that is sent as it comes, and kept at its end.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::response::Parts;
use http_body::Frame;

use super::body::{Body, BodyError};
use super::conclude::Conclusion;
use super::{Problem, grpc};

/// The body of a response that can't be held until it is stored, such as server-sent events. The
/// end is held back from the client until the response is stored. If the client disconnects before
/// that, or the body fails, the execution is dropped and so interrupted: the handler was cut off in
/// the middle.
pub(super) struct Streamed {
    body: Body,
    head: Parts,
    len_max: usize,
    is_grpc: bool,
    /// What was sent so far, as much as may be kept.
    copy: BytesMut,
    is_too_long: bool,
    state: State,
}

enum State {
    Sending(Box<Conclusion>),
    /// Everything is sent except the trailers and the end. The future returns whether those may be
    /// sent.
    Storing(Pin<Box<dyn Future<Output = bool> + Send>>, Option<HeaderMap>),
    Ended,
}

impl Streamed {
    pub(super) fn new(conclusion: Conclusion, head: Parts, body: Body) -> Self {
        Self {
            body,
            head,
            len_max: conclusion.config.response_len_max,
            is_grpc: conclusion.config.is_grpc,
            copy: BytesMut::new(),
            is_too_long: false,
            state: State::Sending(Box::new(conclusion)),
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.is_too_long |= self.len_max - self.copy.len() < piece.len();
        if !self.is_too_long {
            self.copy.extend_from_slice(piece);
        }
    }

    /// There is nothing more to send: stores what was sent.
    fn store(&mut self, trailers: Option<HeaderMap>) {
        let State::Sending(conclusion) = mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let (head, copy) = (self.head.clone(), mem::take(&mut self.copy).freeze());
        let (is_too_long, sent) = (self.is_too_long, trailers.clone());
        let storing = async move {
            conclusion.end_stream(&head, &copy, trailers.as_ref(), is_too_long).await
        };
        self.state = State::Storing(Box::pin(storing), sent);
    }

    /// The last frame that the client gets.
    fn end(
        &self,
        is_told: bool,
        trailers: Option<HeaderMap>,
    ) -> Option<Result<Frame<Bytes>, BodyError>> {
        if is_told {
            trailers.map(|trailers| Ok(Frame::trailers(trailers)))
        } else if self.is_grpc {
            Some(Ok(Frame::trailers(grpc::trailers(Problem::OutcomeUnknown))))
        } else {
            Some(Err("the response could not be stored".into()))
        }
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Storing(storing, trailers) => {
                    let is_told = ready!(storing.as_mut().poll(context));
                    let trailers = trailers.take();
                    self.state = State::Ended;
                    return Poll::Ready(self.end(is_told, trailers));
                }
                State::Sending(..) => {}
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => self.store(None),
                Some(Err(error)) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => self.store(Some(trailers)),
                    Err(frame) => {
                        if let Some(piece) = frame.data_ref() {
                            self.keep(piece);
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                },
            }
        }
    }
}
