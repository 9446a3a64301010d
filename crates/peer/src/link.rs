//! How two devices come to share an authenticated byte stream: TLS 1.3 with raw Ed25519 public keys on both sides
//! (RFC 8446, RFC 7250), over whatever ordered stream there is: a TCP socket, or an upgraded stream at a relay.
//!
//! The public key *is* the device id. Certificates, names, resumption, tickets and early data are all off. This module
//! says who is at the other end; whether to talk to it is decided by the rosters, elsewhere.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat::{DeviceId, DeviceKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring as ring_provider, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, PeerMisbehaved,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The application protocol both ends must name (RFC 7301).
pub const ALPN: &[u8] = b"weaprous-p2p/1";
/// Time for the whole handshake. A handshake takes three flights; over a bad mobile network that is still a second or two.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Time for a TCP connection to come up before the address counts as unreachable.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// What stands before the 32 key bytes in an Ed25519 `SubjectPublicKeyInfo` (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 secret bytes in an Ed25519 PKCS#8 document (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Any ordered byte stream a link can run on.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream for S {}

/// A byte stream whose other end has proved which device it is.
pub struct Authenticated {
    /// The device at the other end.
    pub device: DeviceId,
    /// Encrypted, ordered bytes to and from it.
    pub stream: Box<dyn ByteStream>,
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authenticated").field("device", &self.device).finish_non_exhaustive()
    }
}

/// One kind of road between two devices: dials or accepts, and gives an authenticated stream.
pub trait Transport {
    /// Where to dial.
    type Address;
    /// What a listener hands over before anything is proved.
    type Incoming;

    /// Connects to `address` and checks that `expect` is there; `None` takes whoever answers.
    fn dial(
        &self,
        address: Self::Address,
        expect: Option<DeviceId>,
    ) -> impl Future<Output = Result<Authenticated, LinkError>>;

    /// Takes the accepting side of a stream somebody opened to us.
    fn accept(&self, incoming: Self::Incoming) -> impl Future<Output = Result<Authenticated, LinkError>>;
}

/// Why no link came up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there, or the network is in the way.
    #[error("cannot reach it: {0}")]
    Unreachable(io::Error),
    /// It did not finish in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// Another device than the one looked for is there.
    #[error("another device answers there")]
    WrongDevice,
    /// The other end does not speak our protocol, or proved nothing.
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
    /// The relay said no.
    #[error("the relay has no way to it: {0}")]
    Relay(String),
}

/// The TLS end of one device, both roles. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    device: DeviceId,
    identity: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    acceptor: TlsAcceptor,
    handshake_timeout: Duration,
}

impl Tls {
    /// Prepares both roles for `key`.
    ///
    /// # Errors
    /// The crypto library refuses the key; with a key made by [`DeviceKey`] that does not happen.
    pub fn new(key: &DeviceKey, handshake_timeout: Duration) -> Result<Self, TlsError> {
        let provider = Arc::new(ring_provider::default_provider());
        let mut pkcs8 = PKCS8_PREFIX.to_vec();
        pkcs8.extend_from_slice(key.seed());
        let signing = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))?;
        let spki = CertificateDer::from(spki_of(&key.id()));
        let identity = Arc::new(CertifiedKey::new(vec![spki], signing));
        let verifier = Arc::new(KeyVerifier::new(&provider, None));
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity.clone())));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        Ok(Self {
            device: key.id(),
            identity,
            provider,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            handshake_timeout,
        })
    }

    /// The device this end proves to be.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Takes the dialling role on `stream` and checks who answers.
    pub async fn dial(
        &self,
        stream: impl ByteStream + 'static,
        expect: Option<DeviceId>,
    ) -> Result<Authenticated, LinkError> {
        let connector = TlsConnector::from(Arc::new(self.client_config(expect)?));
        // rustls wants a name to ask for; with raw keys it is never sent nor looked at
        let name = ServerName::try_from("device.invalid").expect("a constant, well-formed name");
        let stream = timeout(self.handshake_timeout, connector.connect(name, stream))
            .await
            .map_err(|_| LinkError::TimedOut)?
            .map_err(handshake_error)?;
        let (_, connection) = stream.get_ref();
        let device = proved_device(connection.peer_certificates(), connection.alpn_protocol())?;
        Ok(Authenticated { device, stream: Box::new(stream) })
    }

    /// Takes the accepting role on `stream`.
    pub async fn accept(&self, stream: impl ByteStream + 'static) -> Result<Authenticated, LinkError> {
        let stream = timeout(self.handshake_timeout, self.acceptor.accept(stream))
            .await
            .map_err(|_| LinkError::TimedOut)?
            .map_err(handshake_error)?;
        let (_, connection) = stream.get_ref();
        let device = proved_device(connection.peer_certificates(), connection.alpn_protocol())?;
        Ok(Authenticated { device, stream: Box::new(stream) })
    }

    fn client_config(&self, expect: Option<DeviceId>) -> Result<ClientConfig, LinkError> {
        let verifier = Arc::new(KeyVerifier::new(&self.provider, expect));
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| LinkError::Handshake(io::Error::other(error)))?
            .dangerous() // "dangerous" is any verifier of one's own; ours pins the exact key
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.identity.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("device", &self.device).finish_non_exhaustive()
    }
}

