//! Connections kept for the next request.

use super::ClientSettings;
use super::link::Link;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

/// Unused connections by server, the freshest last.
#[derive(Default)]
pub(super) struct Pool {
    idle: HashMap<SocketAddr, Vec<Idle>>,
    swept: Option<Instant>,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// A connection that is open as far as anybody knows.
    pub(super) fn take(&mut self, addr: SocketAddr, settings: &ClientSettings) -> Option<Link> {
        let kept = self.idle.get_mut(&addr)?;
        while let Some(Idle { link, since }) = kept.pop() {
            if since.elapsed() >= settings.pool_idle_timeout {
                kept.clear(); // the others are older
            } else if !link.is_stale() {
                return Some(link);
            }
        }
        None
    }

    pub(super) fn put(&mut self, link: Link, settings: &ClientSettings) {
        let now = Instant::now();
        self.sweep(now, settings);
        let kept = self.idle.entry(link.addr()).or_default();
        if kept.len() < settings.pool_idle_max {
            kept.push(Idle { link, since: now });
        }
    }

    /// Closes what is kept for servers of which `is_wanted` says no.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(SocketAddr) -> bool) {
        self.idle.retain(|addr, _| is_wanted(*addr));
    }

    /// Closes what has been unused for too long, also for servers nobody asks any more.
    fn sweep(&mut self, now: Instant, settings: &ClientSettings) {
        let timeout = settings.pool_idle_timeout;
        if self.swept.is_some_and(|at| now.duration_since(at) < timeout) {
            return;
        }
        self.swept = Some(now);
        self.idle.retain(|_, kept| {
            kept.retain(|idle| now.duration_since(idle.since) < timeout);
            !kept.is_empty()
        });
    }

    /// How many connections are kept.
    pub(super) fn len(&self) -> usize {
        self.idle.values().map(Vec::len).sum()
    }
}
