//! The client: requests to other servers over connections that are kept for the next one.

mod error;

pub use error::{ClientError, ClientErrorKind, Stage};

use crate::{Body, Fields, Method, ResponseHead, Upgraded};
use http1::Limits;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Time for a TCP connection; a reachable machine answers within a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time from the sent request to the head of its response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest silence inside a response body. SSE heartbeats come more often.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest time without the server taking a byte of the request.
const WRITE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. Shorter than most servers', so that few are found closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Unused connections kept per server.
const POOL_IDLE_MAX: usize = 64;

/// How a client treats servers. All of it has defaults.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Limits on heads, chunk lines and trailers.
    pub limits: Limits,
    /// Time for a TCP connection.
    pub connect_timeout: Duration,
    /// Time from the sent request to the head of its response.
    pub head_timeout: Duration,
    /// Silence allowed inside a response body.
    pub body_idle_timeout: Duration,
    /// Silence allowed while the server is to take request bytes.
    pub write_idle_timeout: Duration,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Duration,
    /// Unused connections kept per server.
    pub pool_idle_max: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: CONNECT_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            write_idle_timeout: WRITE_IDLE_TIMEOUT,
            pool_idle_timeout: POOL_IDLE_TIMEOUT,
            pool_idle_max: POOL_IDLE_MAX,
        }
    }
}

/// A request to send. `fields` holds exactly one `Host`; framing fields are written by the engine.
#[derive(Debug)]
pub struct OutgoingRequest {
    /// The method.
    pub method: Method,
    /// The target, usually in origin form: `/path?query`.
    pub target: String,
    /// The fields.
    pub fields: Fields,
    /// The content; a stream of unknown length is sent in chunks.
    pub body: Body,
}

/// What a request for an upgrade came to.
#[derive(Debug)]
pub enum Answer {
    /// An ordinary response: the server did not switch.
    Response(ResponseHead, Body),
    /// The server's 101, and the raw stream.
    Upgraded(ResponseHead, Upgraded),
}

/// Sends requests and keeps connections for later ones. Clones share the pool; it stays on its
/// thread and needs nothing but a Tokio runtime.
#[derive(Debug, Clone)]
pub struct Client {
    settings: Rc<ClientSettings>,
}

impl Client {
    /// A client with an empty pool.
    pub fn new(settings: ClientSettings) -> Self {
        Self { settings: Rc::new(settings) }
    }

    /// Sends one request and returns when the head of its final response is there; the body follows
    /// as it is asked for. A kept connection that turns out to be closed is replaced by itself when
    /// the request can be repeated.
    ///
    /// Dropping the future, or the body before its end, closes the connection.
    pub async fn send(
        &self,
        _addr: SocketAddr,
        _request: OutgoingRequest,
    ) -> Result<(ResponseHead, Body), ClientError> {
        let _ = self.settings.pool_idle_max;
        todo!()
    }

    /// Sends a request with an `Upgrade` field on a fresh connection. `Connection: upgrade` is added.
    pub async fn upgrade(&self, _addr: SocketAddr, _request: OutgoingRequest) -> Result<Answer, ClientError> {
        todo!()
    }
}
