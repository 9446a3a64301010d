//! A connection that no longer carries HTTP.

use crate::stream::Stream;
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The raw stream after a 101. Bytes that came together with the head are read first.
#[derive(Debug)]
pub struct Upgraded {
    early: Bytes,
    socket: Stream,
    /// Tells a stream of another layer that it was broken off.
    is_broken: Option<Rc<Cell<bool>>>,
}

/// Decides what the end of an [`Upgraded`] connection is taken for.
#[derive(Debug, Clone)]
pub struct Breaker(Option<Rc<Cell<bool>>>);

impl Breaker {
    /// Its end, when it is dropped, is to be seen as a failure: a stream of HTTP/2 is then reset (RFC 8441 §5). A
    /// connection of its own is closed as ever.
    pub fn break_off(&self) {
        if let Some(is_broken) = &self.0 {
            is_broken.set(true);
        }
    }
}

impl Upgraded {
    pub(crate) fn new(socket: Stream, early: Bytes) -> Self {
        Self { early, socket, is_broken: None }
    }

    /// As [`Upgraded::new`], for a layer that tells an end from a failure when it is dropped.
    pub(crate) fn breakable(socket: Stream, is_broken: Rc<Cell<bool>>) -> Self {
        Self { early: Bytes::new(), socket, is_broken: Some(is_broken) }
    }

    /// Breaks it off from elsewhere, while somebody else reads and writes.
    pub fn breaker(&self) -> Breaker {
        Breaker(self.is_broken.clone())
    }

    /// Breaks the connection off: the other side is to see a failure, not an end, where the protocol below can tell
    /// them apart. What was written last may be lost.
    pub fn reset(self) {
        self.breaker().break_off();
        self.socket.reset();
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let count = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..count]);
        self.early.advance(count);
        if self.early.is_empty() {
            self.early = Bytes::new(); // lets go of the buffer it was part of
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
