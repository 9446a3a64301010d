//! What all workers share: routes, upstreams with their health, and counts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::balance::RoundRobin;
use crate::conf::{Config, Network, Pass};
use crate::counters::{Counters, Snapshot, UpstreamSnapshot};
use crate::relay::Relay;
use crate::route::{NoRoute, Routes};
use crate::upstream::Upstream;

/// A configured proxy. Cloning shares its health and counts.
#[derive(Debug, Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy that knows nothing yet about the health of its upstreams.
    pub fn new(config: &Config) -> Self {
        Self { shared: Arc::new(Shared::new(config)) }
    }

    /// Makes the service of each worker: for [`engine::Server::listen`].
    pub fn service(&self) -> impl Fn() -> Relay + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || Relay::new(Arc::clone(&shared))
    }

    /// What it has done so far.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    routes: Routes,
    places: Vec<Place>,
    upstreams: Vec<Arc<Upstream>>,
    pub(crate) trusted: Vec<Network>,
    /// What this proxy calls itself in `Via`: unlike any other, so that only a real loop is one.
    pub(crate) name: String,
    pub(crate) counters: Counters,
    started: Instant,
}

/// A location at work.
#[derive(Debug)]
pub(crate) struct Place {
    /// How pages and logs name it: host and prefix.
    pub(crate) label: String,
    pub(crate) pass: Pass,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) balance: RoundRobin,
}

impl Shared {
    fn new(config: &Config) -> Self {
        let (routes, places) = Routes::new(config);
        let upstreams: Vec<Arc<Upstream>> = config.backends().into_iter().map(Upstream::new).collect();
        let by_address: HashMap<SocketAddr, &Arc<Upstream>> =
            upstreams.iter().map(|upstream| (upstream.address, upstream)).collect();
        let places = places
            .into_iter()
            .map(|(label, pass)| Place {
                upstreams: pass
                    .backends
                    .iter()
                    .filter_map(|address| by_address.get(address))
                    .copied()
                    .cloned()
                    .collect(),
                label,
                pass,
                balance: RoundRobin::default(),
            })
            .collect();
        Self {
            routes,
            places,
            upstreams,
            trusted: config.trusted.clone(),
            name: format!("weaprous-{:08x}", RandomState::new().hash_one(0) as u32),
            counters: Counters::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn place(&self, host: &str, port: Option<u16>, path: &str) -> Result<&Place, NoRoute> {
        let index = self.routes.find(host, port, path)?;
        self.places.get(index).ok_or(NoRoute::UnknownPath)
    }

    /// Milliseconds since the proxy was made: the clock of its health records.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Counts a tunnel until the guard is dropped.
    pub(crate) fn tunnel_opened(self: &Arc<Self>) -> OpenTunnel {
        self.counters.tunnels.up();
        self.counters.tunnels_open.up();
        OpenTunnel(Arc::clone(self))
    }

    fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
        let upstream = |upstream: &Arc<Upstream>| UpstreamSnapshot {
            address: upstream.address,
            up: upstream.health.is_up(),
            requests: upstream.requests.get(),
            failures: upstream.failures.get(),
        };
        Snapshot {
            requests: counters.requests.get(),
            unrouted: counters.unrouted.get(),
            retries: counters.retries.get(),
            bad_gateway: counters.bad_gateway.get(),
            unavailable: counters.unavailable.get(),
            timed_out: counters.timed_out.get(),
            broken_off: counters.broken_off.get(),
            tunnels: counters.tunnels.get(),
            tunnels_open: counters.tunnels_open.get(),
            upstreams: self.upstreams.iter().map(upstream).collect(),
        }
    }
}

/// A tunnel that is being counted.
pub(crate) struct OpenTunnel(Arc<Shared>);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.counters.tunnels_open.down();
    }
}
