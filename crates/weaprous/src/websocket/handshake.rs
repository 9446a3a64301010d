//! The opening handshake, the server's side of it (RFC 6455 §4.2).

use super::socket::{self, WebSocket};
use super::{WebSocketError, WebSocketLimits};
use crate::csrf::{self, Csrf};
use crate::extract::{FromRequest, ViaBody};
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Fields, Method, Response, StatusCode, Stop};
use ring::digest;

/// What a server appends to the client's key before it hashes it (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The one version there is.
const VERSION: &str = "13";
/// Bytes of a client's key.
const KEY_BYTES: usize = 16;

/// A client asks for a WebSocket: an extractor, to be answered with [`WebSocketUpgrade::on_upgrade`]. Stands last.
///
/// It answers 426 where the client asks for something else or speaks another version, and 400 where its request is
/// malformed.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::websocket::{WebSocketLimits, WebSocketUpgrade};
///
/// async fn chat(session: Session, upgrade: WebSocketUpgrade) -> Response {
///     let limits = WebSocketLimits { message_bytes_max: 16 * 1024, ..WebSocketLimits::default() };
///     let upgrade = upgrade.limits(limits).protocols(["chat.v2", "chat.v1"]).allow_origins(["https://chat.example"]);
///     upgrade.on_upgrade(async move |mut socket| {
///         socket.send(format!("welcome, {}", session.user)).await
///     })
/// }
/// App::new().route("/chat", [GET], chat);
/// ```
#[derive(Debug)]
pub struct WebSocketUpgrade {
    accept: String,
    offered: Vec<String>,
    chosen: Option<String>,
    limits: WebSocketLimits,
    origin: Option<String>,
    is_own_origin: bool,
    stop: Stop,
}

impl FromRequest<ViaBody> for WebSocketUpgrade {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        if !request.head.upgrades_to("websocket") {
            return Err(upgrade_required("this address speaks WebSocket"));
        }
        if request.field("sec-websocket-version") != Some(VERSION) {
            return Err(upgrade_required("the version of WebSocket is 13"));
        }
        if request.method() != Method::Get || !request.body.is_empty() {
            return Err(Problem::bad_request("a WebSocket begins with a GET without content"));
        }
        let accept = accept(&request).map_err(Problem::bad_request)?;
        let offered = request.head.fields().tokens("sec-websocket-protocol");
        let offered = offered.filter_map(|token| std::str::from_utf8(token).ok()).map(str::to_owned).collect();
        let origin = request.field("origin").map(str::to_owned);
        let is_own = |origin: &str| csrf::is_origin_of(origin, request.host());
        let is_unprotected = request.scope().csrf == Csrf::Off || request.is_origin_allowed();
        let is_own_origin = is_unprotected || origin.as_deref().is_none_or(is_own);
        let (stop, limits) = (request.stop().clone(), WebSocketLimits::default());
        Ok(Self { accept, offered, chosen: None, limits, origin, is_own_origin, stop })
    }
}

impl WebSocketUpgrade {
    /// Speaks one of these subprotocols, if the client offers any: the first of ours that it does.
    ///
    /// # Panics
    /// If one of them is no token: it could not be sent.
    pub fn protocols<P: Into<String>>(mut self, ours: impl IntoIterator<Item = P>) -> Self {
        let mut ours = ours.into_iter().map(Into::into);
        self.chosen = ours.find(|protocol: &String| {
            assert!(protocol.bytes().all(crate::cookie::is_token_byte), "`{protocol}` cannot name a protocol");
            self.offered.contains(protocol)
        });
        self
    }

    /// The subprotocol that will be spoken.
    pub fn protocol(&self) -> Option<&str> {
        self.chosen.as_deref()
    }

    /// Lets pages of these origins in as well, `https://example.org` for one. Clients that name no origin are no
    /// pages, and always get in.
    pub fn allow_origins<O: AsRef<str>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        let origin = self.origin.as_deref().unwrap_or_default();
        self.is_own_origin |= origins.into_iter().any(|allowed| allowed.as_ref().eq_ignore_ascii_case(origin));
        self
    }

    /// Lets pages of every site in: for sockets that do nothing in a visitor's name.
    pub fn allow_any_origin(mut self) -> Self {
        self.is_own_origin = true;
        self
    }

    /// Changes the limits.
    pub fn limits(mut self, limits: WebSocketLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Answers 101, and runs `talk` with the open socket; 403 to pages of other sites.
    ///
    /// When `talk` ends the socket is closed with 1000, or 1011 after an error of its own making. When the server
    /// stops, it is closed with 1001, `recv` gives `None`, and `talk` has [`CLOSE_TIMEOUT`](super::CLOSE_TIMEOUT) to
    /// end before it is dropped.
    pub fn on_upgrade<F, Talk>(self, talk: F) -> Response
    where
        F: FnOnce(WebSocket) -> Talk + 'static,
        Talk: Future<Output = Result<(), WebSocketError>> + 'static,
    {
        if !self.is_own_origin {
            tracing::debug!("a page of another site asked for a WebSocket");
            return Problem::forbidden("this request comes from another site").into_response();
        }
        let mut fields = Fields::new();
        let protocol = self.chosen.iter().map(|chosen| ("sec-websocket-protocol", chosen.as_str()));
        let known = [("upgrade", "websocket"), ("sec-websocket-accept", self.accept.as_str())];
        for (name, value) in known.into_iter().chain(protocol) {
            fields.append(name, value).expect("tokens and base64 are clean");
        }
        let (limits, stop, chosen) = (self.limits, self.stop, self.chosen);
        Response::upgrade(fields, move |io| socket::converse(io, limits, stop, chosen, talk))
    }
}

/// The proof that we understood: SHA-1 of the key and the constant (RFC 6455 §4.2.2).
fn accept(request: &Request) -> Result<String, &'static str> {
    let mut keys = request.head.fields_named("sec-websocket-key");
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err("exactly one `Sec-WebSocket-Key` is needed");
    };
    if !STANDARD.decode(key).is_ok_and(|key| key.len() == KEY_BYTES) {
        return Err("`Sec-WebSocket-Key` is 16 bytes in base64");
    }
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID.as_bytes()].concat());
    Ok(STANDARD.encode(hash))
}

fn upgrade_required(detail: &str) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED)
        .detail(detail)
        .own_field("upgrade", "websocket")
        .own_field("sec-websocket-version", VERSION)
}
