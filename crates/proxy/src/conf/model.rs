//! The values a configuration is made of. Only the parser (or a test) builds them.
//!
//! All of them are plain values that can be compared: a reload keeps what has stayed the same. An
//! [`Upstream`] is the same one when name and settings are, a [`Host`] when all its rules are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{CertificateFiles, ClientAuth, TlsSettings, Trust};

use super::Network;

/// One `host` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What the block answers to; never empty.
    pub names: Vec<HostPattern>,
    /// What is done with a path that no location matches; `None`: such a path is unknown here.
    pub root: Option<Rules>,
    /// The `location` blocks in the order of the file; what they match is distinct.
    pub locations: Vec<Location>,
}

/// What a `host` block answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host that no other block names.
    Default,
    /// A host by name.
    Name {
        /// In lower case, without a final dot; an IPv6 address keeps its brackets.
        name: String,
        /// `None` matches every port.
        port: Option<u16>,
    },
    /// `*.suffix`: every host below a name, at any depth, but not the name itself.
    Below {
        /// In lower case, without `*.` and a final dot.
        suffix: String,
        /// `None` matches every port.
        port: Option<u16>,
    },
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Name { name, port: None } => f.write_str(name),
            Self::Name { name, port: Some(port) } => write!(f, "{name}:{port}"),
            Self::Below { suffix, port: None } => write!(f, "*.{suffix}"),
            Self::Below { suffix, port: Some(port) } => write!(f, "*.{suffix}:{port}"),
        }
    }
}

/// One `location` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Which paths it takes.
    pub path: PathPattern,
    /// What is done with a matching request.
    pub rules: Rules,
}

/// Which paths a location takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// `location = /path`: this path and no other. Wins over every prefix.
    Exact(String),
    /// `location /prefix`: one that ends with `/` matches every path that begins with it; any other only
    /// whole segments: `/api` matches `/api` and `/api/x`, not `/apis`. The longest wins.
    Prefix(String),
}

impl PathPattern {
    /// The path or the prefix.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
        }
    }
}

/// What is done with the requests of a host or a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What answers.
    pub action: Action,
    /// Who may ask; the first that matches decides, and nobody is refused where none does.
    pub access: Vec<AccessRule>,
    /// Names and passwords asked for.
    pub basic_auth: Option<BasicAuth>,
    /// A program that is asked first.
    pub forward_auth: Option<ForwardAuth>,
    /// How often each client may ask.
    pub rate_limit: Option<RateLimit>,
    /// What is changed in the fields of every response.
    pub response_headers: Vec<HeaderEdit>,
    /// Pages in place of the proxy's own.
    pub error_pages: Vec<ErrorPage>,
    /// Longest request body passed on, in bytes; `None` leaves it to the server the proxy runs on.
    pub body_bytes_max: Option<u64>,
    /// Who gets a backend's hints before its answer.
    pub early_hints: EarlyHints,
    /// Whether answers are made smaller.
    pub compression: Option<Compression>,
}

/// Who gets the hints that a backend gives before its answer (103, RFC 8297).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyHints {
    /// Nobody: some clients take them for the answer.
    #[default]
    Off,
    /// Clients that speak HTTP/2, where browsers use them.
    Http2,
    /// Those of HTTP/1.1 as well; of HTTP/1.0 never.
    On,
}

/// How answers are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// Whether no secret stands beside what others wrote, so that answers to requests with cookies can be compressed.
    pub trusts_backends: bool,
}

/// What answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `proxy_pass`: an upstream.
    Pass(Pass),
    /// `redirect`: another address.
    Redirect(Redirect),
    /// `respond`: a fixed answer.
    Respond(Respond),
    /// `files`: a folder on this machine.
    Files(FilesAction),
}

/// Where requests go and how they are dressed for the journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Who may answer.
    pub upstream: Arc<Upstream>,
    /// What is changed in the fields on the way to the backend.
    pub request_headers: Vec<HeaderEdit>,
    /// How the path is changed.
    pub rewrite: Option<Rewrite>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many more backends are asked after the first one failed, where that is safe.
    pub retries: u32,
    /// Bytes of an answer that are taken ahead of a client that takes it slowly, so that the backend is free sooner.
    pub response_buffer: Option<u64>,
    /// Bytes of a request that are taken before a backend is asked, so that a slow client holds none.
    pub request_buffer: Option<u64>,
}

