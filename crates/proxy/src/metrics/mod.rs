//! What the proxy has done so far, by route and by upstream. Knows no HTTP and no configuration.
//!
//! A [`Route`] or a [`Server`] is found by its name once, when a configuration is put to work, and counted on without
//! looking anything up. The same name finds the same counts again, so that a reload forgets nothing; what no
//! configuration names any more is no longer shown, and forgotten once nobody holds it. So the label sets are those of
//! the configuration: no client can make them grow.

mod cells;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use cells::Durations;
pub(crate) use cells::{Line, Number, PerThread};
pub(crate) use text::{CONTENT_TYPE, write as write_text};

use cells::Histogram;

/// Classes of an answer: 1xx to 5xx, and none, when the client was gone first.
pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "gone"];

/// Why a request is not let pass: what operators call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    ClientRequestsMax,
    RateLimit,
    Access,
    BasicAuth,
    ForwardAuth,
}

/// The directives that do not let a request pass, in the order of [`Reason`].
pub(crate) const REASONS: [&str; 5] = ["client_requests_max", "rate_limit", "access", "basic_auth", "forward_auth"];

/// Names kept apart; what comes beyond is counted as [`OTHERS`]. A configuration of the longest kind stays below.
const NAMES_MAX: usize = 20_000;
/// The name of all that is beyond [`NAMES_MAX`].
const OTHERS: &str = "(others)";

/// One thread's counts of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteCells {
    pub(crate) classes: [Number; CLASSES.len()],
    pub(crate) in_flight: Number,
    pub(crate) took: Histogram,
    pub(crate) retries: Number,
    pub(crate) refused: [Number; REASONS.len()],
    pub(crate) bytes_in: Number,
    pub(crate) bytes_out: Number,
    pub(crate) tunnels: Number,
    pub(crate) tunnels_open: Number,
    pub(crate) broken_off: Number,
}

/// One thread's counts of one server of an upstream.
#[derive(Debug, Default)]
pub(crate) struct ServerCells {
    pub(crate) attempts: Number,
    pub(crate) retries: Number,
    pub(crate) classes: [Number; CLASSES.len()],
    pub(crate) failures: Number,
    pub(crate) took: Histogram,
    pub(crate) opened: Number,
    pub(crate) refused: Number,
    pub(crate) ejections: Number,
}

/// A route: host and location.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) cells: PerThread<RouteCells>,
}

/// One server of an upstream.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) cells: PerThread<ServerCells>,
}

/// All counts of a proxy.
#[derive(Debug)]
pub(crate) struct Metrics {
    routes: Mutex<BTreeMap<String, Weak<Route>>>,
    /// By upstream and server.
    servers: Mutex<BTreeMap<(String, String), Weak<Server>>>,
    pub(crate) reloads: AtomicU64,
    pub(crate) reloads_refused: AtomicU64,
    /// Seconds since 1970 of the last reload that took effect; 0 before.
    pub(crate) reloaded_at_s: AtomicU64,
}

/// A route at one moment. All but the gauges only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteCounts {
    /// Host and location.
    pub name: String,
    /// Answers by class: 1xx to 5xx, and those whose client was gone first.
    pub classes: [u64; CLASSES.len()],
    /// Being answered now, tunnels included.
    pub in_flight: u64,
    /// From the request's head to the end of the answer, tunnels and event streams left out.
    pub took: Durations,
    /// Attempts after the first one.
    pub retries: u64,
    /// Requests that were not let pass, by what did not: `client_requests_max`, `rate_limit`, `allow` and `deny`,
    /// `basic_auth`, `forward_auth`.
    pub refused: [u64; REASONS.len()],
    /// Content received from clients, in bytes.
    pub bytes_in: u64,
    /// Content sent to clients, in bytes, as it is sent: compressed, and no more of it than was taken.
    pub bytes_out: u64,
    /// Connections that switched to another protocol.
    pub tunnels: u64,
    /// Those of them that are still open.
    pub tunnels_open: u64,
    /// Answers that an upstream broke off in the middle.
    pub broken_off: u64,
}

