//! What all workers share: routes, upstreams with their health, and counts.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{BindError, ClientTls, Server, Stop, TlsError};
use tokio::sync::Notify;
use weaprous::compress::Compress;

use crate::access_log::{AccessLog, LogError};
use crate::background;
use crate::balance::sticky::Sealer;
use crate::conf::{self, Action, Config, EarlyHints, Network, Policy, Rules, Timeouts};
use crate::counters::{Counters, Snapshot, UpstreamSnapshot};
use crate::folder::Folder;
use crate::group::{Group, Registry, shown_name};
use crate::legacy::{Legacy, Order};
use crate::metrics::{Metrics, Route, ServerCounts, ServerStatus, State, Status};
use crate::passwords::Passwords;
use crate::rate::Limiter;
use crate::relay::Relay;
use crate::reload::{Diff, diff};
use crate::route::{NoRoute, Routes};
use crate::upstream::Upstream;

/// A configured proxy. Cloning shares its health and counts.
#[derive(Debug, Clone)]
pub struct Proxy {
    live: Arc<Live>,
}

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The access log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The secret of sticky cookies cannot be read.
    #[error("sticky_key {}: {error}", file.display())]
    StickyKey {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: io::Error,
    },
    /// Nobody can be believed to be this upstream.
    #[error("upstream {upstream}: {error}")]
    Tls {
        /// Its name, or where it stands.
        upstream: String,
        /// What is wrong with the authorities.
        #[source]
        error: TlsError,
    },
}

/// What makes sticky cookies and recognises them.
fn sealer(config: &Config) -> Result<Sealer, OpenError> {
    let Some(path) = &config.sticky_key else { return Ok(Sealer::random()) };
    Sealer::from_file(path).map_err(|error| OpenError::StickyKey { file: path.clone(), error })
}

/// Whether there is somebody to vouch for every upstream behind `https://`.
fn check_tls(config: &Config) -> Result<(), OpenError> {
    for upstream in &config.upstreams {
        if let Some(tls) = &upstream.tls {
            let checked = ClientTls::new(&tls.trust);
            checked.map_err(|error| OpenError::Tls { upstream: upstream.name.clone(), error })?;
        }
    }
    Ok(())
}

/// No upstream of that name has such a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such server")]
pub struct UnknownServer;

impl Proxy {
    /// A proxy that knows nothing yet about the health of its upstreams. An access log that cannot be opened is
    /// reported and left out, and so are upstreams whose authorities cannot be read: [`Proxy::open`] refuses them.
    pub fn new(config: &Config) -> Self {
        Self::assemble(config).unwrap_or_else(|error| {
            tracing::error!(%error, "there is no access log");
            let without = Config { access_log: None, ..config.clone() };
            Self::assemble(&without).expect("only the log can fail")
        })
    }

