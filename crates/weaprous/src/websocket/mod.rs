//! WebSocket (RFC 6455): the handshake, and messages both ways over the stream it leaves.
//!
//! ```
//! use weaprous::prelude::*;
//! use weaprous::websocket::WebSocketUpgrade;
//!
//! async fn echo(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.on_upgrade(async |mut socket| {
//!         while let Some(message) = socket.recv().await? {
//!             socket.send(message).await?;
//!         }
//!         Ok(())
//!     })
//! }
//! App::new().route("/echo", [GET], echo);
//! ```
//!
//! Pages of other sites are kept out: a browser says by `Origin` who asks, and only the site's own pages get in unless
//! [`WebSocketUpgrade::allow_origins`], a [`Cors`](crate::layers::Cors) layer or [`Csrf::Off`](crate::Csrf::Off) says
//! otherwise. Pings are answered, and sent where nothing was heard for a
//! while; a client that answers nothing is given up. When the server stops, open sockets are closed with 1001. No
//! message is longer than [`WebSocketLimits`] allows, and `send` waits while the client is behind.
//!
//! ```text
//!   open ──Close received──▶ answered ──▶ recv gives None
//!    ├──close(), stop──▶ closing ──Close received, or CLOSE_TIMEOUT──▶ recv gives None
//!    └──EOF, silence, broken frame──▶ recv gives an error (after 1002, 1007 or 1009 was sent where it helps)
//! ```

mod bridge;
mod handshake;
mod socket;

pub use handshake::WebSocketUpgrade;
pub use socket::{WebSocket, WebSocketSender};

use bytes::Bytes;
use std::io;
use std::time::Duration;

/// How long the other side may take to answer a close, before the connection is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a socket is closed (RFC 6455 §7.4.1).
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server stops, or the page is left.
    pub const GOING_AWAY: u16 = 1001;
    /// The frames are malformed.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of message that cannot be accepted.
    pub const UNSUPPORTED: u16 = 1003;
    /// A message that does not fit its kind, such as text that is no UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A message that breaks a rule of the application.
    pub const POLICY: u16 = 1008;
    /// A message that is too long.
    pub const TOO_LARGE: u16 = 1009;
    /// Something unexpected on our side.
    pub const INTERNAL_ERROR: u16 = 1011;
}

/// A message.
///
/// ```
/// use weaprous::websocket::Message;
/// assert_eq!(Message::from("hi").as_text(), Some("hi"));
/// assert_eq!(Message::Binary(vec![1, 2].into()).as_bytes(), [1, 2]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

/// Why and how the other side closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// One of [`close_code`], or of the application's own (3000 to 4999).
    pub code: u16,
    /// For the log of whoever developed the other side.
    pub reason: String,
}

/// How much a client may send at once, and how long it may be silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// Longest message in bytes, over all its frames: 1009 beyond it. 1 MiB unless it is changed.
    pub message_bytes_max: usize,
    /// Longest frame in bytes: 1009 beyond it. 1 MiB unless it is changed.
    pub frame_bytes_max: usize,
    /// Silence after which a ping is sent. 20 s unless it is changed: shorter than what cuts idle connections.
    pub ping_after: Duration,
    /// Silence after which a client is given up, although it was pinged. 60 s unless it is changed.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of what is sent. 30 s unless it is changed.
    pub write_timeout: Duration,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 1024 * 1024,
            frame_bytes_max: 1024 * 1024,
            ping_after: Duration::from_secs(20),
            idle_timeout: Duration::from_mins(1),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a socket broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// It is closed, or closing: nothing more can be sent.
    #[error("the socket is closed")]
    Closed,
    /// The connection ended without a close.
    #[error("the client is gone")]
    Gone,
    /// The client was silent, or took nothing, for too long.
    #[error("the client did not answer in time")]
    TimedOut,
    /// A message or frame is longer than allowed. The client was told by 1009.
    #[error("a message is longer than allowed")]
    TooLarge,
    /// What came is no WebSocket. The client was told by 1002 or 1007.
    #[error("malformed frames: {0}")]
    Malformed(String),
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[source] io::Error),
}
