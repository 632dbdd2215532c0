//! A body that is produced while it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::Frame;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The frames that are sent to it, until the sender is gone. It does not know its length.
pub struct Frames(UnboundedReceiver<io::Result<Frame<Bytes>>>);

impl Frames {
    pub fn new() -> (UnboundedSender<io::Result<Frame<Bytes>>>, Self) {
        let (send, receive) = unbounded_channel();
        (send, Self(receive))
    }

    /// A body of these frames.
    pub fn of(frames: impl IntoIterator<Item = io::Result<Frame<Bytes>>>) -> Self {
        let (send, body) = Self::new();
        frames.into_iter().for_each(|frame| send.send(frame).expect("it is read later"));
        body
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}