    /// A proxy that knows nothing yet about the health of its upstreams.
    ///
    /// # Errors
    /// The access log cannot be opened, or the authorities for an upstream cannot be read.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        check_tls(config)?;
        Ok(Self::assemble_with(config, sealer(config)?)?)
    }

    /// As [`Proxy::open`], taking over what the proxy before has left. Orders for servers that the configuration no
    /// longer has, or that are known by name only, are not carried on.
    ///
    /// # Errors
    /// As [`Proxy::open`].
    pub fn open_after(config: &Config, legacy: &Legacy) -> Result<Self, OpenError> {
        check_tls(config)?;
        let sealer = match legacy.sticky_key {
            Some(key) if config.sticky_key.is_none() => Sealer::new(key),
            _ => sealer(config)?,
        };
        let proxy = Self::assemble_with(config, sealer)?;
        for Order { upstream, server, state } in &legacy.orders {
            if proxy.order(upstream, *server, *state).is_err() {
                tracing::warn!(upstream, %server, "an operator's order is for a server that is not known now");
            }
        }
        Ok(proxy)
    }

    /// What the next version of this program is to know.
    pub fn legacy(&self) -> Legacy {
        let shared = self.live.current().1;
        let orders = shared.named_servers().into_iter().filter_map(|(upstream, member)| {
            let state = member.control.state(true);
            let is_order = matches!(state, State::Draining | State::Disabled);
            is_order.then(|| Order { upstream: upstream.to_owned(), server: member.address, state })
        });
        Legacy { sticky_key: Some(shared.sealer.secret()), orders: orders.collect() }
    }

    fn assemble(config: &Config) -> Result<Self, LogError> {
        let sealer = sealer(config).unwrap_or_else(|error| {
            tracing::error!(%error, "sticky cookies are good for this process alone");
            Sealer::random()
        });
        Self::assemble_with(config, sealer)
    }

    fn assemble_with(config: &Config, sealer: Sealer) -> Result<Self, LogError> {
        let base = Arc::new(Base::new(sealer));
        let shared = Arc::new(Shared::new(config, base, None)?);
        let state = Mutex::new(Current { shared, config: config.clone() });
        Ok(Self { live: Arc::new(Live { state, version: AtomicU64::new(0), changed: Notify::new() }) })
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.live.current().1
    }

    /// Makes the service of each worker: for [`engine::Server::listen`].
    pub fn service(&self) -> impl Fn() -> Relay + Send + Sync + use<> {
        let live = Arc::clone(&self.live);
        move || Relay::new(Arc::clone(&live))
    }

    /// Looks up names and checks on upstreams, for ever: for [`engine::Server::on_one_worker`]. Without it upstreams
    /// that are given by name are never found, and health checks never made.
    pub async fn background(self) {
        background::run(self.live).await;
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

    /// Puts another configuration to work: every request that begins from now on follows it. What both say alike goes
    /// on: connections, tunnels, pools, health, queues, counts. Servers that are no longer named get no new requests;
    /// what is under way with them is cut when [`Diff::servers`] has been served [`Proxy::cut_removed`].
    ///
    /// # Errors
    /// As [`Proxy::open`]: nothing has changed.
    pub fn reload(&self, config: &Config) -> Result<Diff, OpenError> {
        check_tls(config)?;
        let mut state = self.live.lock();
        let diff = diff(&state.config, config);
        let shared = Arc::new(Shared::new(config, Arc::clone(&state.shared.base), Some(&state.shared))?);
        let before = std::mem::replace(&mut *state, Current { shared, config: config.clone() });
        self.live.version.fetch_add(1, Release);
        drop(state);
        let base = &before.shared.base;
        base.metrics.handle_reload(now_s());
        base.retired.lock().unwrap_or_else(PoisonError::into_inner).extend(before.shared.servers());
        drop(before);
        self.live.changed.notify_one();
        Ok(diff)
    }

    /// A configuration was refused: only counts that.
    pub fn reload_refused(&self) {
        self.live.current().1.metrics.reloads_refused.fetch_add(1, Relaxed);
    }

    /// Ends what is still under way with servers that earlier reloads have removed. For the end of the time they get.
    pub fn cut_removed(&self) {
        let (_, shared) = self.live.current();
        let now = shared.servers();
        let retired = std::mem::take(&mut *shared.retired.lock().unwrap_or_else(PoisonError::into_inner));
        for upstream in retired {
            if !now.iter().any(|kept| Arc::ptr_eq(kept, &upstream)) {
                upstream.control.cut_now();
            }
        }
        drop(now);
        shared.registry.tidy();
    }

    /// Lets event streams and tunnels go on when the server stops, until `end` fires: for a server that hands over to
    /// another. Without this they end with the server's stop. Only the first call counts.
    pub fn streams_end_with(&self, end: Stop) {
        // A second call would be a mistake of the program, and the first one holds.
        let _ = self.live.current().1.streams_end.set(end);
    }

    /// Opens the files of the access log again.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.live.current().1.log {
            log.reopen();
        }
    }

    /// Writes what is left for the access log: for the end of a program that does not wait for its workers.
    pub fn flush_log(&self) {
        if let Some(log) = &self.live.current().1.log {
            log.flush();
        }
    }

    /// Tells a server to take requests, to finish what it has, or to stop.
    ///
    /// # Errors
    /// There is no such server.
    pub fn order(&self, upstream: &str, server: SocketAddr, state: State) -> Result<(), UnknownServer> {
        let (_, shared) = self.live.current();
        let mut is_known = false;
        for (name, member) in shared.named_servers() {
            if name == upstream && member.address == server {
                member.control.order(state);
                is_known = true;
            }
        }
        if is_known {
            shared.groups.iter().for_each(|group| group.has_room_again());
            tracing::warn!(upstream, %server, state = state.as_str(), "an operator has changed what a server gets");
        }
        is_known.then_some(()).ok_or(UnknownServer)
    }

    /// Whether this is a proxy in front of this one whose word counts: for [`engine::Settings::uncounted`].
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.live.current().1.trusted.iter().any(|network| network.contains(address))
    }

    /// What it has done so far.
    pub fn snapshot(&self) -> Snapshot {
        self.live.current().1.snapshot()
    }

    /// What it does and what it has done, by route and by server.
    pub fn status(&self) -> Status {
        self.live.current().1.status()
    }
}

