//! A TLS client that believes one authority and nobody else.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long it waits for bytes. Far above what is needed: it ends a broken run, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration that believes this authority and offers this protocol.
///
/// # Panics
/// What was given is no certificate.
pub fn client(authority: &CertificateDer<'_>, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).expect("the authority is a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// Speaks TLS over a socket with whoever should be called `name`. The handshake comes with the first byte.
///
/// # Errors
/// The socket fails.
///
/// # Panics
/// `name` is neither a name nor an address.
pub fn over(
    socket: TcpStream,
    authority: &CertificateDer<'_>,
    name: &str,
    alpn: &[u8],
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a name or an address");
    let connection = ClientConnection::new(client(authority, alpn), name).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(StreamOwned::new(connection, socket))
}

/// As [`over`], over a new connection to `addr`.
///
/// # Errors
/// Nobody accepts, or the socket fails.
pub fn connect(
    addr: SocketAddr,
    authority: &CertificateDer<'_>,
    name: &str,
    alpn: &[u8],
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    over(TcpStream::connect(addr)?, authority, name, alpn)
}
