//! Limits and deadlines of a server, each with a default that has a name and a reason.

use crate::TrustedProxies;
use http1::Limits;
use std::time::Duration;

/// A head is a few hundred bytes: whoever needs longer is no browser, or holds the slot on purpose.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence inside a request body; mobile networks stall for several seconds.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time without the client taking a byte of the response.
const WRITE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence between two requests; browsers close earlier themselves.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_mins(1);
/// Slowest transfer, either way, in bytes per second waited, after [`RATE_GRACE`]: slower than any modem.
const RATE_MIN: u64 = 240;
/// How long a transfer may be waited for before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(30);
/// How long a refused client may take to read why, before the connection is dropped.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Body bytes accepted unless a service raises the limit for one request.
const BODY_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Unread request body that is read away so that the connection can live on (RFC 9112 §9.3).
const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// Requests answered on one connection. It bounds what a leak per connection can grow to.
const REQUESTS_PER_CONNECTION_MAX: u32 = 1_000_000;
/// Connections open at a time on one worker.
const CONNECTIONS_PER_WORKER_MAX: usize = 16 * 1024;
/// Connections open at a time from one address, on all workers together: a household or office behind one address
/// stays far below it.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Silence in an answer of unknown length to a client that has closed its sending side: it has mostly left.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence of a new connection before the server hears of it at all. One second is the shortest the system knows.
const DEFER_ACCEPT: Duration = Duration::from_secs(1);
/// Requests under way at a time on one HTTP/2 connection; browsers want 100 (RFC 9113 §6.5.2).
const HTTP2_STREAMS_MAX: u32 = 100;

/// How a server treats its clients. All of it has defaults; tests shorten the times.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads, each with its own event loop; `None` is one per core this process may use.
    pub workers: Option<usize>,
    /// Limits on heads, chunk lines and trailers.
    pub limits: Limits,
    /// Time for a head, from its first byte: then 408.
    pub head_timeout: Duration,
    /// Silence allowed inside a request body: then the body fails, and 408 is the answer if none was begun.
    pub body_idle_timeout: Duration,
    /// Silence allowed while the client is to take response bytes: then the connection is dropped.
    pub write_idle_timeout: Duration,
    /// Silence allowed between requests: then the connection is closed.
    pub keep_alive_timeout: Duration,
    /// Slowest average transfer in bytes per second waited, both ways.
    pub rate_min: u64,
    /// How long a transfer may be waited for before its rate counts.
    pub rate_grace: Duration,
    /// How long a refused client may take to read why.
    pub linger_timeout: Duration,
    /// Longest request body, declared or counted, in bytes: beyond it reading fails with 413. One
    /// request's limit is changed by [`Body::set_limit`](crate::Body::set_limit).
    pub body_bytes_max: u64,
    /// Most of an unread request body that is read away for the sake of keep-alive, in bytes.
    pub drain_bytes_max: u64,
    /// Requests answered on one connection before it is closed.
    pub requests_per_connection_max: u32,
    /// Connections open at a time on one worker: beyond it 503.
    pub connections_per_worker_max: usize,
    /// Connections open at a time from one IPv4 address or IPv6 /64 network, on all workers together: beyond it 503.
    pub connections_per_address_max: usize,
    /// Whether that holds for loopback addresses too. By default it does not: whoever is there is a proxy or a
    /// measurement, and shares the machine anyway.
    pub counts_loopback: bool,
    /// Proxies in front, for which it does not hold: all of their clients come from a few addresses.
    pub uncounted: Option<TrustedProxies>,
    /// Silence allowed in an answer whose length is not known, to a client that has closed its sending side. Such
    /// clients are answered, but one that closed both sides looks the same as long as nothing is sent.
    pub half_closed_timeout: Duration,
    /// How long a connection without a request may still ask for something after the stop; the answer says that it is
    /// the last one. Closing such a connection at once, which is the default, can cross a request on its way.
    pub idle_grace: Duration,
    /// How long the system may keep a new connection to itself that has not said anything, in whole seconds rounded up;
    /// zero hands connections over as soon as they stand. It saves two system calls and one turn of the event loop per
    /// connection. Linux only (`TCP_DEFER_ACCEPT`); elsewhere connections are always handed over at once.
    ///
    /// Clients of HTTP and TLS speak first, so it shows in those that stay silent alone: they are counted, limited,
    /// timed ([`Settings::head_timeout`] begins then) and, beyond a limit, told so only after this time or when they
    /// speak. A stop does not close a connection that the server has not heard of: its client learns of the stop when
    /// it asks for something, which is refused. A process that takes over the listener serves it.
    pub defer_accept: Duration,
    /// Requests under way at a time on one HTTP/2 connection.
    pub http2_streams_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: None,
            limits: Limits::default(),
            head_timeout: HEAD_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            write_idle_timeout: WRITE_IDLE_TIMEOUT,
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            rate_min: RATE_MIN,
            rate_grace: RATE_GRACE,
            linger_timeout: LINGER_TIMEOUT,
            body_bytes_max: BODY_BYTES_MAX,
            drain_bytes_max: DRAIN_BYTES_MAX,
            requests_per_connection_max: REQUESTS_PER_CONNECTION_MAX,
            connections_per_worker_max: CONNECTIONS_PER_WORKER_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            counts_loopback: false,
            uncounted: None,
            half_closed_timeout: HALF_CLOSED_TIMEOUT,
            idle_grace: Duration::ZERO,
            defer_accept: DEFER_ACCEPT,
            http2_streams_max: HTTP2_STREAMS_MAX,
        }
    }
}
