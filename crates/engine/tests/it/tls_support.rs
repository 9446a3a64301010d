//! Certificates made on the spot, and clients that speak TLS: for HTTP/1.1 text and for HTTP/2 frames.

use crate::support::GRACE;
use engine::{CertificateFiles, Running, Server, Service, Settings, Stop, Tls, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any deadline of a server under test.
const PATIENCE: Duration = Duration::from_secs(15);

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority for tests");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names and its key, as PEM.
    pub(crate) fn sign(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate with these parameters for this key, as PEM.
    pub(crate) fn sign_with(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// The same in two files of a folder.
    pub(crate) fn write(&self, folder: &Path, file: &str, names: &[&str]) -> CertificateFiles {
        let files =
            CertificateFiles { chain: folder.join(format!("{file}.crt")), key: folder.join(format!("{file}.key")) };
        let (chain, key) = self.sign(names);
        std::fs::write(&files.chain, chain).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    /// A client that believes this authority.
    pub(crate) fn client(&self) -> Setup {
        Setup { authority: self.certificate.clone(), own: None, alpn: Vec::new(), version: None, config: None }
    }
}

/// One listener with TLS and one certificate for `localhost` and `127.0.0.1`.
pub(crate) fn serve_tls<S: Service>(
    settings: Settings,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> (Running, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost", "127.0.0.1"]);
    let tls = Tls::new(TlsSettings::many(vec![files])).unwrap();
    (serve_with(settings, &tls, make), authority)
}

pub(crate) fn serve_with<S: Service>(
    settings: Settings,
    tls: &Tls,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Running {
    let any_port = "127.0.0.1:0".parse().unwrap();
    Server::new(settings).listen_tls(any_port, tls.clone(), make).unwrap().start(Stop::new(), GRACE).unwrap()
}

/// How a client shakes hands.
#[derive(Clone)]
pub(crate) struct Setup {
    authority: CertificateDer<'static>,
    own: Option<(String, String)>,
    alpn: Vec<Vec<u8>>,
    version: Option<&'static rustls::SupportedProtocolVersion>,
    config: Option<Arc<ClientConfig>>,
}

impl Setup {
    pub(crate) fn with_own(mut self, own: (String, String)) -> Self {
        self.own = Some(own);
        self
    }

    pub(crate) fn with_alpn(mut self, protocols: &[&[u8]]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    pub(crate) fn with_version(mut self, version: &'static rustls::SupportedProtocolVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// From now on the same configuration, and with it the tickets, is used for every connection.
    pub(crate) fn remembering(mut self) -> Self {
        self.config = Some(self.config());
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        if let Some(config) = &self.config {
            return config.clone();
        }
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let versions = self.version.map_or(rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// Connects and shakes hands. A name that is an address is not sent (RFC 6066 §3).
    pub(crate) fn connect(&self, addr: SocketAddr, name: &str) -> io::Result<TlsClient> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(self.config(), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient { stream })
    }
}

/// A connection after its handshake.
pub(crate) struct TlsClient {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
}

/// An answer over HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl TlsClient {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Asks for a target of a host on a connection that stays open.
    pub(crate) fn get(&mut self, host: &str, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.read_answer().unwrap()
    }

    /// Reads an answer of declared length.
    pub(crate) fn read_answer(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    /// Waits until the server closes.
    pub(crate) fn expect_close(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{:?}", rest.escape_ascii().to_string()),
            Err(error) => assert!(!is_timeout(&error), "still open: {error}"),
        }
    }

    /// The certificate the server presented.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field that changes no table of the compression (RFC 7541 §6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for part in [name, value] {
        assert!(part.len() < 127, "longer lengths need another form");
        bytes.push(u8::try_from(part.len()).unwrap());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// The head of a `GET /` or another method, with further fields.
pub(crate) fn head(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "localhost")];
    pseudo.iter().chain(fields).flat_map(|(name, value)| field(name, value)).collect()
}

/// A client that says in frames whatever it likes.
pub(crate) struct FrameClient {
    pub(crate) client: TlsClient,
}

impl FrameClient {
    /// Connects and exchanges settings.
    pub(crate) fn connect(server: &Running, authority: &Authority) -> Self {
        let setup = authority.client().with_alpn(&[b"h2"]);
        let client = setup.connect(server.local_addrs()[0], "localhost").unwrap();
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let mut frames = Self { client };
        frames.client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, &[]);
        assert_eq!(frames.read().unwrap().kind, SETTINGS);
        frames.send(SETTINGS, 1, 0, &[]);
        frames
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.client.send(frame(kind, flags, stream, payload));
    }

    /// The next frame; nothing when the server has closed.
    pub(crate) fn read(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        if let Err(error) = self.client.stream.read_exact(&mut header) {
            assert!(!is_timeout(&error), "the server says nothing");
            return None;
        }
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.client.stream.read_exact(&mut payload).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads on until there is a frame of this kind for this stream.
    pub(crate) fn read_until(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.read().expect("the connection is open");
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
        }
    }

    /// Reads to the end; the code of the last GOAWAY, if there was one.
    pub(crate) fn read_goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.read() {
            if frame.kind == GOAWAY {
                code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        code
    }

    /// Sends frames until the server does not take any more, at most `count` times.
    pub(crate) fn flood(&mut self, count: u32, make: impl Fn(u32) -> Vec<u8>) {
        for number in 0..count {
            if self.client.try_send(make(number)).is_err() {
                return;
            }
        }
    }
}
