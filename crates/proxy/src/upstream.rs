//! One backend, shared by every location that names its address and by all workers.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::counters::Counter;
use crate::health::Health;

/// A backend, its health and its counts.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    /// Requests handed to it, attempts included.
    pub(crate) requests: Counter,
    /// Attempts that ended without a response head.
    pub(crate) failures: Counter,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            health: Health::default(),
            requests: Counter::default(),
            failures: Counter::default(),
        })
    }
}
