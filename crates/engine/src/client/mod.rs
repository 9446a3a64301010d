//! The client: requests to other servers over connections that are kept for the next one.
//!
//! Nothing runs in the background: a response's body drives its connection when it is read, and
//! expired connections are closed when the pool is used next.

mod deadline;
mod download;
mod error;
mod h2;
mod kept;
mod link;
mod pool;

pub use error::{ClientError, ClientErrorKind, Stage};
pub use h2::Http2Error;
pub use kept::{Begun, Kept};

use crate::buffers::Buffers;
use crate::stream::Stream;
use crate::{Body, ClientTls, Fields, Method, ResponseHead, Upgraded};
use http1::Limits;
use link::{Failure, Link};
use pool::{Destination, Pool};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Time for a TCP connection; a reachable machine answers within a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time from the sent request to the head of its response.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest silence inside a response body. SSE heartbeats come more often.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest time without the server taking a byte of the request.
const WRITE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. Shorter than most servers', so that few are found closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Unused connections kept per server, at most. The freshest is used first, so that no more are kept than were in use at
/// the same time within [`POOL_IDLE_TIMEOUT`]: what a crowd of clients needs, and little when there is none.
const POOL_IDLE_MAX: usize = 1024;
/// A connection that was unused for longer gets no request that must not be sent twice: the server may be closing it at
/// this moment, and nobody could tell whether the request was heard. The shortest usual patience of servers is two
/// seconds; a new connection costs a round trip.
const UNREPEATABLE_IDLE_MAX: Duration = Duration::from_secs(1);

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
    /// Unused connections kept per server, at most: no more are kept than were in use at the same time within
    /// `pool_idle_timeout`.
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

/// A request to send. `fields` holds exactly one `Host`; framing fields are written by the engine. With
/// `Expect: 100-continue` the content is not asked for before the server wants it, or has been silent for a while.
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
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
    /// Counts the connections that this clone opens.
    opened: Option<Rc<Cell<u32>>>,
    /// In place of [`ClientSettings::head_timeout`].
    head_timeout: Option<Duration>,
    /// The time of now, where the caller knows it.
    now: Option<Instant>,
    /// `None`: in plain text.
    tls: Option<ClientTls>,
    /// Whether HTTP/2 is spoken in plain text.
    http2: bool,
    /// Told about heads that come before the final one.
    interims: Option<Interims>,
}

/// Told about heads that come before the final one.
type Interims = Rc<dyn Fn(&ResponseHead)>;

/// What all clones of a client, and the bodies of its responses, have in common.
struct Shared {
    settings: Rc<ClientSettings>,
    buffers: Rc<Buffers>,
    pool: RefCell<Pool>,
    http2: h2::Directory,
}

/// A request that got no response, and the request itself where nothing of it can have had an effect.
#[derive(Debug)]
pub struct Failed {
    /// What went wrong.
    pub error: ClientError,
    /// The request, ready to be sent elsewhere; `None` where repeating it could do harm.
    pub request: Option<OutgoingRequest>,
}

