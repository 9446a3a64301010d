//! The system calls of a worker, each once. None of them blocks.

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};

/// Whether more is to follow at once, the end included, so that the system may wait for it before it fills a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

impl More {
    fn flags(self) -> SendFlags {
        #[cfg(target_os = "linux")]
        if self == Self::Yes {
            return SendFlags::NOSIGNAL | SendFlags::MORE;
        }
        #[cfg(target_os = "linux")]
        return SendFlags::NOSIGNAL;
        #[cfg(not(target_os = "linux"))]
        SendFlags::empty()
    }
}

/// Takes one connection from the queue, ready for use without blocking.
#[cfg(target_os = "linux")]
pub(super) fn accept(listener: &TcpListener) -> io::Result<(OwnedFd, SocketAddr)> {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, addr) = rustix::net::acceptfrom_with(listener, flags)?;
    let addr = addr.and_then(|addr| addr.try_into().ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket, addr))
}

/// Takes one connection from the queue, ready for use without blocking.
#[cfg(not(target_os = "linux"))]
pub(super) fn accept(listener: &TcpListener) -> io::Result<(OwnedFd, SocketAddr)> {
    let (socket, addr) = listener.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), addr))
}

pub(super) fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(socket)?.try_into()?)
}

pub(super) fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::empty()).map(|(_, count)| count))
}

/// Receives behind what `buffer` holds, as much as it has room for.
pub(super) fn recv_vec(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let flags = RecvFlags::empty();
    retry(|| rustix::net::recv(socket.as_fd(), rustix::buffer::spare_capacity(buffer), flags).map(|(count, _)| count))
}

pub(super) fn send(socket: impl AsFd, bytes: &[u8], more: More) -> io::Result<usize> {
    retry(|| rustix::net::send(socket.as_fd(), bytes, more.flags()))
}

pub(super) fn send_slices(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = More::No.flags();
    retry(|| rustix::net::sendmsg(socket.as_fd(), slices, &mut rustix::net::SendAncillaryBuffer::default(), flags))
}

/// Sends from a file; 0 means that the file has ended.
#[cfg(target_os = "linux")]
pub(super) fn send_file(socket: impl AsFd, file: impl AsFd, offset: u64, count: usize) -> io::Result<usize> {
    retry(|| {
        let mut offset = offset;
        rustix::fs::sendfile(socket.as_fd(), file.as_fd(), Some(&mut offset), count)
    })
}

/// Moves bytes from a socket into a pipe or from a pipe into a socket; 0 means that the socket has ended.
#[cfg(target_os = "linux")]
pub(super) fn splice(from: impl AsFd, to: impl AsFd, count: usize) -> io::Result<usize> {
    let flags = rustix::pipe::SpliceFlags::NONBLOCK | rustix::pipe::SpliceFlags::MOVE;
    retry(|| rustix::pipe::splice(from.as_fd(), None, to.as_fd(), None, count, flags))
}

/// Only Linux moves bytes so.
#[cfg(not(target_os = "linux"))]
pub(super) fn splice(_: impl AsFd, _: impl AsFd, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether there is neither a byte to receive nor the end.
pub(super) fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(socket, &mut [0], flags), Err(rustix::io::Errno::AGAIN))
}

pub(super) fn shut_sending(socket: impl AsFd) {
    // A connection that is already broken needs no shutdown.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}
