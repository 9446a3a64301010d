//! TLS for listeners: certificates by server name, reloaded while the server runs, and client certificates. And for
//! clients: see `connect`.
//!
//! ```text
//!   files ──load──▶ Certificates ──▶ rustls::ServerConfig ──▶ one snapshot, replaced as a whole
//!                                                               │ taken once per connection
//!   socket ──handshake (head deadline)──▶ TlsStream ── ALPN ──▶ h2::serve | the HTTP/1.1 loop
//! ```
//!
//! Protocols are rustls's: TLS 1.2 and 1.3, session tickets whose keys change by themselves, no early data. A bad
//! file never takes effect: the certificates that were there before stay, and why is logged and returned.

mod certificates;
mod connect;
mod expiry;
mod handshake;
mod info;
mod listen;
mod watch;

pub use connect::{ClientTls, HandshakeError, InvalidServerName, Trust};
pub use info::TlsInfo;

pub(crate) use connect::TlsId;
pub(crate) use listen::Secure;

use handshake::{Handshaken, handshake};

use certificates::Certificates;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};
use watch::Version;

/// How often files are looked at for changes. People wait for it after they have renewed a certificate.
const RELOAD_PERIOD: Duration = Duration::from_secs(2);
/// TLS 1.2 sessions kept for resumption; TLS 1.3 keeps none here, its tickets hold all.
const SESSIONS_MAX: usize = 4 * 1024;
/// The protocol names of ALPN (RFC 7301, RFC 9113 §3.2).
pub(crate) const ALPN_H2: &[u8] = b"h2";
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Where a certificate lies, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate of the server first, then those between it and the authority.
    pub chain: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Whether clients are asked for certificates, and who must have signed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// Those without one are let in; a wrong one is refused.
    Optional {
        /// The authorities, as PEM.
        authorities: PathBuf,
    },
    /// Those without one are refused.
    Required {
        /// The authorities, as PEM.
        authorities: PathBuf,
    },
}

/// What a listener presents. Certificates are chosen by the name the client asks for; the first one is for clients
/// that ask for none or for an unknown one.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// At least one.
    pub certificates: Vec<CertificateFiles>,
    /// Client certificates.
    pub client_auth: ClientAuth,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// How often the files are looked at for changes.
    pub reload_period: Duration,
}

impl TlsSettings {
    /// One certificate, HTTP/2 and HTTP/1.1, nobody is asked for a certificate.
    pub fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self::many(vec![CertificateFiles { chain: chain.into(), key: key.into() }])
    }

    /// Several certificates, the default one first.
    pub fn many(certificates: Vec<CertificateFiles>) -> Self {
        Self { certificates, client_auth: ClientAuth::None, http2: true, reload_period: RELOAD_PERIOD }
    }

    /// Every file that matters.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let authorities = match &self.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional { authorities } | ClientAuth::Required { authorities } => Some(authorities.as_path()),
        };
        self.certificates.iter().flat_map(|files| [files.chain.as_path(), &files.key]).chain(authorities)
    }
}

/// The TLS side of listeners. Clones share it, so that one reload is seen by all.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    current: Mutex<Arc<Snapshot>>,
    /// The files as they were just before they were last read.
    seen: Mutex<Vec<Version>>,
}

/// What one moment's files said.
struct Snapshot {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// Why TLS cannot be set up. Names the file, never what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate was given.
    #[error("no certificate was given")]
    NoCertificate,
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file has no such thing in it.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl TlsError {
    pub(crate) fn content(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = Mutex::new(Version::of_all(&settings));
        let current = Mutex::new(Arc::new(Snapshot::load(&settings, &provider)?));
        Ok(Self { shared: Arc::new(Shared { settings, provider, current, seen }) })
    }

    /// Reads all files again. New connections use them at once, open ones go on as they are.
    ///
    /// # Errors
    /// One of them cannot be used: nothing has changed.
    pub fn reload(&self) -> Result<(), TlsError> {
        *lock(&self.shared.seen) = Version::of_all(&self.shared.settings);
        let snapshot = Arc::new(Snapshot::load(&self.shared.settings, &self.shared.provider)?);
        *lock(&self.shared.current) = snapshot;
        Ok(())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        lock(&self.shared.current).clone()
    }
}

/// What a lock guards is replaced as a whole, so that a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl Snapshot {
    fn load(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::load(&settings.certificates, provider)?);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions");
        let builder = match client_authorities(&settings.client_auth)? {
            None => builder.with_no_client_auth(),
            Some((path, roots)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                let verifier = match settings.client_auth {
                    ClientAuth::Optional { .. } => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::content(path, error))?)
            }
        };
        let resolver = Resolver(certificates.clone());
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        if settings.http2 {
            config.alpn_protocols.insert(0, ALPN_H2.to_vec());
        }
        // Where clients prove who they are, every connection proves it anew: a ticket would outlive its authority.
        if settings.client_auth == ClientAuth::None {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
            config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| TlsError::File {
                path: PathBuf::from("ticket key"),
                error: io::Error::other(error),
            })?;
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), certificates })
    }
}

fn client_authorities(auth: &ClientAuth) -> Result<Option<(&Path, RootCertStore)>, TlsError> {
    let (ClientAuth::Optional { authorities } | ClientAuth::Required { authorities }) = auth else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(authorities)? {
        roots.add(certificate).map_err(|error| TlsError::content(authorities, error))?;
    }
    Ok(Some((authorities, roots)))
}

/// All certificates of a PEM file, at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TlsError::content(path, error))?;
    if all.is_empty() { Err(TlsError::content(path, "holds no certificate in PEM form")) } else { Ok(all) }
}

/// Longest file of keys or certificates, in bytes: a bundle of every public authority has 250 KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use io::Read as _;
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(TlsError::File { path: path.to_owned(), error }),
    }
}

/// Chooses a certificate by the name a client asks for.
#[derive(Debug)]
struct Resolver(Arc<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.for_name(hello.server_name()).key.clone())
    }
}