/// Links over plain TCP sockets.
#[derive(Debug, Clone)]
pub struct Tcp {
    tls: Tls,
}

impl Tcp {
    /// TCP links that prove themselves with `tls`.
    pub fn new(tls: Tls) -> Self {
        Self { tls }
    }
}

impl Transport for Tcp {
    type Address = SocketAddr;
    type Incoming = TcpStream;

    async fn dial(&self, address: SocketAddr, expect: Option<DeviceId>) -> Result<Authenticated, LinkError> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| LinkError::TimedOut)?
            .map_err(LinkError::Unreachable)?;
        prepare(&stream);
        self.tls.dial(stream, expect).await
    }

    async fn accept(&self, incoming: TcpStream) -> Result<Authenticated, LinkError> {
        prepare(&incoming);
        self.tls.accept(incoming).await
    }
}

/// Quiet sockets are probed after this long, so that a vanished peer is noticed although nobody writes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes before the socket counts as dead.
const KEEPALIVE_PROBES: u32 = 4;

/// Messages leave at once, and a peer that vanished without a word is noticed. Both are improvements, not needs.
fn prepare(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
    let _ = stream.set_nodelay(true);
}

fn spki_of(device: &DeviceId) -> Vec<u8> {
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(device.as_bytes());
    spki
}

/// The device named by a `SubjectPublicKeyInfo`, if it is an Ed25519 key in its one DER form.
fn device_of(spki: &[u8]) -> Option<DeviceId> {
    let key: [u8; 32] = spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    Some(DeviceId(key))
}

fn proved_device(presented: Option<&[CertificateDer<'_>]>, alpn: Option<&[u8]>) -> Result<DeviceId, LinkError> {
    if alpn != Some(ALPN) {
        return Err(LinkError::Handshake(io::Error::other("no agreement on the protocol")));
    }
    presented
        .and_then(|keys| keys.first())
        .and_then(|key| device_of(key))
        .ok_or_else(|| LinkError::Handshake(io::Error::other("no key presented")))
}

/// Marks the refusal of a key that is sound but not the expected one; found again in [`handshake_error`].
const WRONG_KEY: TlsError = TlsError::InvalidCertificate(CertificateError::NotValidForName);

fn handshake_error(error: io::Error) -> LinkError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    if tls == Some(&WRONG_KEY) { LinkError::WrongDevice } else { LinkError::Handshake(error) }
}

