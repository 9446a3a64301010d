//! Binding one address for many workers.

use std::io;
use std::net::SocketAddr;

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
