//! Connections kept for the next request.

use super::ClientSettings;
use super::link::Link;
use crate::coarse_now;
use crate::tls::TlsId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Unused connections by server, the freshest last. A quarter of a second more or less makes no difference to how long
/// they have been unused, so nobody looks at the clock.
#[derive(Default)]
pub(super) struct Pool {
    idle: HashMap<Destination, Vec<Idle>, BuildHasherDefault<Mixer>>,
    swept: Option<Instant>,
}

/// What a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) addr: SocketAddr,
    /// `None`: in plain text.
    pub(super) tls: Option<TlsId>,
}

/// Hashes a destination. All of them are named by this program's own configuration, so nobody chooses them to collide,
/// and one is looked up with every request.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    /// An odd number without a pattern: the fraction of the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(size_of::<u64>()) {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

impl Pool {
    /// A connection that is open as far as anybody knows, and was used within this time.
    pub(super) fn take(&mut self, to: Destination, idle_max: Duration) -> Option<Box<Link>> {
        let kept = self.idle.get_mut(&to)?;
        let now = coarse_now();
        while now.saturating_duration_since(kept.last()?.since) < idle_max {
            let Idle { mut link, .. } = kept.pop()?;
            if !link.is_stale() {
                return Some(link);
            }
        }
        None // the others are older
    }

    pub(super) fn put(&mut self, link: Box<Link>, settings: &ClientSettings) {
        let now = coarse_now();
        self.sweep(now, settings);
        let kept = self.idle.entry(link.destination()).or_default();
        let timeout = settings.pool_idle_timeout;
        if kept.first().is_some_and(|oldest| now.duration_since(oldest.since) >= timeout) {
            kept.retain(|idle| now.duration_since(idle.since) < timeout);
        }
        if kept.len() < settings.pool_idle_max {
            kept.push(Idle { link, since: now });
        }
    }

    /// Closes what is kept for servers of which `is_wanted` says no.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(SocketAddr) -> bool) {
        self.idle.retain(|to, _| is_wanted(to.addr));
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