impl Client {
    /// A client with an empty pool.
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            shared: Rc::new(Shared {
                settings: Rc::new(settings),
                buffers: Rc::new(Buffers::default()),
                pool: RefCell::default(),
                http2: h2::Directory::default(),
            }),
            opened: None,
            head_timeout: None,
            now: None,
            tls: None,
            http2: false,
            interims: None,
        }
    }

    /// Sends one request and returns when the head of its final response is there; the body follows
    /// as it is asked for. A kept connection that turns out to be closed is replaced by itself when
    /// the request can be repeated.
    ///
    /// Dropping the future, or the body before its end, closes the connection.
    ///
    /// # Errors
    /// No response came; [`ClientError::can_retry`] says whether another server may be asked.
    pub async fn send(&self, addr: SocketAddr, request: OutgoingRequest) -> Result<(ResponseHead, Body), ClientError> {
        self.send_or_return(addr, request).await.map_err(|failed| failed.error)
    }

    /// As [`Client::send`], but gives the request back where it may be sent to another server.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_or_return(
        &self,
        addr: SocketAddr,
        mut request: OutgoingRequest,
    ) -> Result<(ResponseHead, Body), Failed> {
        request.fields.remove("upgrade");
        if self.speaks_http2() {
            match Box::pin(self.send_over_http2(addr, request)).await {
                h2::Sent::Done(done) => return done,
                h2::Sent::Http1(returned) => request = returned,
            }
        }
        let heard = self.exchange(addr, &mut request, Fresh::No).await;
        let opened = self.open_response(addr, heard);
        opened.map_err(|error| Failed { request: error.can_retry.then_some(request), error })
    }

    /// The response whose head was heard, its content as it comes.
    fn open_response(
        &self,
        addr: SocketAddr,
        heard: Result<(ResponseHead, Box<Link>), ClientError>,
    ) -> Result<(ResponseHead, Body), ClientError> {
        let failed = |kind| ClientError { addr, stage: Stage::Head, kind, can_retry: false };
        let (response, link) = heard?;
        if response.is_switching() {
            return Err(failed(ClientErrorKind::Unasked));
        }
        let body = download::body(&self.shared, link, &response).map_err(failed)?;
        Ok((response, body))
    }

    /// Sends a request with an `Upgrade` field on a fresh connection. `Connection: upgrade` is added.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn upgrade(&self, addr: SocketAddr, mut request: OutgoingRequest) -> Result<Answer, ClientError> {
        if self.http2 && self.tls.is_none() {
            // There is nothing to switch from (RFC 9113 §8.6): a server that cannot do without says so.
            return self.send(addr, request).await.map(|(head, body)| Answer::Response(head, body));
        }
        let (head, link) = self.exchange(addr, &mut request, Fresh::Yes).await?;
        let failed = |kind| ClientError { addr, stage: Stage::Head, kind, can_retry: false };
        if !head.is_switching() {
            let body = download::body(&self.shared, link, &head).map_err(failed)?;
            return Ok(Answer::Response(head, body));
        }
        if !request.fields.contains("upgrade") {
            return Err(failed(ClientErrorKind::Unasked));
        }
        link.into_upgraded().map(|stream| Answer::Upgraded(head, stream)).ok_or(failed(ClientErrorKind::Closed))
    }

    /// A clone that counts in `opened` the connections it opens.
    pub fn counting(&self, opened: Rc<Cell<u32>>) -> Self {
        Self { opened: Some(opened), ..self.clone() }
    }

    /// A clone that waits so long for the heads of responses.
    pub fn waiting(&self, head_timeout: Duration) -> Self {
        Self { head_timeout: Some(head_timeout), ..self.clone() }
    }

    /// A clone for a request that is sent at once, by a caller who has just looked at the clock: `now` is when its
    /// deadline begins.
    pub fn asking_at(&self, now: std::time::Instant) -> Self {
        Self { now: Some(now.into()), ..self.clone() }
    }

    /// A clone that speaks TLS with every server. Connections are kept apart from those without, and from those with
    /// other settings or another name.
    pub fn over_tls(&self, tls: ClientTls) -> Self {
        Self { tls: Some(tls), ..self.clone() }
    }

    /// A clone that speaks HTTP/2 with every server that it does not speak TLS with, without asking first (RFC 9113
    /// §3.3). Over TLS see [`ClientTls::with_http2`]. Requests share connections; needs a
    /// [`LocalRuntime`](tokio::runtime::LocalRuntime) or a [`LocalSet`](tokio::task::LocalSet), such as a worker has.
    pub fn over_http2(&self) -> Self {
        Self { http2: true, ..self.clone() }
    }

    /// A clone that tells `listener` about interim heads (1xx) as they come, before the final one is returned.
    pub fn hearing(&self, listener: impl Fn(&ResponseHead) + 'static) -> Self {
        Self { interims: Some(Rc::new(listener)), ..self.clone() }
    }

    fn speaks_http2(&self) -> bool {
        self.tls.as_ref().map_or(self.http2, ClientTls::offers_http2)
    }

    /// Closes the connections that are kept for servers of which `is_wanted` says no.
    pub fn retain(&self, is_wanted: impl Fn(SocketAddr) -> bool) {
        self.shared.pool.borrow_mut().retain(&is_wanted);
        self.shared.http2.retain(is_wanted);
    }

    /// How many connections are kept for later requests.
    pub fn idle_connections(&self) -> usize {
        self.shared.pool.borrow().len() + self.shared.http2.idle()
    }

    /// Sends on a kept connection, or on a fresh one where there is none or the kept one is dead.
    async fn exchange(
        &self,
        addr: SocketAddr,
        request: &mut OutgoingRequest,
        fresh: Fresh,
    ) -> Result<(ResponseHead, Box<Link>), ClientError> {
        if fresh == Fresh::No
            && let Some(link) = self.kept(addr, request)
        {
            match self.converse(link, request).await {
                // A kept connection may have been closed at any moment: that is nobody's failure.
                Err(error) if error.can_retry && !error.is_timeout() => {}
                done => return done,
            }
        }
        // Boxed, because a handshake is large and rare.
        let link = Box::pin(self.connect(addr)).await?;
        Box::pin(self.converse(link, request)).await
    }

    fn destination(&self, addr: SocketAddr) -> Destination {
        Destination { addr, tls: self.tls.as_ref().map(ClientTls::id) }
    }

    fn kept(&self, addr: SocketAddr, request: &OutgoingRequest) -> Option<Box<Link>> {
        let repeatable = request.method.is_idempotent() && !matches!(request.body, Body::Stream(_));
        let settings = &self.shared.settings;
        let idle_max = if repeatable { settings.pool_idle_timeout } else { UNREPEATABLE_IDLE_MAX };
        let idle_max = idle_max.min(settings.pool_idle_timeout);
        loop {
            let link = self.shared.pool.borrow_mut().take(self.destination(addr), idle_max)?;
            // What cannot be repeated is worth a system call to find a dead connection before it is used.
            if repeatable || !link.is_stale_now() {
                return Some(link);
            }
        }
    }

    /// One request and the head of its response on one connection.
    async fn converse(
        &self,
        mut link: Box<Link>,
        request: &mut OutgoingRequest,
    ) -> Result<(ResponseHead, Box<Link>), ClientError> {
        let addr = link.addr();
        if let Err(error) = link.begin(request, self.head_timeout, self.now) {
            let kind = ClientErrorKind::Request(error);
            return Err(ClientError { addr, stage: Stage::Send, kind, can_retry: false });
        }
        self.hear_interims(&mut link);
        match link.head().await {
            Ok(head) => Ok((head, link)),
            Err(Failure { stage, kind }) => {
                link.restore(request);
                let hopeless = matches!(kind, ClientErrorKind::Body(_) | ClientErrorKind::Request(_));
                let can_retry = !hopeless && link.may_repeat(request);
                Err(ClientError { addr, stage, kind, can_retry })
            }
        }
    }

    fn hear_interims(&self, link: &mut Link) {
        if self.interims.is_some() {
            link.interims.clone_from(&self.interims);
        }
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Box<Link>, ClientError> {
        let settings = &self.shared.settings;
        let kind = match timeout(settings.connect_timeout, self.open(addr)).await {
            Ok(Ok(stream)) => {
                if let Some(opened) = &self.opened {
                    opened.set(opened.get() + 1);
                }
                return Ok(Link::new(self.destination(addr), stream, settings.clone(), self.shared.buffers.clone()));
            }
            Ok(Err(kind)) => kind,
            Err(_) => ClientErrorKind::TimedOut,
        };
        Err(ClientError { addr, stage: Stage::Connect, kind, can_retry: true })
    }

    /// A connection on which requests can be sent.
    async fn open(&self, addr: SocketAddr) -> Result<Stream, ClientErrorKind> {
        if self.tls.is_none()
            && let Some(connected) = crate::server::connect(addr).await
        {
            return connected.map(Stream::Plain).map_err(ClientErrorKind::of_failed_connection);
        }
        let socket = TcpStream::connect(addr).await.map_err(ClientErrorKind::of_failed_connection)?;
        // Without the option small requests are late by a round trip: slower, not wrong.
        let _ = socket.set_nodelay(true);
        match &self.tls {
            None => Ok(Stream::Tokio(socket)),
            Some(tls) => tls.connect(addr, socket).await.map(Stream::SecureTokio).map_err(ClientErrorKind::Tls),
        }
    }

    /// As [`Client::open`]; over TLS the server may choose HTTP/2.
    async fn open_offering_http2(&self, addr: SocketAddr) -> Result<Stream, ClientErrorKind> {
        let Some(tls) = &self.tls else { return self.open(addr).await };
        let socket = TcpStream::connect(addr).await.map_err(ClientErrorKind::of_failed_connection)?;
        let _ = socket.set_nodelay(true); // as for the others
        tls.connect_with_http2(addr, socket).await.map(Stream::SecureTokio).map_err(ClientErrorKind::Tls)
    }
}

#[derive(PartialEq)]
enum Fresh {
    Yes,
    No,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("idle_connections", &self.idle_connections()).finish_non_exhaustive()
    }
}
