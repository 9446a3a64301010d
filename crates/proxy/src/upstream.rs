//! One backend: its address, its health, its requests. Shared by all workers, and by every place that names its
//! address without an `upstream` block of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::balance::key_of;
use crate::control::Control;
use crate::health::Health;
use crate::metrics::Server;
use crate::queue::Queue;

/// A backend, its health and its counts.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// What hashing knows it by: the same in every process.
    pub(crate) id: u64,
    pub(crate) health: Health,
    /// Requests it has now. Counted in the order that [`Queue`] needs.
    in_flight: AtomicU32,
    /// Who waits for room, where anybody does.
    pub(crate) queue: Option<Arc<Queue>>,
    /// What an operator wants of it.
    pub(crate) control: Control,
    /// What it has done.
    pub(crate) metrics: Arc<Server>,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr, metrics: Arc<Server>, queue: Option<Arc<Queue>>) -> Arc<Self> {
        Arc::new(Self {
            address,
            id: key_of(address.to_string().as_bytes()),
            health: Health::default(),
            in_flight: AtomicU32::new(0),
            queue,
            control: Control::default(),
            metrics,
        })
    }

    /// Requests it has now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    /// One more request, unless it has `max` already.
    pub(crate) fn enter(&self, max: Option<u32>) -> bool {
        let max = max.unwrap_or(u32::MAX);
        self.in_flight.fetch_update(SeqCst, SeqCst, |count| (count < max).then(|| count + 1)).is_ok()
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }
}
