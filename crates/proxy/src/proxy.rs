//! What all workers share: routes, upstreams with their health, and counts.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use engine::{BindError, Server};
use std::net::SocketAddr;

use crate::background;
use crate::balance::sticky::Sealer;
use crate::conf::{self, Action, Config, Network, Rules};
use crate::counters::{Counters, Snapshot, UpstreamSnapshot};
use crate::folder::Folder;
use crate::group::{Group, Registry};
use crate::passwords::Passwords;
use crate::rate::Limiter;
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

    /// Looks up names and checks on upstreams, for ever: for [`engine::Server::on_one_worker`]. Without it upstreams
    /// that are given by name are never found, and health checks never made.
    pub async fn background(self) {
        background::run(self.shared).await;
    }

    /// Adds the proxy to a server: its service at this address, and what it does beside requests.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn listen(&self, server: Server, address: SocketAddr) -> Result<Server, BindError> {
        let proxy = self.clone();
        let server = server.listen(address, self.service())?;
        Ok(server.on_one_worker(move || proxy.background()))
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
    pub(crate) groups: Vec<Arc<Group>>,
    pub(crate) registry: Registry,
    pub(crate) sealer: Sealer,
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
    pub(crate) rules: Rules,
    /// Who answers, if it is an upstream.
    pub(crate) group: Option<Arc<Group>>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) passwords: Option<Passwords>,
    /// Who is asked first.
    pub(crate) asked: Option<Arc<Group>>,
    /// The folder, if files are the answer and it can be opened.
    pub(crate) files: Option<Folder>,
}

impl Shared {
    fn new(config: &Config) -> Self {
        let (routes, places) = Routes::new(config);
        let registry = Registry::default();
        let groups: Vec<Arc<Group>> =
            config.upstreams.iter().map(|upstream| Group::new(Arc::clone(upstream), &registry)).collect();
        let group = |upstream: &conf::Upstream| groups.iter().find(|group| *group.conf == *upstream).cloned();
        let place = |(label, rules): (String, Rules)| Place {
            label,
            group: match &rules.action {
                Action::Pass(pass) => group(&pass.upstream),
                _ => None,
            },
            limiter: rules.rate_limit.as_ref().map(Limiter::new),
            passwords: rules.basic_auth.as_ref().map(|auth| Passwords::new(&auth.file)),
            asked: rules.forward_auth.as_ref().and_then(|auth| group(&auth.upstream)),
            files: match &rules.action {
                Action::Files(files) => Folder::open(files),
                _ => None,
            },
            rules,
        };
        Self {
            routes,
            places: places.into_iter().map(place).collect(),
            groups,
            registry,
            sealer: Sealer::random(),
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

    /// Microseconds since the proxy was made: the clock of its rate limits.
    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Counts a tunnel until the guard is dropped.
    pub(crate) fn tunnel_opened(self: &Arc<Self>) -> OpenTunnel {
        self.counters.tunnels.up();
        self.counters.tunnels_open.up();
        OpenTunnel(Arc::clone(self))
    }

    fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
        let mut known: Vec<Arc<Upstream>> = Vec::new();
        for member in self.groups.iter().flat_map(|group| group.members().to_vec()) {
            if !known.iter().any(|other| Arc::ptr_eq(other, &member.upstream)) {
                known.push(member.upstream);
            }
        }
        let upstream = |upstream: &Arc<Upstream>| UpstreamSnapshot {
            address: upstream.address,
            up: upstream.health.is_up(),
            in_flight: upstream.in_flight(),
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
            upstreams: known.iter().map(upstream).collect(),
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
