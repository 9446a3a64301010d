//! `TCP_DEFER_ACCEPT`, which neither `rustix` nor `socket2` nor `nix` has: the only `unsafe` code of this workspace, one
//! system call that is given one integer to read.

use std::io;
use std::time::Duration;

/// Longest deferral that is asked for, in seconds: beyond some minutes the system counts no further.
#[cfg(target_os = "linux")]
const SECONDS_MAX: u64 = 120;

/// Whether this system can defer connections.
pub const IS_SUPPORTED: bool = cfg!(target_os = "linux");

/// Has the system keep a new connection to itself until its client has sent something, for about `patience`: in whole
/// seconds, rounded up. A client that has said nothing by then is asked to confirm the connection once more and is then
/// accepted as it is. Zero hands connections over as soon as they stand, which is what a socket does by itself.
///
/// May be called before and after `listen`; it concerns connections that come from then on. Does nothing where
/// [`IS_SUPPORTED`] is false.
///
/// # Errors
/// The socket is none of TCP.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe library offers this option")]
pub fn defer_accept(listener: &impl std::os::fd::AsFd, patience: Duration) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let seconds = patience.as_secs() + u64::from(patience.subsec_nanos() > 0);
    let seconds = seconds.min(SECONDS_MAX) as libc::c_int;
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as `listener` is borrowed, and the system reads exactly one integer, which
    // lives until the call returns; it keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As on Linux, which alone has this option: does nothing.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn defer_accept<Listener>(_: &Listener, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Instant;

    fn listener(patience: Duration) -> TcpListener {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        defer_accept(&listener, patience).unwrap();
        listener
    }

    #[test]
    fn who_says_nothing_is_accepted_late_and_who_speaks_at_once() {
        let listener = listener(Duration::from_secs(1));
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let _silent = TcpStream::connect(addr).unwrap();
        let mut speaking = TcpStream::connect(addr).unwrap();
        speaking.write_all(b"x").unwrap();
        let begun = Instant::now();
        let mut accepted = Vec::new();
        while accepted.len() < 2 && begun.elapsed() < Duration::from_secs(30) {
            match listener.accept() {
                Ok((_, peer)) => accepted.push(peer),
                Err(_) => std::thread::yield_now(),
            }
        }
        assert_eq!(accepted.first(), speaking.local_addr().ok().as_ref(), "the later one is first");
        assert_eq!(accepted.len(), 2, "the silent one is not forgotten");
    }

    #[test]
    fn zero_takes_it_back() {
        let listener = listener(Duration::from_mins(1));
        defer_accept(&listener, Duration::ZERO).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[test]
    fn fractions_of_a_second_are_not_nothing() {
        let listener = listener(Duration::from_millis(1));
        listener.set_nonblocking(true).unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn other_sockets_are_refused() {
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        assert!(defer_accept(&datagrams, Duration::from_secs(1)).is_err());
    }
}