/// Believes a raw Ed25519 key that signs the handshake; when one is expected, only that key.
#[derive(Debug)]
struct KeyVerifier {
    expect: Option<DeviceId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyVerifier {
    fn new(provider: &CryptoProvider, expect: Option<DeviceId>) -> Self {
        Self { expect, algorithms: provider.signature_verification_algorithms }
    }

    fn check_key(&self, spki: &[u8]) -> Result<(), TlsError> {
        let device = device_of(spki).ok_or(TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
        match self.expect {
            Some(expected) if expected != device => Err(WRONG_KEY),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let key = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

/// TLS 1.2 is never offered; an end that signs as if it were is lying.
fn no_tls12() -> Result<HandshakeSignatureValid, TlsError> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check_key(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.check_key(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn key(seed: u8) -> DeviceKey {
        DeviceKey::from_seed([seed; 32])
    }

    fn tls(seed: u8) -> Tls {
        Tls::new(&key(seed), PATIENCE).unwrap()
    }

    fn pipe() -> (DuplexStream, DuplexStream) {
        duplex(64 * 1024)
    }

    #[tokio::test]
    async fn both_ends_learn_who_is_there_and_bytes_pass() {
        let (near, far) = pipe();
        let (alice, bob) = (tls(1), tls(2));
        let (dialled, accepted) = tokio::join!(alice.dial(near, Some(key(2).id())), bob.accept(far));
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(dialled.device, key(2).id());
        assert_eq!(accepted.device, key(1).id());
        dialled.stream.write_all(b"ping").await.unwrap();
        dialled.stream.flush().await.unwrap();
        let mut bytes = [0; 4];
        accepted.stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
    }

    #[tokio::test]
    async fn over_tcp_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (alice, bob) = (Tcp::new(tls(1)), Tcp::new(tls(2)));
        let accepting = async { bob.accept(listener.accept().await.unwrap().0).await };
        let (dialled, accepted) = tokio::join!(alice.dial(address, None), accepting);
        assert_eq!(dialled.unwrap().device, key(2).id());
        assert_eq!(accepted.unwrap().device, key(1).id());
    }

    #[tokio::test]
    async fn another_device_than_the_expected_one_is_refused_by_both_ends() {
        let (near, far) = pipe();
        let (alice, mallory) = (tls(1), tls(3));
        let (dialled, accepted) = tokio::join!(alice.dial(near, Some(key(2).id())), mallory.accept(far));
        assert!(matches!(dialled, Err(LinkError::WrongDevice)), "{dialled:?}");
        assert!(matches!(accepted, Err(LinkError::Handshake(_))), "{accepted:?}");
    }

    #[tokio::test]
    async fn a_key_without_its_secret_opens_nothing() {
        // Mallory shows Bob's public key but signs with its own secret.
        let (near, far) = pipe();
        let mut mallory = tls(3);
        let stolen = CertifiedKey::new(vec![CertificateDer::from(spki_of(&key(2).id()))], mallory.identity.key.clone());
        mallory.identity = Arc::new(stolen);
        let bob = tls(4);
        let (dialled, accepted) = tokio::join!(mallory.dial(near, None), bob.accept(far));
        assert!(matches!(accepted, Err(LinkError::Handshake(_))), "{accepted:?}");
        // in TLS 1.3 the dialler finishes first; its first read shows the refusal
        if let Ok(mut link) = dialled {
            assert!(link.stream.read_u8().await.is_err());
        }
    }

    #[tokio::test]
    async fn a_stranger_to_the_protocol_is_refused() {
        for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 64], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]] {
            let (mut near, far) = pipe();
            near.write_all(garbage).await.unwrap();
            near.shutdown().await.unwrap();
            let accepted = tls(2).accept(far).await;
            assert!(matches!(accepted, Err(LinkError::Handshake(_))), "{accepted:?}");
        }
    }

    #[tokio::test]
    async fn another_application_protocol_is_refused() {
        let (near, far) = pipe();
        let alice = tls(1);
        let mut config = alice.client_config(None).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("device.invalid").unwrap();
        let bob = tls(2);
        let (_, accepted) = tokio::join!(connector.connect(name, near), bob.accept(far));
        assert!(matches!(accepted, Err(LinkError::Handshake(_))), "{accepted:?}");
    }

    #[tokio::test]
    async fn a_dialler_without_a_key_is_refused() {
        let (near, far) = pipe();
        let alice = tls(1);
        let verifier = Arc::new(KeyVerifier::new(&alice.provider, None));
        let mut config = ClientConfig::builder_with_provider(alice.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("device.invalid").unwrap();
        let bob = tls(2);
        let (_, accepted) = tokio::join!(connector.connect(name, near), bob.accept(far));
        assert!(matches!(accepted, Err(LinkError::Handshake(_))), "{accepted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_end_is_given_up_in_both_roles() {
        let (_silent, far) = pipe();
        let accepted = tls(2).accept(far).await;
        assert!(matches!(accepted, Err(LinkError::TimedOut)), "{accepted:?}");
        let (_silent, far) = pipe();
        let dialled = tls(2).dial(far, None).await;
        assert!(matches!(dialled, Err(LinkError::TimedOut)), "{dialled:?}");
    }

    #[test]
    fn only_the_one_form_of_an_ed25519_key_names_a_device() {
        let spki = spki_of(&key(1).id());
        assert_eq!(device_of(&spki), Some(key(1).id()));
        assert_eq!(device_of(&spki[..43]), None);
        assert_eq!(device_of(&[&spki[..], b"x"].concat()), None);
        let mut other_algorithm = spki;
        other_algorithm[8] = 0x71;
        assert_eq!(device_of(&other_algorithm), None);
    }
}