/// One server of an upstream at one moment. All but the gauges only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerCounts {
    /// Requests handed to it, retries included.
    pub attempts: u64,
    /// Those of them that came after an attempt which had failed, with it or with another server.
    pub retries: u64,
    /// Its answers by class; the last one counts attempts that nobody waited for any more.
    pub classes: [u64; CLASSES.len()],
    /// Attempts without an answer.
    pub failures: u64,
    /// With it now.
    pub in_flight: u64,
    /// From the attempt to the head of the answer.
    pub took: Durations,
    /// Connections opened to it.
    pub opened: u64,
    /// Requests that went over a connection which was open already.
    pub reused: u64,
    /// How often it was taken out after failures.
    pub ejections: u64,
}

/// Whether a server gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It does.
    #[default]
    Up,
    /// It failed too often, and is only tried now and then.
    Down,
    /// An operator wants it to finish what it has and get nothing new.
    Draining,
    /// An operator wants it left alone.
    Disabled,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// One server of an upstream: who it is, whether it gets requests, what it has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerStatus {
    /// The name of the upstream.
    pub upstream: String,
    /// Its address.
    pub server: String,
    /// Whether it gets requests.
    pub state: State,
    /// What it has done.
    pub counts: ServerCounts,
}

/// A proxy at one moment, for those who show it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// When this process began, in seconds since 1970.
    pub started_at_s: u64,
    /// Connections of clients that are open now.
    pub connections: u64,
    /// Requests received.
    pub requests: u64,
    /// Those of them that were passed on and answered by the front of a worker, without a task.
    pub passed: u64,
    /// Requests for a host or a path that is not configured.
    pub unrouted: u64,
    /// Configurations put to work after the first one.
    pub reloads: u64,
    /// Configurations that had mistakes and changed nothing.
    pub reloads_refused: u64,
    /// When the last reload took effect; 0 before.
    pub reloaded_at_s: u64,
    /// Lines written to the access log.
    pub log_lines: u64,
    /// Lines lost because the access log could not be written in time.
    pub log_dropped: u64,
    /// Every route, in the order of the configuration.
    pub routes: Vec<RouteCounts>,
    /// Every server of every upstream, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            routes: Mutex::default(),
            servers: Mutex::default(),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            reloaded_at_s: AtomicU64::new(0),
        }
    }

    /// The counts of a route, the same ones for the same name.
    pub(crate) fn route(&self, name: &str) -> Arc<Route> {
        find(&self.routes, name.to_owned(), OTHERS.to_owned(), || Route { cells: PerThread::new() })
    }

    /// The counts of one server of an upstream, the same ones for the same names.
    pub(crate) fn server(&self, upstream: &str, server: &str) -> Arc<Server> {
        let others = (OTHERS.to_owned(), OTHERS.to_owned());
        find(&self.servers, (upstream.to_owned(), server.to_owned()), others, || Server { cells: PerThread::new() })
    }

    /// A configuration was put to work.
    pub(crate) fn handle_reload(&self, now_s: u64) {
        self.reloads.fetch_add(1, Relaxed);
        self.reloaded_at_s.store(now_s, Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Route {
    pub(crate) fn counts(&self, name: &str) -> RouteCounts {
        let sum = |number: fn(&RouteCells) -> &Number| self.cells.sum(number);
        let mut counts = RouteCounts {
            name: name.to_owned(),
            in_flight: gauge(sum(|cells| &cells.in_flight)),
            retries: sum(|cells| &cells.retries),
            bytes_in: sum(|cells| &cells.bytes_in),
            bytes_out: sum(|cells| &cells.bytes_out),
            tunnels: sum(|cells| &cells.tunnels),
            tunnels_open: gauge(sum(|cells| &cells.tunnels_open)),
            broken_off: sum(|cells| &cells.broken_off),
            ..RouteCounts::default()
        };
        for cells in self.cells.all() {
            add_classes(&mut counts.classes, &cells.classes);
            cells.took.add_to(&mut counts.took);
            for (sum, number) in counts.refused.iter_mut().zip(&cells.refused) {
                *sum += number.get();
            }
        }
        counts
    }
}

impl Server {
    pub(crate) fn counts(&self) -> ServerCounts {
        let sum = |number: fn(&ServerCells) -> &Number| self.cells.sum(number);
        let (attempts, opened, refused) =
            (sum(|cells| &cells.attempts), sum(|cells| &cells.opened), sum(|cells| &cells.refused));
        let mut counts = ServerCounts {
            attempts,
            retries: sum(|cells| &cells.retries),
            failures: sum(|cells| &cells.failures),
            opened,
            // Every attempt needs a connection: an old one, a new one, or one that could not be had.
            reused: attempts.saturating_sub(opened).saturating_sub(refused),
            ejections: sum(|cells| &cells.ejections),
            ..ServerCounts::default()
        };
        for cells in self.cells.all() {
            add_classes(&mut counts.classes, &cells.classes);
            cells.took.add_to(&mut counts.took);
        }
        counts
    }
}

impl RouteCounts {
    /// Answers of all classes.
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }
}

/// Where an answer's status is counted among [`CLASSES`].
pub(crate) fn class(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100) - 1,
        _ => CLASSES.len() - 1,
    }
}