/// A proxy whose configuration may be replaced.
#[derive(Debug)]
pub(crate) struct Live {
    state: Mutex<Current>,
    /// Goes up with every replacement, after it: what workers look at with each request.
    version: AtomicU64,
    /// Told about every replacement.
    pub(crate) changed: Notify,
}

#[derive(Debug)]
struct Current {
    shared: Arc<Shared>,
    config: Config,
}

impl Live {
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// The configuration at work, and its number.
    pub(crate) fn current(&self) -> (u64, Arc<Shared>) {
        let state = self.lock();
        (self.version(), Arc::clone(&state.shared))
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stays from one configuration to the next.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) registry: Registry,
    pub(crate) sealer: Sealer,
    /// What this proxy calls itself in `Via`: unlike any other, so that only a real loop is one.
    pub(crate) name: String,
    /// What it adds to `Via` of requests that came over HTTP/1.1.
    pub(crate) via: String,
    pub(crate) counters: Counters,
    pub(crate) metrics: Arc<Metrics>,
    /// Servers that earlier configurations named.
    retired: Mutex<Vec<Arc<Upstream>>>,
    /// When streams and tunnels end, if not with the server.
    streams_end: OnceLock<Stop>,
    started: Instant,
    started_at_s: u64,
}

impl Base {
    fn new(sealer: Sealer) -> Self {
        let metrics = Arc::new(Metrics::new());
        let name = format!("weaprous-{:08x}", RandomState::new().hash_one(0) as u32);
        Self {
            registry: Registry::new(Arc::clone(&metrics)),
            sealer,
            via: format!("1.1 {name}"),
            name,
            counters: Counters::default(),
            metrics,
            retired: Mutex::default(),
            streams_end: OnceLock::new(),
            started: Instant::now(),
            started_at_s: now_s(),
        }
    }

    /// When a stream that came by a connection of this server is to end.
    pub(crate) fn streams_end(&self, server: &Stop) -> Stop {
        self.streams_end.get().unwrap_or(server).clone()
    }

    /// Milliseconds since the proxy was made: the clock of its health records.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Microseconds since the proxy was made: the clock of its rate limits.
    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// One configuration at work.
#[derive(Debug)]
pub(crate) struct Shared {
    base: Arc<Base>,
    routes: Routes,
    places: Vec<Arc<Place>>,
    pub(crate) groups: Vec<Arc<Group>>,
    pub(crate) trusted: Vec<Network>,
    /// Most requests of one client at a time, on each worker.
    pub(crate) client_requests_max: Option<u32>,
    pub(crate) log: Option<Arc<AccessLog>>,
}

impl std::ops::Deref for Shared {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
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
    /// Makes answers smaller.
    pub(crate) compress: Option<Compress>,
    /// The folder, if files are the answer and it can be opened.
    pub(crate) files: Option<Folder>,
    /// What it has done.
    pub(crate) metrics: Arc<Route>,
    /// Whether plain requests are passed on as they are, and answers passed back.
    pub(crate) is_plain: bool,
}

/// Waiting less than this for an answer, or for more of it, is left to those who keep deadlines exactly.
const PLAIN_WAIT_MIN: Duration = Duration::from_secs(5);

/// Whether nothing is done to requests and answers but passing them on, over connections in plain text. Names all that
/// a place can be told, so that whoever adds something has to say here whether the shorter way knows of it.
fn is_plain(rules: &Rules) -> bool {
    let Rules {
        action,
        access,
        basic_auth,
        forward_auth,
        rate_limit,
        response_headers,
        early_hints,
        compression,
        error_pages: _,    // for answers of the proxy's own
        body_bytes_max: _, // there is no content
    } = rules;
    let Action::Pass(pass) = action else { return false };
    let is_open = access.is_empty() && basic_auth.is_none() && forward_auth.is_none() && rate_limit.is_none();
    is_open
        && response_headers.is_empty()
        && *early_hints == EarlyHints::Off
        && compression.is_none()
        && passes_plainly(pass)
}

fn passes_plainly(pass: &conf::Pass) -> bool {
    let conf::Pass {
        upstream,
        request_headers,
        rewrite,
        timeouts,
        retries: _,         // by the longer way
        response_buffer: _, // what the shorter way takes has come whole
        request_buffer: _,  // there is no content
    } = pass;
    let Timeouts {
        response,
        attempt,
        idle,
        connect: _, // the connection is open
        send: _,    // what does not go at once goes the longer way
        keepalive: _,
        keepalive_connections: _,
        tunnel: _,
    } = timeouts;
    request_headers.is_empty()
        && rewrite.is_none()
        && attempt.is_none()
        && *response.min(idle) >= PLAIN_WAIT_MIN
        && is_spoken_to_plainly(upstream)
}

fn is_spoken_to_plainly(upstream: &conf::Upstream) -> bool {
    let conf::Upstream {
        servers,
        policy,
        tls,
        http2,
        queue: _, // of those with limits
        // The group's and the background's, by whatever way requests go.
        name: _,
        is_named: _,
        health_check: _,
        ejection: _,
        slow_start: _,
        resolve_interval: _,
    } = upstream;
    let has_limits = servers.iter().any(|server| server.max_conns.is_some());
    tls.is_none() && !http2 && !has_limits && !matches!(policy, Policy::Sticky(_))
}

impl Place {
    fn new(label: String, rules: Rules, groups: &[Arc<Group>], metrics: &Metrics) -> Self {
        let group = |upstream: &conf::Upstream| groups.iter().find(|group| *group.conf == *upstream).cloned();
        Self {
            metrics: metrics.route(&label),
            is_plain: is_plain(&rules),
            label,
            group: match &rules.action {
                Action::Pass(pass) => group(&pass.upstream),
                _ => None,
            },
            limiter: rules.rate_limit.as_ref().map(Limiter::new),
            passwords: rules.basic_auth.as_ref().map(|auth| Passwords::new(&auth.file)),
            asked: rules.forward_auth.as_ref().and_then(|auth| group(&auth.upstream)),
            compress: rules.compression.map(|compression| {
                if compression.trusts_backends { Compress::new().trust_routes() } else { Compress::new() }
            }),
            files: match &rules.action {
                Action::Files(files) => Folder::open(files),
                _ => None,
            },
            rules,
        }
    }