/// How long things may take on the way to a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Until a connection is open.
    pub connect: Duration,
    /// From the whole request to the first byte of the answer.
    pub response: Duration,
    /// The same for an attempt that another may follow, where the request can be repeated.
    pub attempt: Option<Duration>,
    /// Silence inside a response's body.
    pub idle: Duration,
    /// Silence while the backend is to take request bytes.
    pub send: Duration,
    /// How long an unused connection is kept.
    pub keepalive: Duration,
    /// Unused connections kept per backend and worker, at most: no more than were in use at the same time within
    /// `keepalive`.
    pub keepalive_connections: usize,
    /// Silence in both directions of an upgraded connection.
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // A machine on the same network answers in milliseconds; a lost packet is sent again after one second.
            connect: Duration::from_secs(2),
            // Longer than the tracker holds a long poll or a relay request open.
            response: Duration::from_mins(1),
            // How long an answer may take is known to the operator alone.
            attempt: None,
            // Heartbeats of event streams come more often.
            idle: Duration::from_mins(5),
            // A program that takes nothing for so long has stopped.
            send: Duration::from_secs(30),
            // Shorter than most servers', so that few connections are found closed.
            keepalive: Duration::from_secs(50),
            // A burst of so many leaves no more sockets open than this.
            keepalive_connections: 1024,
            // A program that keeps a tunnel open sends something every minute at least.
            tunnel: Duration::from_hours(1),
        }
    }
}

/// More backends asked after the first one failed when nothing else is said: beyond so many the trouble lies elsewhere.
pub const RETRIES_DEFAULT: u32 = 7;

/// Requests that one client has at a time, on each worker, when nothing else is said: what five browsers behind one
/// address ask for with all the streams they have, and far from what a machine can hold.
pub const CLIENT_REQUESTS_DEFAULT: u32 = 512;

/// A set of backends that can stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The name of the `upstream` block; for backends that stand in a `proxy_pass` themselves: host and prefix.
    pub name: String,
    /// Whether it has a block of its own.
    pub is_named: bool,
    /// The backends in the order of the file; never empty.
    pub servers: Vec<UpstreamServer>,
    /// How one is chosen.
    pub policy: Policy,
    /// How backends are asked whether they are well.
    pub health_check: Option<HealthCheck>,
    /// When one that fails is left out.
    pub ejection: Ejection,
    /// How long one that comes back gets less than its share.
    pub slow_start: Option<Duration>,
    /// How requests wait when all backends have their `max_conns`.
    pub queue: Option<Queue>,
    /// How often names are looked up again.
    pub resolve_interval: Duration,
    /// How they are spoken to over TLS; `None`: in plain text.
    pub tls: Option<UpstreamTls>,
    /// Whether they are spoken to in HTTP/2: over TLS if they choose it in the handshake, in plain text without asking.
    pub http2: bool,
}

/// TLS on the way to backends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UpstreamTls {
    /// Who vouches for them.
    pub trust: Trust,
    /// What their certificates are for, if not the name or the address they are given by.
    pub name: Option<String>,
}

/// How often names are looked up again when nothing else is said: the usual life of a record that is meant to move.
pub(super) const RESOLVE_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);

/// One backend of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamServer {
    /// Where it listens.
    pub address: ServerAddress,
    /// Its share, compared with the others'; from 1.
    pub weight: u32,
    /// Most requests in flight at a time.
    pub max_conns: Option<u32>,
    /// Whether it is used only when no other can be.
    pub backup: bool,
}

/// Where a backend listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// An address.
    Ip(SocketAddr),
    /// A name that is looked up again and again; every address it has is a backend.
    Name {
        /// In lower case.
        host: String,
        /// The port.
        port: u16,
    },
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How a backend is chosen among several.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// `round-robin`: each in turn, smoothly by weight.
    #[default]
    RoundRobin,
    /// `least-conn`: the one with the fewest requests in flight for its weight.
    LeastConn,
    /// `random-two`: the less busy of two drawn at random.
    RandomTwo,
    /// `ip-hash`: the same client address meets the same backend.
    IpHash,
    /// `hash header NAME`: equal values of a field meet the same backend.
    HashHeader(String),
    /// `hash cookie NAME`: equal values of a cookie meet the same backend.
    HashCookie(String),
    /// `sticky NAME`: a cookie of the proxy's own, which clients cannot forge, keeps them at their backend.
    Sticky(String),
}

/// How backends are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is requested.
    pub path: String,
    /// The lowest and the highest status of one that is well.
    pub status: (u16, u16),
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many good answers in a row bring it back.
    pub rise: u32,
    /// So many bad ones in a row take it out.
    pub fall: u32,
}

/// When a backend that fails real requests is left out, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// So many failures in a row take it out. A connection that cannot be opened does at once.
    pub failures: u32,
    /// The first pause.
    pub pause: Duration,
    /// Each further pause is twice as long, up to this.
    pub pause_max: Duration,
    /// The largest share of the upstream that may be out at a time, in percent.
    pub share_max: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            // One slow answer is an accident, three in a row are a state.
            failures: 3,
            // A restarted program is back on the next probe.
            pause: Duration::from_millis(500),
            // One that comes back after a day is found within seconds.
            pause_max: Duration::from_secs(15),
            // Requests go to those that work, however few; when none is left all are tried.
            share_max: 100,
        }
    }
}

