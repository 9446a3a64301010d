//! What the proxy has done so far, as plain numbers. Knows no format: whoever shows them formats them.

use std::net::SocketAddr;

use crate::metrics::{Number, PerThread};

/// Counts of the whole proxy, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) passed: Counter,
    pub(crate) unrouted: Counter,
    pub(crate) retries: Counter,
    pub(crate) bad_gateway: Counter,
    pub(crate) unavailable: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) broken_off: Counter,
    pub(crate) tunnels: Counter,
    pub(crate) tunnels_open: Counter,
}

/// A number that many threads change, each in its own place.
#[derive(Debug)]
pub(crate) struct Counter(PerThread<Number>);

impl Default for Counter {
    fn default() -> Self {
        Self(PerThread::new())
    }
}

impl Counter {
    pub(crate) fn up(&self) {
        self.0.mine().up();
    }

    pub(crate) fn down(&self) {
        self.0.mine().down();
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.sum(|number| number)
    }
}

/// The counts at one moment. All but the open tunnels only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests received.
    pub requests: u64,
    /// Those of them that were plain all along: passed on and answered by the front of a worker, without a task.
    pub passed: u64,
    /// Requests for a host or a path that is not configured.
    pub unrouted: u64,
    /// Attempts after the first one.
    pub retries: u64,
    /// Requests answered 502: an upstream broke the connection or the protocol.
    pub bad_gateway: u64,
    /// Requests answered 503: no upstream accepted a connection.
    pub unavailable: u64,
    /// Requests answered 504: an upstream was too slow.
    pub timed_out: u64,
    /// Responses that an upstream broke off in the middle.
    pub broken_off: u64,
    /// Connections that switched to another protocol.
    pub tunnels: u64,
    /// Those of them that are still open.
    pub tunnels_open: u64,
    /// Every backend, in the order of the configuration.
    pub upstreams: Vec<UpstreamSnapshot>,
}

/// One backend at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamSnapshot {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it gets requests: neither ejected nor failing its checks.
    pub up: bool,
    /// Requests it has now, tunnels included.
    pub in_flight: u32,
    /// Requests handed to it, attempts included.
    pub requests: u64,
    /// Attempts that got no response head.
    pub failures: u64,
}
