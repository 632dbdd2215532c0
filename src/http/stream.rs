//! A response that is sent as it comes, and kept at its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Body, BodyError};
use super::layer::Config;
use super::{backing, outcome, stored};
use crate::handle::Execution;

/// The body of a response that cannot be held until it is stored, such as server-sent events. Its end is
/// not told to the client before the response is stored. If the client leaves before, or the body
/// fails, the execution is dropped, and so interrupted: the handler was cut in the middle.
pub(super) struct Streamed {
    body: Body,
    len_max: usize,
    /// What was sent until now, as far as it may be kept.
    copy: BytesMut,
    /// It is too long, or has a secret in it.
    is_left_out: bool,
    status: StatusCode,
    headers: HeaderMap,
    state: State,
}

enum State {
    Sending(Execution, OwnedSemaphorePermit),
    /// All is sent but the trailers and the end. It gives whether the response is stored.
    Storing(Pin<Box<dyn Future<Output = bool> + Send>>, Option<HeaderMap>),
    Ended,
}

impl Streamed {
    pub(super) fn new(
        (execution, handler): (Execution, OwnedSemaphorePermit),
        head: &Parts,
        config: &Config,
        body: Body,
    ) -> Self {
        Self {
            body,
            len_max: config.response_len_max,
            copy: BytesMut::new(),
            is_left_out: outcome::is_secret(head, config.keep_no_store),
            status: head.status,
            headers: stored::lasting(&head.headers, &config.unstored_headers),
            state: State::Sending(execution, handler),
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.is_left_out |= self.len_max - self.copy.len() < piece.len();
        if !self.is_left_out {
            self.copy.extend_from_slice(piece);
        }
    }

    /// Nothing more is to be sent: stores what was.
    fn store(&mut self, trailers: Option<HeaderMap>) {
        let State::Sending(execution, handler) = std::mem::replace(&mut self.state, State::Ended)
        else {
            return;
        };
        let bytes = stored::encode(self.status, &self.headers, &self.copy, trailers.as_ref());
        let is_left_out = self.is_left_out;
        let storing = async move {
            let _until_the_end = handler;
            backing::keep(execution, &bytes, is_left_out).await
        };
        self.state = State::Storing(Box::pin(storing), trailers);
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
                    let Poll::Ready(is_stored) = storing.as_mut().poll(context) else {
                        return Poll::Pending;
                    };
                    let trailers = trailers.take();
                    self.state = State::Ended;
                    if !is_stored {
                        return Poll::Ready(Some(Err("the response could not be stored".into())));
                    }
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                State::Sending(..) => {}
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.store(None),
                Poll::Ready(Some(Err(error))) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_trailers() {
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
