//! Requests as a service gets them, responses as it gives them.

use crate::interim::{EarlyHints, Hinting, Waiting};
use crate::{Body, Fields, RequestHead, StatusCode, Stop, TlsInfo, Upgraded};
use bytes::Bytes;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

/// A received request. The body is read from the socket as it is asked for.
#[derive(Debug)]
pub struct Request {
    /// Start line and fields.
    pub head: RequestHead,
    /// The content.
    pub body: Body,
    peer: Rc<Peer>,
    pub(crate) hinting: Hinting,
}

/// The connection a request came by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peer {
    /// The other end of the socket.
    pub addr: SocketAddr,
    /// Our end of the socket.
    pub local_addr: SocketAddr,
    /// Fires when the server stops.
    pub stop: Stop,
    /// What the handshake agreed on, where the connection is encrypted.
    pub tls: Option<Rc<TlsInfo>>,
    pub(crate) hints: Waiting,
}

impl Peer {
    /// A connection without encryption.
    pub fn new(addr: SocketAddr, local_addr: SocketAddr, stop: Stop) -> Self {
        Self { addr, local_addr, stop, tls: None, hints: Waiting::default() }
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }
}

impl Request {
    /// Puts a request together: for tests and for services that call others.
    pub fn new(head: RequestHead, body: Body, peer: Rc<Peer>) -> Self {
        peer.hints.begin();
        Self { head, body, peer, hinting: Hinting::default() }
    }

    /// The other end of the socket: the client, or a proxy in between.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer.addr
    }

    /// Our end of the socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.peer.local_addr
    }

    /// Fires when the server stops: endless responses end on it.
    pub fn stop(&self) -> &Stop {
        &self.peer.stop
    }

    /// What the connection knows; shared by all its requests.
    pub fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    /// Says hints before the answer (103, RFC 8297); `None` where the client could not read them.
    pub fn early_hints(&self) -> Option<EarlyHints> {
        self.hinting.open(&self.head, &self.peer)
    }

    /// Its parts, and where hints for it go.
    pub fn into_parts(self) -> (RequestHead, Body, Rc<Peer>, Hinting) {
        (self.head, self.body, self.peer, self.hinting)
    }

    /// Answers 101 and then hands the raw stream to `talk`, with the bytes the client has already
    /// sent. When the request does not offer `protocol`, the answer is 426 and `talk` never runs.
    ///
    /// The stream is exempt from deadlines; `talk` watches [`Request::stop`] itself.
    pub fn upgrade<F, Talk>(self, protocol: &str, talk: F) -> Response
    where
        F: FnOnce(Upgraded) -> Talk + 'static,
        Talk: Future<Output = ()> + 'static,
    {
        let mut fields = Fields::new();
        if fields.append("upgrade", protocol).is_err() {
            return Response::new(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if self.head.upgrades_to(protocol) {
            return Response::upgrade(fields, talk);
        }
        Response { fields, ..Response::new(StatusCode::UPGRADE_REQUIRED) }
    }
}

pub(crate) type Talk = Pin<Box<dyn Future<Output = ()>>>;
pub(crate) type OnUpgrade = Box<dyn FnOnce(Upgraded) -> Talk>;

/// An answer. `Content-Length`, `Transfer-Encoding`, `Connection` and `Date` are written by the
/// engine; `Connection: close` among the fields is obeyed.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: Fields,
    /// The content; not sent in answer to `HEAD`, but its length is.
    pub body: Body,
    pub(crate) on_upgrade: Option<OnUpgrade>,
}

/// Why a field that a program sets is taken without asking.
const VALID: &str = "a field of the program itself is valid";

impl Response {
    /// A response without fields and content.
    pub fn new(status: StatusCode) -> Self {
        Self { status, fields: Fields::new(), body: Body::Empty, on_upgrade: None }
    }

    /// A response of `text/plain; charset=utf-8`.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::bytes(status, "text/plain; charset=utf-8", text.into())
    }

    /// A response with this content and media type.
    pub fn bytes(status: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Self {
        let mut fields = Fields::new();
        fields.append_content_type(content_type).expect(VALID);
        Self { status, fields, body: Body::from(bytes.into()), on_upgrade: None }
    }

    /// A 101 with these fields (`Upgrade` among them), after which `talk` gets the raw stream.
    pub fn upgrade<F, T>(fields: Fields, talk: F) -> Self
    where
        F: FnOnce(Upgraded) -> T + 'static,
        T: Future<Output = ()> + 'static,
    {
        Self {
            fields,
            on_upgrade: Some(Box::new(|stream| Box::pin(talk(stream)))),
            ..Self::new(StatusCode::SWITCHING_PROTOCOLS)
        }
    }

    /// Adds a field after the others.
    ///
    /// # Panics
    /// If the name is no token or the value holds a control byte: use [`Fields::append`] for what
    /// comes from outside.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.append(name, value).expect(VALID);
        self
    }

    /// Replaces the content.
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("fields", &self.fields)
            .field("body", &self.body)
            .field("upgrade", &self.on_upgrade.is_some())
            .finish()
    }
}
