//! A socket while a task looks after it, an accepted one or one of ours to another server: what the reactor says about
//! it, and the calls on it.

use super::addresses::{Counted, TooMany};
use super::reactor::{HUNG_UP, Held, Idle, Key, READ_CLOSED, READABLE, Readiness, WRITABLE};
use super::sys::{self, More};
use super::worker::Worker;
use crate::pipes::Piped;
use bytes::{Bytes, BytesMut};
use rustix::fd::OwnedFd;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// A socket of a worker. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    held: Held,
    counted: Option<Box<Counted>>,
    /// The listener it came by.
    site: u32,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, held: Held, counted: Option<Box<Counted>>, site: u32) -> Self {
        Self { fd, held, counted, site }
    }

    /// Counts it for this client instead of for the address it came from, or for nobody. False where the client has as
    /// many connections as an address may have: then it is to be closed.
    pub(crate) fn count_for(&mut self, worker: &Worker, client: Option<SocketAddr>) -> bool {
        self.counted = None;
        let Some(client) = client else { return true };
        match worker.addresses.count(client) {
            Ok(counted) => self.counted = counted,
            Err(TooMany) => return false,
        }
        true
    }

    /// Closes it so that the other side sees a failure instead of an end.
    pub(crate) fn reset(self) {
        // Without the option the other side sees a short message: nothing better is left to do.
        let _ = socket2::SockRef::from(&self.fd).set_linger(Some(Duration::ZERO));
    }

    /// Why it could not be connected.
    pub(super) fn take_error(&self) -> io::Result<()> {
        Ok(rustix::net::sockopt::socket_error(&self.fd)??)
    }

    /// Whether nothing has come that nobody has read, nor the end, as far as the events have said.
    pub(crate) fn is_quiet(&self) -> bool {
        let readiness = &self.held.readiness;
        if readiness.is(READ_CLOSED | HUNG_UP) {
            return false;
        }
        !readiness.is(READABLE) || self.is_quiet_now()
    }

    /// As [`Socket::is_quiet`], but asks the system.
    pub(crate) fn is_quiet_now(&self) -> bool {
        sys::is_quiet(&self.fd)
    }

    /// What the events have said about it.
    pub(crate) fn readiness(&self) -> Rc<Readiness> {
        self.held.readiness.clone()
    }

    /// Has the front look after the answer that comes by it, for the client at this place; with `None` it is again for
    /// whoever waits.
    pub(crate) fn passes_for(&self, key: Option<Key>) {
        self.held.readiness.passes_for.set(key);
    }

    /// Whether the end has come, or a failure, and is still to be read.
    pub(crate) fn is_ending(&self) -> bool {
        self.held.readiness.is(READ_CLOSED | HUNG_UP)
    }

    /// Receives once, without waiting; 0 is the end.
    pub(crate) fn recv_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let readiness = &self.held.readiness;
        let received = sys::recv(&self.fd, buffer);
        match &received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.clear(READABLE | READ_CLOSED),
            Ok(count @ 1..) if *count < buffer.len() && !readiness.is(READ_CLOSED) => readiness.clear(READABLE),
            _ => {}
        }
        received
    }

    /// Sends once, without waiting.
    pub(crate) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.held.readiness.is(WRITABLE | HUNG_UP) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = sys::send(&self.fd, bytes, More::No);
        let is_full = match &sent {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(count) => *count < bytes.len(),
        };
        if is_full {
            self.held.wait_writable(&self.fd)?;
        }
        sent
    }

    /// Hands it back to the front, which waits for the next request with less.
    pub(super) fn put_back(self, idle: impl FnOnce(OwnedFd) -> Idle) {
        let tells_writable = self.held.tells_writable();
        let idle = Idle { tells_writable, counted: self.counted, site: self.site, ..idle(self.fd) };
        self.held.put_back(idle);
    }

    /// Reads once behind what `input` holds, up to `room` bytes; 0 is the end.
    pub(crate) fn poll_recv(&self, cx: &mut Context<'_>, input: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, room, |fd| {
            if input.is_empty() {
                // Without a copy: a vector can be received into, and becomes the buffer.
                let mut buffer = Vec::from(std::mem::take(input));
                buffer.reserve(room);
                let received = sys::recv_vec(fd, &mut buffer);
                *input = BytesMut::from(Bytes::from(buffer));
                return received;
            }
            let mut buffer = Vec::with_capacity(room);
            let received = sys::recv_vec(fd, &mut buffer);
            input.extend_from_slice(&buffer);
            received
        })
    }

    /// Reads once behind what `input` holds, by way of `scratch` and as much as that holds; 0 is the end. Costs a copy
    /// and no allocation: for what is short.
    pub(crate) fn poll_recv_short(
        &self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, scratch.len(), |fd| {
            let count = sys::recv(fd, scratch)?;
            input.extend_from_slice(&scratch[..count]);
            Ok(count)
        })
    }

    fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        recv: impl FnOnce(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let readiness = &self.held.readiness;
        if !readiness.is(READABLE | READ_CLOSED | HUNG_UP) {
            readiness.wait_read(cx);
            return Poll::Pending;
        }
        let proceed = ready!(coop::poll_proceed(cx));
        proceed.made_progress();
        match recv(&self.fd) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                readiness.clear(READABLE | READ_CLOSED);
                readiness.wait_read(cx);
                Poll::Pending
            }
            // What came short was all there was; the end, if it is already here, is still to be read.
            Ok(count) if count < room && !readiness.is(READ_CLOSED) && count > 0 => {
                readiness.clear(READABLE);
                Poll::Ready(Ok(count))
            }
            done => Poll::Ready(done),
        }
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        len: usize,
        send: impl FnOnce(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let readiness = &self.held.readiness;
        if !readiness.is(WRITABLE | HUNG_UP) {
            readiness.wait_write(cx);
            return Poll::Pending;
        }
        let proceed = ready!(coop::poll_proceed(cx));
        proceed.made_progress();
        match send(&self.fd) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.held.wait_writable(&self.fd)?;
                readiness.wait_write(cx);
                Poll::Pending
            }
            Ok(count) if count < len => {
                self.held.wait_writable(&self.fd)?;
                Poll::Ready(Ok(count))
            }
            done => Poll::Ready(done),
        }
    }

    /// Sends from a file as much as goes, at most `count` bytes; 0 means that the file has ended.
    #[cfg(target_os = "linux")]
    pub(crate) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &std::fs::File,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        // Short means either a full socket or a file that ends: trying again tells which.
        self.poll_write_with(cx, 0, |fd| sys::send_file(fd, file, offset, count))
    }

    /// Moves into an empty pipe what has come, at most `count` bytes; 0 is the end.
    pub(crate) fn poll_splice_in(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Piped,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(pipe.left(), 0, "else nobody knows whether it is the pipe that has no room");
        // Short means either that no more has come or that the pipe is full: trying again tells which.
        let moved = ready!(self.poll_read_with(cx, 0, |fd| match pipe.writer() {
            Some(writer) => sys::splice(fd, writer, count),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }))?;
        pipe.handle_filled(moved);
        Poll::Ready(Ok(moved))
    }

    /// Sends from a pipe as much as goes of what it holds.
    pub(crate) fn poll_splice_out(&self, cx: &mut Context<'_>, pipe: &mut Piped) -> Poll<io::Result<usize>> {
        // Short means a full socket, mostly: trying again tells.
        let moved = ready!(self.poll_write_with(cx, 0, |fd| match pipe.reader() {
            Some(reader) => sys::splice(reader, fd, pipe.left()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }))?;
        pipe.handle_emptied(moved);
        Poll::Ready(if moved == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(moved) })
    }

    /// As writing, when more follows at once.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], more: bool) -> Poll<io::Result<usize>> {
        let more = if more { More::Yes } else { More::No };
        self.poll_write_with(cx, bytes.len(), |fd| sys::send(fd, bytes, more))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shut_sending(&self) {
        sys::shut_sending(&self.fd);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.poll_read_with(cx, room, |fd| sys::recv(fd, buf.initialize_unfilled())))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes, false)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        self.poll_write_with(cx, len, |fd| sys::send_slices(fd, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_sending();
        Poll::Ready(Ok(()))
    }
}