    /// Whether a request has to pass anything before it is answered: see [`crate::gate`].
    pub(crate) fn has_gate(&self) -> bool {
        let open = self.rules.access.is_empty() && self.limiter.is_none();
        !(open && self.passwords.is_none() && self.asked.is_none())
    }

    /// Whether it is what a configuration says.
    fn is(&self, label: &str, rules: &Rules) -> bool {
        self.label == label && self.rules == *rules
    }
}

impl Shared {
    /// Puts a configuration to work, with all of the one before that is still meant.
    fn new(config: &Config, base: Arc<Base>, before: Option<&Self>) -> Result<Self, LogError> {
        let log = match (&config.access_log, before.and_then(|before| before.log.as_ref())) {
            (Some(settings), Some(log)) if log.settings() == settings => Some(Arc::clone(log)),
            (Some(settings), _) => Some(Arc::new(AccessLog::open(settings)?)),
            (None, _) => None,
        };
        let kept = |upstream: &conf::Upstream| before?.groups.iter().find(|group| *group.conf == *upstream).cloned();
        let group = |upstream: &Arc<conf::Upstream>| {
            kept(upstream).unwrap_or_else(|| Group::new(Arc::clone(upstream), &base.registry))
        };
        let groups: Vec<Arc<Group>> = config.upstreams.iter().map(group).collect();
        let (routes, places) = Routes::new(config);
        let places = places.into_iter().map(|(label, rules)| {
            let known = before.and_then(|before| before.places.iter().find(|place| place.is(&label, &rules)));
            known.cloned().unwrap_or_else(|| Arc::new(Place::new(label, rules, &groups, &base.metrics)))
        });
        let places = places.collect();
        let client_requests_max = config.client_requests_max;
        Ok(Self { routes, places, groups, trusted: config.trusted.clone(), client_requests_max, log, base })
    }

    pub(crate) fn base(&self) -> &Arc<Base> {
        &self.base
    }

    pub(crate) fn place(&self, host: &str, port: Option<u16>, path: &str) -> Result<&Place, NoRoute> {
        let index = self.place_index(host, port, path)?;
        self.place_at(index).ok_or(NoRoute::UnknownPath)
    }

    /// Where in the table the place stands that all requests belong to, if there is one.
    pub(crate) fn only_index(&self) -> Option<usize> {
        self.routes.only()
    }

    /// Where in the table a place stands.
    pub(crate) fn place_index(&self, host: &str, port: Option<u16>, path: &str) -> Result<usize, NoRoute> {
        self.routes.find(host, port, path)
    }

    pub(crate) fn place_at(&self, index: usize) -> Option<&Place> {
        self.places.get(index).map(Arc::as_ref)
    }

