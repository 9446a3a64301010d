//! `tower` services, such as an axum router, on this engine; and the types of the `http` crate.
//!
//! Methods, statuses, fields, heads and messages convert by `From` and `TryFrom` where they are defined (in [`http1`]
//! and [`engine`]). [`Tower`] makes a service of theirs one of ours: alone on a server, or as a handler beside others.
//!
//! ```
//! use axum::routing::get;
//! use weaprous::engine::{Server, Settings, Stop};
//! use weaprous::interop::Tower;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = axum::Router::new().route("/", get(|| async { "hello from axum" }));
//! let tower = Tower::new(router);
//! let server = Server::new(Settings::default()).listen("127.0.0.1:0".parse()?, move || tower.clone())?;
//! let stop = Stop::new();
//! # stop.cancel();
//! server.run(stop, weaprous::GRACE)?;
//! # Ok(()) }
//! ```
//!
//! Content streams both ways, and is read from the socket only as it is asked for. What stands in the request's
//! extensions is [`Connection`]. Two things have no counterpart: an upgrade made for `hyper`, and reading a request's
//! content after its response has ended.

mod content;

pub use content::Content;

use crate::handler::Handler;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use bytes::Bytes;
use content::{Answering, Pump};
use engine::{Body, Fields, Response, Service, StatusCode, Stop};
use http_body::Body as HttpBody;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

/// A boxed error that may move between threads.
type BoxError = Box<dyn Error + Send + Sync>;

/// A `tower` service as a service of the engine, and as a handler. Every request gets a clone of it.
///
/// As a handler it answers whatever its route covers, and sees whole paths:
///
/// ```
/// use axum::routing::get;
/// use weaprous::interop::Tower;
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let router = axum::Router::new().route("/old/{name}", get(|| async { "from axum" }));
/// let app = App::new().route("/", [GET], async || "from weaprous").fallback(Tower::new(router));
/// let client = Client::new(app);
/// assert_eq!(client.get("/").send().text(), "from weaprous");
/// assert_eq!(client.get("/old/page").send().text(), "from axum");
/// ```
#[derive(Debug, Clone)]
pub struct Tower<S> {
    service: S,
}

/// The connection a request came by: in its extensions.
///
/// ```
/// use axum::Extension;
/// use axum::routing::get;
/// use weaprous::interop::{Connection, Tower};
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let who = get(|Extension(connection): Extension<Connection>| async move { connection.addr.ip().to_string() });
/// let app = App::new().fallback(Tower::new(axum::Router::new().route("/", who)));
/// assert_eq!(Client::new(app).get("/").send().text(), "127.0.0.1");
/// ```
#[derive(Debug, Clone)]
pub struct Connection {
    /// The other end of the socket.
    pub addr: SocketAddr,
    /// Our end of it.
    pub local_addr: SocketAddr,
    /// Whether it is TLS.
    pub is_secure: bool,
    /// Fires when the server stops: endless answers end on it.
    pub stop: Stop,
}

/// Tells [`Tower`] from functions that are handlers.
#[derive(Debug, Clone, Copy)]
pub enum ServedByTower {}

impl<S> Tower<S> {
    /// Wraps a service.
    pub fn new(service: S) -> Self {
        Self { service }
    }
}

impl<S, B> Service for Tower<S>
where
    S: tower_service::Service<http::Request<Content>, Response = http::Response<B>> + Clone + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: engine::Request) -> impl Future<Output = Response> + use<S, B> + 'static {
        let service = self.service.clone();
        async move {
            let (request, mut pump) = match convert(request) {
                Ok(converted) => converted,
                Err(error) => return Problem::bad_request(error.to_string()).into_response(),
            };
            let mut answer = pin!(ask(service, request));
            let answer = poll_fn(|cx| {
                pump.poll(cx);
                answer.as_mut().poll(cx)
            });
            match answer.await {
                Ok(response) => finish(response, pump).await,
                Err(error) => Problem::internal(error).into_response(),
            }
        }
    }
}

#[diagnostic::do_not_recommend]
impl<S, B> Handler<ServedByTower> for Tower<S>
where
    S: tower_service::Service<http::Request<Content>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request) -> impl Future<Output = Response> {
        Service::call(self, request.into_engine())
    }
}

impl TryFrom<Request> for http::Request<Body> {
    type Error = http::Error;

    fn try_from(request: Request) -> Result<Self, http::Error> {
        request.into_engine().try_into()
    }
}

/// The request in their terms, and what feeds its content.
fn convert(request: engine::Request) -> Result<(http::Request<Content>, Pump), http::Error> {
    let peer = request.peer();
    let connection = Connection {
        addr: peer.addr,
        local_addr: peer.local_addr,
        is_secure: peer.is_secure(),
        stop: peer.stop.clone(),
    };
    let request = http::Request::<Body>::try_from(request)?;
    let (parts, body) = request.into_parts();
    let (content, pump) = Content::new(body);
    let mut request = http::Request::from_parts(parts, content);
    request.extensions_mut().insert(connection);
    Ok((request, pump))
}

async fn ask<S, B>(mut service: S, request: http::Request<Content>) -> Result<http::Response<B>, BoxError>
where
    S: tower_service::Service<http::Request<Content>, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    service.call(request).await.map_err(Into::into)
}

/// The response in our terms. Content that is at hand leaves with the head.
async fn finish<B>(response: http::Response<B>, pump: Pump) -> Response
where
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let converted = StatusCode::try_from(parts.status).map_err(|error| error.to_string());
    let converted = converted.and_then(|status| {
        let fields = Fields::try_from(&parts.headers).map_err(|error| error.to_string())?;
        Ok((status, fields))
    });
    let (status, fields) = match converted {
        Ok(converted) => converted,
        Err(error) => return Problem::internal(error).into_response(),
    };
    let mut response = Response::new(status);
    response.fields = fields;
    let mut answering = Answering::new(body, pump);
    let at_hand = poll_fn(|cx| Poll::Ready(answering.poll_at_hand(cx))).await;
    response.body = match at_hand {
        Some(bytes) => Body::from(bytes),
        None => Body::from_source(answering),
    };
    response
}

/// All of a buffer as bytes.
fn bytes_of(mut data: impl bytes::Buf) -> Bytes {
    let len = data.remaining();
    data.copy_to_bytes(len)
}
