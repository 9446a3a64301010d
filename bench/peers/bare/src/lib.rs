//! What both bare programs share: a listening socket as the measured servers have it, and the constants of the loop.
//!
//! Safe code alone: the system calls go through `rustix`, which adds nothing to them.

use anyhow::{Context as _, Result};
use rustix::event::epoll;
use rustix::net::sockopt;
use std::net::{SocketAddr, TcpListener};

/// Events taken with one `epoll_wait`.
pub const EVENTS_MAX: usize = 512;
/// The one read buffer of the thread, in bytes.
pub const READ_BYTES: usize = 64 * 1024;
/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
pub const BACKLOG: i32 = 4096;
/// The token of the listening socket; every other token is a file descriptor's number.
pub const LISTENER: u64 = u64::MAX;

/// Binds `addr`, non-blocking, with Nagle's algorithm off for every accepted connection.
pub fn listen(addr: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(addr).with_context(|| format!("cannot bind {addr}"))?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    sockopt::set_tcp_nodelay(&listener, true)?; // accepted sockets inherit it, without a call for each
    Ok(listener)
}

/// Waits for events and leaves them in `events`.
pub fn wait(poll: impl rustix::fd::AsFd, events: &mut Vec<epoll::Event>) -> Result<()> {
    events.clear();
    match epoll::wait(poll, rustix::buffer::spare_capacity(events), None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
