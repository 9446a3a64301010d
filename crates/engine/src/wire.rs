//! One socket with its buffers: fills the input, flushes the output, nothing else.

use crate::buffers::{BODY_READ_BYTES, Buffers, HEAD_READ_BYTES};
use crate::pipes::{self, Piped};
use crate::stream::Stream;
use bytes::{Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Longest buffer that a connection keeps while it is quiet: the head of a small request, or of its answer.
const KEPT_BYTES_MAX: usize = 1024;

/// The bytes of one connection, and the decoder that reads them.
pub(crate) struct Wire<Decoder> {
    /// `None` once the connection was closed or handed over.
    socket: Option<Stream>,
    pub(crate) decoder: Decoder,
    pub(crate) input: BytesMut,
    /// Whether the client has closed its side.
    pub(crate) is_eof: bool,
    /// What is to be sent, from `sent` on.
    pub(crate) output: Vec<u8>,
    sent: usize,
    /// Sent after `output` without being copied into it.
    large: Bytes,
    /// Whether nothing that was written lies inside of the stream.
    is_flushed: bool,
    /// Whether others have had their turn since something was queued.
    has_waited: bool,
}

impl<Decoder> Wire<Decoder> {
    pub(crate) fn new(socket: Stream, decoder: Decoder) -> Self {
        Self {
            socket: Some(socket),
            decoder,
            input: BytesMut::new(),
            is_eof: false,
            output: Vec::new(),
            sent: 0,
            large: Bytes::new(),
            is_flushed: true,
            has_waited: false,
        }
    }

    /// Reads once into `input`; 0 is the end. `bulk` reads more at a time.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, buffers: &Buffers, bulk: bool) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if let Stream::Plain(socket) = socket {
            let count = ready!(if bulk {
                socket.poll_recv(cx, &mut self.input, BODY_READ_BYTES)
            } else {
                socket.poll_recv_short(cx, &mut self.input, &mut buffers.scratch())
            })?;
            self.is_eof |= count == 0;
            return Poll::Ready(Ok(count));
        }
        if self.input.capacity() == 0 {
            self.input = buffers.input();
        }
        if bulk && self.input.is_empty() {
            self.input.reserve(BODY_READ_BYTES);
        } else if self.input.capacity() == self.input.len() {
            self.input.reserve(HEAD_READ_BYTES);
        }
        let count = ready!(pin!(socket.read_buf(&mut self.input)).poll(cx))?;
        self.is_eof |= count == 0;
        Poll::Ready(Ok(count))
    }

    /// Moves what has come into a pipe, at most `count` bytes; 0 is the end. `None` where that cannot be: then it is to
    /// be read.
    pub(crate) fn poll_splice(&mut self, cx: &mut Context<'_>, count: usize) -> Option<Poll<io::Result<Piped>>> {
        let (Some(Stream::Plain(socket)), true) = (&self.socket, self.input.is_empty()) else { return None };
        let mut pipe = Piped::take()?;
        let moved = match socket.poll_splice_in(cx, &mut pipe, count) {
            Poll::Ready(Err(error)) if is_refusal(&error) => {
                pipes::give_up();
                return None;
            }
            moved => moved,
        };
        Some(moved.map_ok(|count| {
            self.is_eof |= count == 0;
            pipe
        }))
    }

    /// Lends an output buffer if there is none yet.
    pub(crate) fn open_output(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = buffers.output();
        }
        &mut self.output
    }

    /// Takes over what another has already received, and what it could not send.
    pub(crate) fn resume(&mut self, input: BytesMut, output: Vec<u8>, sent: usize, large: Bytes) {
        (self.input, self.output, self.sent, self.large) = (input, output, sent, large);
    }

    /// What carries the bytes.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.socket.as_ref()
    }

    /// Queues `large` behind the output. Nothing may be appended before both are flushed.
    pub(crate) fn put_large(&mut self, large: Bytes) {
        debug_assert!(self.large.is_empty(), "flushed before");
        self.large = large;
    }

    pub(crate) fn unsent(&self) -> usize {
        self.output.len() - self.sent + self.large.len()
    }

    /// Whether all that was queued is on its way.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_flushed && self.unsent() == 0
    }

    /// Lets the tasks that are ready go first, once for each message that is to be sent. So a worker under load first
    /// reads what many connections have sent, and then sends to all of them without a pause: whoever is at the other
    /// end of several stays awake meanwhile, where it would go to sleep after each message and have to be woken for the
    /// next, at the sender's expense.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_waited || self.unsent() == 0 || !matches!(self.socket, Some(Stream::Plain(_))) {
            return Poll::Ready(());
        }
        self.has_waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes all that is queued. `progress` counts what was written, also when it is not yet all.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, progress: &mut usize) -> Poll<io::Result<()>> {
        while self.unsent() > 0 {
            let Some(socket) = &mut self.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
            let socket = Pin::new(socket);
            let head = &self.output[self.sent..];
            let count = ready!(if self.large.is_empty() {
                socket.poll_write(cx, head)
            } else if head.is_empty() {
                socket.poll_write(cx, &self.large)
            } else {
                socket.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(&self.large)])
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress += count;
            self.advance(count);
            self.is_flushed = false;
        }
        if let (false, Some(socket)) = (self.is_flushed, &mut self.socket) {
            ready!(Pin::new(socket).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, count: usize) {
        let of_output = count.min(self.output.len() - self.sent);
        self.sent += of_output;
        drop(self.large.split_to(count - of_output));
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            self.has_waited = false;
        }
    }

    /// Gives both buffers back where they hold nothing. What is so short that giving it back and fetching another costs
    /// more than it is worth stays.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if self.output.is_empty() && self.output.capacity() > KEPT_BYTES_MAX {
            buffers.put_output(std::mem::take(&mut self.output));
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES_MAX {
            buffers.put_input(std::mem::take(&mut self.input));
        }
    }

    /// Whether the other side has closed, or sent what nobody waits for, as far as the event loop knows.
    pub(crate) fn is_stale(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.socket {
            Some(Stream::Plain(socket)) => !socket.is_quiet(),
            Some(Stream::Tokio(socket)) => {
                !matches!(socket.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // Tickets for later sessions are no content: only the layer itself knows what has come.
            Some(Stream::SecureTokio(stream)) => {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_ready()
            }
            _ => true,
        }
    }

    /// As [`Wire::is_stale`], but asks the system.
    pub(crate) fn is_stale_now(&self) -> bool {
        let socket = match &self.socket {
            Some(Stream::Plain(socket)) => return !socket.is_quiet_now(),
            Some(Stream::Tokio(socket)) => socket,
            Some(Stream::SecureTokio(stream)) => stream.get_ref().0,
            _ => return true,
        };
        let mut byte = [0];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        !matches!(rustix::net::recv(socket, &mut byte, flags), Err(rustix::io::Errno::AGAIN))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown(&mut self, cx: &mut Context<'_>) {
        if let Some(socket) = &mut self.socket {
            // A connection that is already broken needs no shutdown.
            let _ = Pin::new(socket).poll_shutdown(cx);
        }
    }

    /// Where the layer has a word for the end, which tells a whole message from a cut one: says it, as far as it goes
    /// without waiting, unless something is cut. A bare socket needs none before it is closed.
    pub(crate) fn say_goodbye(&mut self) {
        if self.unsent() == 0
            && let Some(Stream::Secure(_)) = &self.socket
        {
            self.shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Takes the socket: to close it or to hand it over.
    pub(crate) fn take_socket(&mut self) -> Option<Stream> {
        self.socket.take()
    }
}

/// Whether the system does not move bytes between these, or may not.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}
