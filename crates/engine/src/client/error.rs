//! How a request to another server fails, by what the caller can do.

use crate::{EncodeError, HandshakeError, ParseError};
use std::io;
use std::net::SocketAddr;

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("{addr}: {stage}: {kind}")]
pub struct ClientError {
    /// The server asked.
    pub addr: SocketAddr,
    /// How far it got.
    pub stage: Stage,
    /// What went wrong.
    #[source]
    pub kind: ClientErrorKind,
    /// Whether the same request may be sent again elsewhere: nothing of a response was seen, and
    /// either nothing of the request was sent or repeating it is harmless.
    pub can_retry: bool,
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No connection yet: the server has seen nothing.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for, or reading, the head of the response.
    Head,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Send => "sending the request",
            Self::Head => "waiting for the response",
        })
    }
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// A deadline passed.
    #[error("timed out")]
    TimedOut,
    /// The server closed before it answered.
    #[error("connection closed before the response")]
    Closed,
    /// The server's bytes are no response: a 502.
    #[error("malformed response: {0}")]
    Protocol(#[source] ParseError),
    /// The request itself cannot be sent; our mistake.
    #[error("request cannot be sent: {0}")]
    Request(#[source] EncodeError),
    /// The request's own content failed while it was sent.
    #[error("request content failed: {0}")]
    Body(#[source] crate::BodyError),
    /// The server switched to a protocol that nobody asked for.
    #[error("protocol switched without being asked")]
    Unasked,
    /// The two ends of an HTTP/2 connection do not understand each other.
    #[error("HTTP/2: {0}")]
    Http2(#[source] super::Http2Error),
    /// Nobody can be talked to over TLS there.
    #[error("TLS: {0}")]
    Tls(#[source] HandshakeError),
    /// The socket failed.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl ClientErrorKind {
    pub(super) fn of_failed_connection(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

impl ClientError {
    /// Whether a deadline passed: for a proxy 504 instead of 502.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ClientErrorKind::TimedOut)
    }

    /// Whether this machine lacks what a connection needs, which says nothing about the server: open files or memory.
    pub fn is_shortage(&self) -> bool {
        use rustix::io::Errno;
        let ClientErrorKind::Io(error) = &self.kind else { return false };
        let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        lacking.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Whether the server could not be reached at all.
    pub fn is_connect(&self) -> bool {
        self.stage == Stage::Connect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_this_machine_is_not_the_servers_fault() {
        let error = |error: io::Error| ClientError {
            addr: ([127, 0, 0, 1], 1).into(),
            stage: Stage::Connect,
            kind: ClientErrorKind::of_failed_connection(error),
            can_retry: true,
        };
        let of_system = |errno: rustix::io::Errno| error(io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(of_system(rustix::io::Errno::MFILE).is_shortage());
        // Ports may lack, or the whole of IPv6: then that server cannot be reached.
        assert!(!of_system(rustix::io::Errno::ADDRNOTAVAIL).is_shortage());
        assert!(!of_system(rustix::io::Errno::CONNREFUSED).is_shortage());
        assert!(!of_system(rustix::io::Errno::HOSTUNREACH).is_shortage());
        assert!(!error(io::ErrorKind::TimedOut.into()).is_shortage());
    }
}
