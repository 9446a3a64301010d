//! Binding one address for many workers.
//!
//! `SO_REUSEPORT` gives every worker its own accept queue, but it would also let two programs of one
//! user share a port without noticing. So the first socket is bound without it, which fails when
//! anybody listens there; it gets the option afterwards, before its siblings join.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections the kernel queues per listener before it drops new ones.
const BACKLOG: i32 = 1024;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("cannot listen on {addr}: the port is in use; stop the other program or choose another port")]
    InUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Ports below 1024 are for privileged programs.
    #[error("cannot listen on {addr}: permission denied; choose a port above 1023")]
    Denied {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address belongs to no interface of this machine.
    #[error("cannot listen on {addr}: this machine does not have that address")]
    NoSuchAddress {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {addr}: {error}")]
    Io {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

impl BindError {
    fn new(addr: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::PermissionDenied => Self::Denied { addr },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { addr },
            _ => Self::Io { addr, error },
        }
    }
}

/// Binds `addr` once for each of so many workers and listens: for [`Server::listen_on`](crate::Server::listen_on).
///
/// # Errors
/// The address is in use, also by another server that shares its port, or cannot be had.
pub fn bind(addr: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    bind_all(addr, workers).map_err(|error| BindError::new(addr, error))
}

fn bind_all(addr: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let first = socket(addr)?;
    first.bind(&addr.into())?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        let sibling = socket(addr)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&bound.into())?;
        sockets.push(sibling);
    }
    sockets.into_iter().map(|socket| socket.listen(BACKLOG).map(|()| socket.into())).collect()
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?; // a restart need not wait for old connections to time out
    socket.set_tcp_nodelay(true)?; // accepted sockets inherit it
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn workers_share_one_port() {
        let sockets = bind(any_port(), 3).unwrap();
        let addrs: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!(addrs.len(), 3);
        assert!(addrs.iter().all(|addr| addr == &addrs[0]), "{addrs:?}");
    }

    #[test]
    fn accepted_sockets_send_small_packets_at_once() {
        let sockets = bind(any_port(), 1).unwrap();
        sockets[0].set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(sockets[0].local_addr().unwrap()).unwrap();
        let (accepted, _) = sockets[0].accept().unwrap();
        assert!(accepted.nodelay().unwrap(), "the option is inherited: no call is needed for each connection");
    }

    #[test]
    fn a_port_in_use_is_refused_although_it_could_be_shared() {
        let sockets = bind(any_port(), 2).unwrap();
        let addr = sockets[0].local_addr().unwrap();
        let error = bind(addr, 2).unwrap_err();
        assert!(matches!(error, BindError::InUse { addr: named } if named == addr), "{error:?}");
        assert!(error.to_string().contains(&addr.to_string()));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let elsewhere = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(bind(elsewhere, 1), Err(BindError::NoSuchAddress { .. })));
    }
}