/// How requests wait for a free backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Queue {
    /// So many at most; one more is refused at once.
    pub length: u32,
    /// So long at most.
    pub wait: Duration,
}

/// How a path is changed on the way to the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The beginning that is replaced, by whole segments as for a location; other paths stay as they are.
    pub prefix: String,
    /// What stands there instead; a path never ends up without its leading `/`.
    pub replacement: String,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to.
    pub target: Template,
}

/// An answer that is always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// From 200 to 599.
    pub status: u16,
    /// The text; empty for none.
    pub text: String,
}

/// Files from a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesAction {
    /// The folder. A relative one is looked for where the proxy was started.
    pub folder: PathBuf,
    /// How the path is changed before the file is looked for. What stands in place of the beginning has no `..` in it.
    pub rewrite: Option<Rewrite>,
}

/// One `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessRule {
    /// Whom it is about; `None` is everybody.
    pub network: Option<Network>,
    /// Whether they may ask.
    pub allow: bool,
}

/// Names and passwords that are asked for (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BasicAuth {
    /// What the browser shows.
    pub realm: String,
    /// Lines of `name:hash`.
    pub file: PathBuf,
}

/// A program that is asked before each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Who is asked.
    pub upstream: Arc<Upstream>,
    /// What is requested there.
    pub path: String,
    /// Fields of its answer that are passed on to the backend.
    pub copy: Vec<String>,
}

/// How often each client may ask: a bucket that fills at a steady rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Requests per [`RateLimit::period`] in the long run.
    pub requests: u32,
    /// What the number counts.
    pub period: Duration,
    /// Requests that may come at once.
    pub burst: u32,
    /// Who counts as one client.
    pub key: RateKey,
}

/// Who counts as one client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// Each address; of IPv6 each /64, since a client has all of it.
    Address,
    /// Each value of a field; requests without it share one bucket.
    Header(String),
}

/// A page in place of one of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// For which status.
    pub status: u16,
    /// The file with it.
    pub file: PathBuf,
}

/// A change to one field of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEdit {
    /// A field name, as written.
    pub name: String,
    /// What becomes of it.
    pub change: HeaderChange,
}

/// What becomes of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// It has this value alone.
    Set(Template),
    /// One more of it.
    Add(Template),
    /// It is not sent.
    Remove,
}

/// A value with variables in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// The parts in order.
    pub parts: Vec<Part>,
}

impl Template {
    /// Whether it always stands for the empty string.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself: visible ASCII, spaces and tabs.
    Literal(String),
    /// Stands for something the request brings.
    Variable(Variable),
}

/// What a template may take from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `$host`: the host the client asked for, with the port if it gave one.
    Host,
    /// `$host_name`: the same without the port.
    HostName,
    /// `$remote_addr`: who asks: the address at the other end of the connection, or, if that is a trusted proxy, the
    /// client that it names.
    RemoteAddr,
    /// `$realip_remote_addr`: the address at the other end of the connection, trusted proxy or not.
    PeerAddr,
    /// `$scheme`: `http` or `https`, as the client spoke to the proxy.
    Scheme,
    /// `$request_uri`: path and query as the client sent them.
    RequestUri,
    /// `$uri`: the path as the client sent it.
    Uri,
    /// `$proxy_add_x_forwarded_for`: the value the proxy itself would give `X-Forwarded-For`.
    ForwardedFor,
}

impl Variable {
    /// All of them by name, without the `$`.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("host", Self::Host),
        ("host_name", Self::HostName),
        ("remote_addr", Self::RemoteAddr),
        ("realip_remote_addr", Self::PeerAddr),
        ("scheme", Self::Scheme),
        ("request_uri", Self::RequestUri),
        ("uri", Self::Uri),
        ("proxy_add_x_forwarded_for", Self::ForwardedFor),
    ];
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// What is presented to clients; `None`: in plain text, or what the command line says.
    pub tls: Option<ListenTls>,
    /// Whether every connection begins with the word of a trusted proxy about who the client is.
    pub proxy_protocol: bool,
}

/// TLS on the way to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// Chosen by name, the first is the default; never empty.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients are asked for certificates.
    pub client_auth: ClientAuth,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

impl ListenTls {
    /// As the engine takes it.
    pub fn settings(&self) -> TlsSettings {
        let mut settings = TlsSettings::many(self.certificates.clone());
        settings.client_auth = self.client_auth.clone();
        settings.http2 = self.http2;
        settings
    }
}
