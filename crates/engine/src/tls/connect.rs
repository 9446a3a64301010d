//! TLS towards other servers: whose word counts, which name is insisted on, and in words why a handshake failed.

use super::watch::Version;
use super::{ALPN_H2, ALPN_HTTP1, TlsError, lock, read_certificates};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of records that may wait for the socket, per connection.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Names whose identity is remembered per [`ClientTls`]; beyond it connections to further names are not kept apart by
/// memory but by a fresh identity each time, so that they are never reused.
const NAMES_MAX: usize = 1024;

/// Whose word counts about who a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// The public authorities that browsers believe, as they were when this program was built.
    #[default]
    Public,
    /// The authorities in this file (PEM), and no other.
    File(PathBuf),
    /// The public authorities and those in this file (PEM).
    PublicAnd(PathBuf),
    /// Nobody's: whoever answers is believed. The connection is secret from those who only listen, and from nobody who
    /// can stand in between.
    Anybody,
}

/// The TLS side of a [`Client`](crate::Client): see [`Client::over_tls`](crate::Client::over_tls). Clones are the same,
/// and so are the connections kept for them.
#[derive(Clone)]
pub struct ClientTls {
    shared: Arc<Shared>,
    /// `None`: the address that is connected to.
    name: Option<ServerName<'static>>,
    id: TlsId,
    offers_http2: bool,
}

struct Shared {
    trust: Trust,
    configs: Mutex<Configs>,
    /// The file with the authorities as it was just before it was last read.
    seen: Mutex<Option<Version>>,
    names: Mutex<HashMap<ServerName<'static>, TlsId>>,
}

/// What one moment's file said.
#[derive(Clone)]
struct Configs {
    http1: Arc<ClientConfig>,
    /// The same, which offers HTTP/2 as well.
    http2: Arc<ClientConfig>,
}

/// What connections are kept apart by: equal ones have the same settings and insist on the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TlsId(u64);

impl TlsId {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// Text that is no name or address a certificate could be for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host name nor an address")]
pub struct InvalidServerName(String);

impl ClientTls {
    /// TLS 1.2 and 1.3, HTTP/1.1 (see [`ClientTls::with_http2`]), with servers that `trust` vouches for. Without [`ClientTls::named`] their
    /// certificates must be for the addresses that are connected to.
    ///
    /// # Errors
    /// The file with the authorities cannot be used.
    pub fn new(trust: &Trust) -> Result<Self, TlsError> {
        let seen = Mutex::new(trust.version());
        let configs = Mutex::new(Configs::load(trust)?);
        let shared = Shared { trust: trust.clone(), configs, seen, names: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), name: None, id: TlsId::new(), offers_http2: false })
    }

    /// Reads the file with the authorities again if it has changed; whether it had. New connections follow it, of this
    /// and of all clones; open ones and those kept for later go on as they are.
    ///
    /// # Errors
    /// It cannot be used: nothing has changed, and it is not read again before it changes once more.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let now = self.shared.trust.version();
        let before = std::mem::replace(&mut *lock(&self.shared.seen), now.clone());
        if before == now {
            return Ok(false);
        }
        let configs = Configs::load(&self.shared.trust)?;
        *lock(&self.shared.configs) = configs;
        Ok(true)
    }

    /// The same, insisting on a certificate for this name or address, which a server also learns (SNI) if it is a name.
    ///
    /// # Errors
    /// The text is neither.
    pub fn named(&self, name: &str) -> Result<Self, InvalidServerName> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| InvalidServerName(name.to_owned()))?;
        let mut names = lock(&self.shared.names);
        let id = names.get(&name).copied().unwrap_or_else(TlsId::new);
        if names.len() < NAMES_MAX {
            names.insert(name.clone(), id);
        }
        drop(names);
        Ok(Self { shared: self.shared.clone(), name: Some(name), id, ..*self })
    }

    /// The same, speaking HTTP/2 with servers that choose it in the handshake (ALPN), and HTTP/1.1 with others.
    pub fn with_http2(&self) -> Self {
        Self { offers_http2: true, ..self.clone() }
    }

    pub(crate) fn offers_http2(&self) -> bool {
        self.offers_http2
    }

    /// The name that is insisted on; `None`: the address that is connected to.
    pub fn name(&self) -> Option<String> {
        self.name.as_ref().map(|name| name.to_str().into_owned())
    }

    pub(crate) fn id(&self) -> TlsId {
        self.id
    }

    /// Shakes hands on a fresh connection, for HTTP/1.1.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        socket: TcpStream,
    ) -> Result<Box<TlsStream<TcpStream>>, HandshakeError> {
        let config = lock(&self.shared.configs).http1.clone();
        self.shake(config, addr, socket).await
    }

    /// Shakes hands on a fresh connection, for HTTP/2 if the server likes.
    pub(crate) async fn connect_with_http2(
        &self,
        addr: SocketAddr,
        socket: TcpStream,
    ) -> Result<Box<TlsStream<TcpStream>>, HandshakeError> {
        let config = lock(&self.shared.configs).http2.clone();
        self.shake(config, addr, socket).await
    }

    async fn shake(
        &self,
        config: Arc<ClientConfig>,
        addr: SocketAddr,
        socket: TcpStream,
    ) -> Result<Box<TlsStream<TcpStream>>, HandshakeError> {
        let name = self.name.clone().unwrap_or_else(|| addr.ip().into());
        let connector = TlsConnector::from(config);
        let limit = |connection: &mut rustls::ClientConnection| connection.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        let connecting = connector.connect_with(name.clone(), socket, limit);
        connecting.await.map(Box::new).map_err(|error| HandshakeError::of(error, &name))
    }
}