    /// Whether a place still has these timeouts.
    pub(crate) fn has_timeouts(&self, is_same: impl Fn(&Timeouts) -> bool) -> bool {
        self.places.iter().any(|place| matches!(&place.rules.action, Action::Pass(pass) if is_same(&pass.timeouts)))
    }

    /// Every server of every upstream, each once.
    pub(crate) fn servers(&self) -> Vec<Arc<Upstream>> {
        self.named_servers().into_iter().map(|(_, upstream)| upstream).collect()
    }

    /// Every server with the name of its upstream, each once, in the order of the configuration.
    fn named_servers(&self) -> Vec<(&str, Arc<Upstream>)> {
        let mut known: Vec<(&str, Arc<Upstream>)> = Vec::new();
        for group in &self.groups {
            for member in group.members().iter() {
                if !known.iter().any(|(_, other)| Arc::ptr_eq(other, &member.upstream)) {
                    known.push((shown_name(&group.conf), Arc::clone(&member.upstream)));
                }
            }
        }
        known
    }

    fn status(&self) -> Status {
        let (log_lines, log_dropped) = self.log.as_ref().map_or((0, 0), |log| log.counts());
        let server = |(name, upstream): &(&str, Arc<Upstream>)| ServerStatus {
            upstream: (*name).to_owned(),
            server: upstream.address.to_string(),
            state: upstream.control.state(upstream.health.is_up()),
            counts: ServerCounts { in_flight: upstream.in_flight().into(), ..upstream.metrics.counts() },
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_s: self.started_at_s,
            connections: 0, // the server's to say
            requests: self.counters.requests.get(),
            passed: self.counters.passed.get(),
            unrouted: self.counters.unrouted.get(),
            reloads: self.metrics.reloads.load(Relaxed),
            reloads_refused: self.metrics.reloads_refused.load(Relaxed),
            reloaded_at_s: self.metrics.reloaded_at_s.load(Relaxed),
            log_lines,
            log_dropped,
            routes: self.places.iter().map(|place| place.metrics.counts(&place.label)).collect(),
            servers: self.named_servers().iter().map(server).collect(),
        }
    }

    /// Counts a tunnel until the guard is dropped.
    pub(crate) fn tunnel_opened(self: &Arc<Self>) -> OpenTunnel {
        self.counters.tunnels.up();
        self.counters.tunnels_open.up();
        OpenTunnel(Arc::clone(self))
    }

    fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
        let upstream = |upstream: &Arc<Upstream>| {
            let counts = upstream.metrics.counts();
            UpstreamSnapshot {
                address: upstream.address,
                up: upstream.health.is_up(),
                in_flight: upstream.in_flight(),
                requests: counts.attempts,
                failures: counts.failures,
            }
        };
        Snapshot {
            requests: counters.requests.get(),
            passed: counters.passed.get(),
            unrouted: counters.unrouted.get(),
            retries: counters.retries.get(),
            bad_gateway: counters.bad_gateway.get(),
            unavailable: counters.unavailable.get(),
            timed_out: counters.timed_out.get(),
            broken_off: counters.broken_off.get(),
            tunnels: counters.tunnels.get(),
            tunnels_open: counters.tunnels_open.get(),
            upstreams: self.servers().iter().map(upstream).collect(),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SERVER: &str = "server 192.0.2.1:5;";

    #[test]
    fn a_place_is_plain_if_nothing_is_done_to_what_passes() {
        let check = |server: &str, more: &str, expect: bool| {
            let text = format!("upstream u {{ {server} }} host a {{ proxy_pass http://u; {more} }}");
            let rules = Config::parse("test", &text).unwrap().hosts.remove(0).root.unwrap();
            assert_eq!(is_plain(&rules), expect, "{text}");
        };
        for more in
            ["", "retries 0;", "body_bytes_max 1k;", "response_timeout 5s; idle_timeout 5s;", "send_timeout 1s;"]
        {
            check(SERVER, more, true);
        }
        for more in [
            "allow 192.0.2.0/24;",
            "rate_limit 5/s;",
            "set_header X-A b;",
            "remove_header X-A;",
            "proxy_set_header X-A b;",
            "strip_prefix /a;",
            "early_hints on;",
            "compression on;",
            "try_timeout 30s;",
            "response_timeout 4s;",
            "idle_timeout 4s;",
        ] {
            check(SERVER, more, false);
        }
        for server in ["server 192.0.2.1:5 max_conns=3;", "server 192.0.2.1:5; dist_policy sticky a;"] {
            check(server, "", false);
        }
        check("server 192.0.2.1:5 backup; server 192.0.2.2:5 weight=2; dist_policy ip-hash;", "", true);
    }
}
