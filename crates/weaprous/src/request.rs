//! A request on its way through the application: what came over the wire and what routing found out about it.

use crate::accept;
use crate::app::{Scope, Target};
use crate::cookie::{self, Cookies};
use crate::extract::{FromParts, FromRequest, ViaBody};
use crate::problem::Problem;
use crate::response::IntoResponse;
use crate::router::Params;
use engine::{Body, Method, RequestHead, Response, Stop, Upgraded};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A received request. Layers and handlers that want all of it take it by value; most handlers name extractors
/// instead.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// async fn anything(request: Request) -> Result<String, Problem> {
///     let id: Path<u64> = request.extract().await?;
///     let (method, path) = (request.method(), request.path().to_owned());
///     let text: String = request.read().await?;
///     Ok(format!("{method} {path} (number {}): {text}", id.0))
/// }
///
/// let client = Client::new(App::new().route("/notes/{id}", [PUT], anything));
/// assert_eq!(client.put("/notes/7").body("hello").send().text(), "PUT /notes/7 (number 7): hello");
/// ```
#[derive(Debug)]
pub struct Request(Box<Parts>);

/// What a [`Request`] gives access to. It lies on the heap, so that a request is handed on from layer to layer and
/// to extractors without being copied.
#[derive(Debug)]
pub struct Parts {
    /// Start line and fields.
    pub head: RequestHead,
    /// The content, read from the socket as it is asked for. To keep it, take it: `std::mem::take(&mut request.body)`.
    pub body: Body,
    peer: Rc<engine::Peer>,
    params: Params,
    target: Rc<Target>,
    /// Whether a layer vouches for the origin the request comes from.
    origin_allowed: bool,
    id: Option<Rc<str>>,
}

impl Deref for Request {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Request {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl Request {
    pub(crate) fn new(request: engine::Request, params: Params, target: Rc<Target>) -> Self {
        let peer = Rc::clone(request.peer());
        let engine::Request { head, body, .. } = request;
        Self(Box::new(Parts { head, body, peer, params, target, origin_allowed: false, id: None }))
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.head.method()
    }

    /// The path as it came, still percent-encoded.
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// What follows the `?`, still percent-encoded; empty if nothing does.
    pub fn query(&self) -> &str {
        self.head.query().unwrap_or_default()
    }

    /// The first field of this name as text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field_str(name)
    }

    /// The decoded value of a path parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        let (names, mut values) = self.params();
        values.nth(names.iter().position(|known| known == name)?)
    }

    /// The media type of the content, without its parameters.
    pub fn media_type(&self) -> Option<&str> {
        self.field("content-type")?.split(';').next().map(str::trim)
    }

    /// Whether the content is JSON: `application/json`, or a type with the suffix `+json` (RFC 6839 §3.1).
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// async fn describe(request: Request) -> String {
    ///     let kind = request.media_type().unwrap_or("nothing");
    ///     format!("{kind} for {:?}, JSON: {}, page: {}", request.param("id"), request.has_json(), request.prefers_html())
    /// }
    ///
    /// let client = Client::new(App::new().route("/notes/{id}", [PUT], describe));
    /// let sent = client.put("/notes/7").field("content-type", "application/ld+json; charset=utf-8").body("{}").send();
    /// assert_eq!(sent.text(), "application/ld+json for Some(\"7\"), JSON: true, page: false");
    /// ```
    pub fn has_json(&self) -> bool {
        let Some((main, sub)) = self.media_type().and_then(|media_type| media_type.split_once('/')) else {
            return false;
        };
        let suffix = sub.len().checked_sub("+json".len()).and_then(|at| sub.get(at..)).unwrap_or_default();
        let is_json = sub.eq_ignore_ascii_case("json") || suffix.eq_ignore_ascii_case("+json");
        is_json && main.eq_ignore_ascii_case("application")
    }