impl RouteCells {
    /// An answer is over.
    pub(crate) fn ended(&self, status: u16, took: Option<Duration>) {
        self.classes[class(status)].up();
        if let Some(took) = took {
            self.took.record(took);
        }
    }
}

/// A number that goes up and down, read while it does: an end that was seen without its beginning is no number of
/// billions.
fn gauge(sum: u64) -> u64 {
    if sum > u64::MAX / 2 { 0 } else { sum }
}

fn add_classes(sums: &mut [u64; CLASSES.len()], cells: &[Number; CLASSES.len()]) {
    for (sum, number) in sums.iter_mut().zip(cells) {
        *sum += number.get();
    }
}

fn find<K: Ord + Clone, V>(all: &Mutex<BTreeMap<K, Weak<V>>>, key: K, others: K, make: impl Fn() -> V) -> Arc<V> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
        return known;
    }
    if all.len() >= NAMES_MAX {
        all.retain(|_, value| value.strong_count() > 0);
    }
    let key = if all.len() >= NAMES_MAX { others } else { key };
    if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
        return known;
    }
    let fresh = Arc::new(make());
    all.insert(key, Arc::downgrade(&fresh));
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_finds_the_same_counts_as_long_as_anybody_holds_them() {
        let metrics = Metrics::new();
        let route = metrics.route("app.local/");
        route.cells.mine().ended(200, Some(Duration::from_millis(3)));
        assert_eq!(metrics.route("app.local/").counts("").requests(), 1);
        drop(route);
        assert_eq!(metrics.route("app.local/").counts("").requests(), 0, "forgotten with the last holder");
    }

    #[test]
    fn names_beyond_the_limit_share_one_set() {
        let metrics = Metrics::new();
        let held: Vec<_> = (0..=NAMES_MAX + 1).map(|index| metrics.server("u", &index.to_string())).collect();
        assert!(Arc::ptr_eq(&held[NAMES_MAX], &held[NAMES_MAX + 1]));
        assert!(!Arc::ptr_eq(&held[0], &held[1]));
    }

    #[test]
    fn an_end_that_is_seen_before_its_beginning_makes_no_huge_number() {
        let route = Metrics::new().route("r");
        route.cells.mine().in_flight.down();
        assert_eq!(route.counts("r").in_flight, 0);
    }

    #[test]
    fn a_status_is_counted_in_its_class() {
        for (status, expect) in [(101, "1xx"), (200, "2xx"), (304, "3xx"), (404, "4xx"), (599, "5xx"), (0, "gone")] {
            assert_eq!(CLASSES[class(status)], expect, "{status}");
        }
    }

    #[test]
    fn a_connection_is_reused_when_it_was_neither_opened_nor_refused() {
        let server = Metrics::new().server("u", "127.0.0.1:1");
        let cells = server.cells.mine();
        for _ in 0..10 {
            cells.attempts.up();
        }
        cells.opened.up();
        cells.refused.up();
        assert_eq!(server.counts().reused, 8);
    }
}
