//! A stream that carries another protocol, opened by an extended `CONNECT` (RFC 8441): what a connection that switched
//! protocols is over HTTP/1.1. Exempt from the deadlines of content, as that is; flow control holds both ways.

use super::{Shared, head};
use crate::stream::Stream;
use crate::{Response, Upgraded};
use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes asked of flow control at a time.
const SLICE_BYTES: usize = 16 * 1024;

/// Both directions of the stream as one stream of bytes. Dropped means ended: the other side sees an end. What breaks off
/// is a reset instead (RFC 8441 §5): a panic, and [`Upgraded::reset`].
struct Tunnel {
    receive: RecvStream,
    send: SendStream<Bytes>,
    /// Received and not yet read.
    early: Bytes,
    has_ended: bool,
    /// Set by whoever breaks it off.
    is_broken: Rc<Cell<bool>>,
}

/// Accepts the tunnel with a 200 and runs what speaks through it; until the client has lost interest.
pub(super) async fn talk<S>(
    shared: &Shared<S>,
    respond: &RefCell<SendResponse<Bytes>>,
    receive: RecvStream,
    mut response: Response,
) {
    let Some(on_upgrade) = response.on_upgrade.take() else { return };
    let head = head::tunnel_head(&response, shared.dates.now());
    let Ok(send) = respond.borrow_mut().send_response(head, false) else { return };
    let is_broken = Rc::new(Cell::new(false));
    let tunnel = Tunnel { receive, send, early: Bytes::new(), has_ended: false, is_broken: is_broken.clone() };
    let upgraded = Upgraded::breakable(Stream::Secure(Box::new(tunnel)), is_broken.clone());
    let has_panicked = match catch_unwind(AssertUnwindSafe(|| on_upgrade(upgraded))) {
        Err(_) => true,
        Ok(mut talk) => {
            let ended = poll_fn(|cx| {
                let polled = catch_unwind(AssertUnwindSafe(|| talk.as_mut().poll(cx)));
                polled.map_or(Poll::Ready(Err(())), |ended| ended.map(Ok))
            })
            .await;
            is_broken.set(ended.is_err());
            // What a panic left behind may panic as well.
            ended.is_err() | catch_unwind(AssertUnwindSafe(|| drop(talk))).is_err()
        }
    };
    if has_panicked {
        tracing::error!(peer = %shared.peer.addr, "what speaks through a tunnel panicked");
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.early.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(data) => self.early = data.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..count]);
        self.early.advance(count);
        let _ = self.receive.flow_control().release_capacity(count); // fails only for more than was received
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.send.capacity() == 0 {
            self.send.reserve_capacity(bytes.len().min(SLICE_BYTES));
        }
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(room) => room.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = self.send.capacity().min(bytes.len());
        self.send.send_data(Bytes::copy_from_slice(&bytes[..count]), false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    /// What was written is the connection's to send, and limited by what it buffers.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if self.is_broken.get() || std::thread::panicking() {
            self.send.send_reset(Reason::CANCEL);
        } else if !self.has_ended {
            let _ = self.send.send_data(Bytes::new(), true); // fails where there is nobody left to be told
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