    /// Whether the client would rather have a page than JSON.
    pub fn prefers_html(&self) -> bool {
        self.field("accept").is_some_and(accept::prefers_html)
    }

    /// All cookies.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// async fn describe(request: Request) -> String {
    ///     format!("{} cookies, theme {}", request.cookies().iter().count(), request.cookie("theme").unwrap_or("none"))
    /// }
    ///
    /// let client = Client::new(App::new().route("/", [GET], describe));
    /// assert_eq!(client.get("/").field("cookie", "theme=dark; lang=vi").send().text(), "2 cookies, theme dark");
    /// ```
    pub fn cookies(&self) -> Cookies {
        Cookies::parse(self.head.fields_named("cookie"))
    }

    /// The first cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie::find(self.head.fields_named("cookie"), name)
    }

    /// The other end of the socket: the client, or the nearest proxy.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer.addr
    }

    /// Our end of the socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.peer.local_addr
    }

    /// Fires when the server stops: endless responses end on it.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// async fn wait(request: Request) -> &'static str {
    ///     request.stop().cancelled().await; // or until something happens
    ///     "ask again, somewhere else"
    /// }
    ///
    /// let client = Client::new(App::new().route("/", [GET], wait));
    /// client.stop();
    /// assert_eq!(client.get("/").send().text(), "ask again, somewhere else");
    /// ```
    pub fn stop(&self) -> &Stop {
        &self.peer.stop
    }

    /// The client's address. `X-Forwarded-For` counts only when the socket's other end is a trusted proxy (loopback
    /// unless [`App::trust_proxies`](crate::App::trust_proxies) says otherwise), and only as far as it was written
    /// by trusted ones: the last address that is not trusted itself.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// async fn describe(request: Request) -> String {
    ///     let (client, host, secure) = (request.client_addr(), request.host(), request.is_secure());
    ///     format!("{client} wants {host}, {}, by {} (encrypted: {secure})", request.query(), request.peer_addr().ip())
    /// }
    ///
    /// let client = Client::new(App::new().route("/", [GET], describe));
    /// let told = client.get("/?a=b").field("x-forwarded-for", "192.0.2.7").field("x-forwarded-proto", "https");
    /// assert_eq!(told.send().text(), "192.0.2.7 wants test, a=b, by 127.0.0.1 (encrypted: true)");
    /// ```
    pub fn client_addr(&self) -> IpAddr {
        let mut client = self.peer.addr.ip().to_canonical();
        let forwarded: Vec<&[u8]> = self.head.fields_named("x-forwarded-for").flat_map(engine::tokens).collect();
        for hop in forwarded.into_iter().rev() {
            if !self.scope().trusts(client) {
                break;
            }
            let Some(addr) = std::str::from_utf8(hop).ok().and_then(parse_hop) else { break };
            client = addr.to_canonical();
        }
        client
    }

    /// The host and port the client wrote: `X-Forwarded-Host` from a trusted proxy, otherwise `Host`.
    pub fn host(&self) -> &str {
        let trusted = self.scope().trusts(self.peer.addr.ip().to_canonical());
        self.field("x-forwarded-host").filter(|_| trusted).unwrap_or_else(|| self.head.host())
    }

    /// Whether the client reached us, or our trusted proxy, over TLS.
    pub fn is_secure(&self) -> bool {
        let trusted = self.scope().trusts(self.peer.addr.ip().to_canonical());
        self.peer.is_secure()
            || trusted && self.field("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    /// Runs an extractor that needs no content: `request.extract::<Query<Page>>().await?`.
    pub async fn extract<T: FromParts>(&self) -> Result<T, Problem> {
        T::from_parts(self).await
    }

    /// Runs an extractor that reads the content: `request.read::<Json<Task>>().await?`.
    pub async fn read<T: FromRequest<ViaBody>>(self) -> Result<T, Problem> {
        T::from_request(self).await
    }

    /// Answers 101 and hands the raw stream to `talk`; 426 if the client does not offer `protocol`, 403 if a page of
    /// another site asks and [`Csrf`](crate::Csrf) is not off.
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// /// Sends everything back, over a protocol of our own.
    /// async fn echo(request: Request) -> Response {
    ///     request.upgrade("echo", async |mut stream| {
    ///         let mut bytes = [0; 1024];
    ///         while let Ok(count @ 1..) = stream.read(&mut bytes).await {
    ///             if stream.write_all(&bytes[..count]).await.is_err() {
    ///                 break;
    ///             }
    ///         }
    ///     })
    /// }
    ///
    /// let client = Client::new(App::new().route("/echo", [GET], echo));
    /// assert_eq!(client.get("/echo").send().status(), StatusCode::UPGRADE_REQUIRED);
    /// let offered = client.get("/echo").field("connection", "upgrade").field("upgrade", "echo").send();
    /// assert_eq!(offered.status(), StatusCode::SWITCHING_PROTOCOLS);
    /// ```
    pub fn upgrade<F, Talk>(self, protocol: &str, talk: F) -> Response
    where
        F: FnOnce(Upgraded) -> Talk + 'static,
        Talk: Future<Output = ()> + 'static,
    {
        match self.scope().csrf.refusal_of_upgrade(&self) {
            Some(problem) => problem.into_response(),
            None => self.into_engine().upgrade(protocol, talk),
        }
    }

    /// The name this request has in logs, if [`RequestIds`](crate::layers::RequestIds) gave it one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(crate) fn set_id(&mut self, id: Rc<str>) {
        self.id = Some(id);
    }

    /// Says that the origin this request comes from may act here.
    pub(crate) fn allow_origin(&mut self) {
        self.origin_allowed = true;
    }

    pub(crate) fn is_origin_allowed(&self) -> bool {
        self.origin_allowed
    }

    /// Whether the other end of the socket is a trusted proxy.
    pub(crate) fn is_from_trusted_proxy(&self) -> bool {
        self.scope().trusts(self.peer.addr.ip().to_canonical())
    }

    /// The request as the engine gave it.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::{App, engine};
    ///
    /// /// Hands everything below `/old` to a service that knows nothing of this framework.
    /// async fn old(request: Request) -> Response {
    ///     let request: engine::Request = request.into_engine();
    ///     engine::Response::text(StatusCode::OK, request.head.target())
    /// }
    /// App::new().route("/old/{path..}", [GET], old);
    /// ```
    pub fn into_engine(self) -> engine::Request {
        let Parts { head, body, peer, .. } = *self.0;
        engine::Request::new(head, body, peer)
    }

    /// Most bytes of content an extractor reads.
    pub fn body_bytes_max(&self) -> u64 {
        self.scope().body_bytes_max
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.target.scope
    }

    /// Names and decoded values of the path parameters, in the order of the pattern.
    pub(crate) fn params(&self) -> (&[String], impl DoubleEndedIterator<Item = &str> + ExactSizeIterator) {
        (&self.target.parameter_names, self.params.values(self.head.path()))
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    if let Ok(addr) = hop.parse::<IpAddr>() {
        return Some(addr);
    }
    if let Ok(addr) = hop.parse::<SocketAddr>() {
        return Some(addr.ip());
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read_in_every_customary_form() {
        let check = |hop: &str, expect: Option<&str>| {
            assert_eq!(parse_hop(hop), expect.map(|addr| addr.parse().expect("an address")), "{hop}");
        };
        check("192.0.2.1", Some("192.0.2.1"));
        check(" 192.0.2.1:80 ", Some("192.0.2.1"));
        check("2001:db8::1", Some("2001:db8::1"));
        check("[2001:db8::1]", Some("2001:db8::1"));
        check("[2001:db8::1]:80", Some("2001:db8::1"));
        check("unknown", None);
        check("", None);
    }
}