impl Trust {
    /// The file with authorities as it is now, if there is one.
    fn version(&self) -> Option<Version> {
        match self {
            Self::File(path) | Self::PublicAnd(path) => Some(Version::of(path)),
            Self::Public | Self::Anybody => None,
        }
    }
}

impl Configs {
    fn load(trust: &Trust) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anybody => Arc::new(Credulous(provider.clone())),
            Trust::Public => verifier(public_roots(), &provider)
                .map_err(|error| TlsError::content("the public authorities".as_ref(), error))?,
            Trust::File(path) | Trust::PublicAnd(path) => {
                let mut roots = match trust {
                    Trust::PublicAnd(_) => public_roots(),
                    _ => RootCertStore::empty(),
                };
                for certificate in read_certificates(path)? {
                    roots.add(certificate).map_err(|error| TlsError::content(path, error))?;
                }
                verifier(roots, &provider).map_err(|error| TlsError::content(path, error))?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        let mut http2 = config.clone();
        http2.alpn_protocols.insert(0, ALPN_H2.to_vec());
        Ok(Self { http1: Arc::new(config), http2: Arc::new(http2) })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, impl fmt::Display> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()
}

/// Why a server could not be talked to over TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// None of the authorities that count has signed its certificate.
    #[error("its certificate is not signed by a trusted authority")]
    Untrusted,
    /// Its certificate is for others.
    #[error("its certificate is not for {expected}")]
    WrongName {
        /// The name or address insisted on.
        expected: String,
    },
    /// Its certificate has ended.
    #[error("its certificate has expired")]
    Expired,
    /// Its certificate begins later, or this machine's clock is late.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// Its certificate cannot be used for another reason.
    #[error("its certificate cannot be used: {0}")]
    Certificate(CertificateError),
    /// It wants something else of its clients, such as a certificate of theirs.
    #[error("it refuses the handshake: {0}")]
    Refused(#[source] Error),
    /// What it says is no TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// Anything else about the protocol.
    #[error("the handshake failed: {0}")]
    Protocol(#[source] Error),
    /// The connection ended in the middle.
    #[error("the handshake broke off: {0}")]
    Io(#[source] io::Error),
}

impl HandshakeError {
    /// The same, for another who waited for the same connection.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Untrusted => Self::Untrusted,
            Self::WrongName { expected } => Self::WrongName { expected: expected.clone() },
            Self::Expired => Self::Expired,
            Self::NotYetValid => Self::NotYetValid,
            Self::Certificate(error) => Self::Certificate(error.clone()),
            Self::Refused(error) => Self::Refused(error.clone()),
            Self::NotTls => Self::NotTls,
            Self::Protocol(error) => Self::Protocol(error.clone()),
            Self::Io(error) => Self::Io(io::Error::from(error.kind())),
        }
    }

    fn of(error: io::Error, name: &ServerName<'_>) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        match cause {
            Some(Error::InvalidCertificate(cause)) => Self::of_certificate(cause, name),
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(cause @ Error::AlertReceived(_)) => Self::Refused(cause.clone()),
            Some(cause) => Self::Protocol(cause.clone()),
            None => Self::Io(error),
        }
    }

    fn of_certificate(cause: &CertificateError, name: &ServerName<'_>) -> Self {
        match cause {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName { expected: name.to_str().into_owned() }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            cause => Self::Certificate(cause.clone()),
        }
    }
}

/// Believes every certificate; that the server has its key is still proven.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
