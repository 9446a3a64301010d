//! What recent failures say about an upstream. Passive: it is judged by real requests only.
//!
//! ```text
//!            failed                       the pause is over: one request probes
//!   up ─────────────────► down (pause) ─────────────────────────────────► probing
//!    ▲                      ▲   ▲                                            │  │
//!    │                      │   └─────────── failed: the pause doubles ──────┘  │
//!    └──────────────────────┴──────────────────── succeeded ────────────────────┘
//! ```
//!
//! Knows no clock: milliseconds since some fixed moment are arguments. Shared by all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The pause after the first failure. A restarted program is back on the next probe.
const PAUSE_MS_MIN: u64 = 500;
/// The longest pause, so that an upstream that comes back after a day is found within seconds.
const PAUSE_MS_MAX: u64 = 15_000;
/// How long a probe keeps others away: as long as a connection may take to open by default.
const PROBE_MS: u64 = 2_000;

/// The record of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Failures since the last success.
    failures: AtomicU32,
    down_until_ms: AtomicU64,
}

impl Health {
    /// Whether its last connection could be opened.
    pub(crate) fn is_up(&self) -> bool {
        self.failures.load(Relaxed) == 0
    }

    /// Whether this request may find out if a down upstream is back. At most one caller per pause gets
    /// `true`; the next one comes when the probe has failed or did not report for [`PROBE_MS`].
    pub(crate) fn may_probe(&self, now_ms: u64) -> bool {
        let until = self.down_until_ms.load(Relaxed);
        !self.is_up()
            && now_ms >= until
            && self.down_until_ms.compare_exchange(until, now_ms + PROBE_MS, Relaxed, Relaxed).is_ok()
    }

    /// A connection could not be opened. Whether this is news.
    pub(crate) fn failed(&self, now_ms: u64) -> bool {
        let before = self.failures.fetch_add(1, Relaxed).min(u32::MAX - 1);
        let pause = PAUSE_MS_MIN.saturating_mul(1 << before.min(16)).min(PAUSE_MS_MAX);
        self.down_until_ms.store(now_ms.saturating_add(pause), Relaxed);
        before == 0
    }

    /// A connection was opened. Whether this is news.
    pub(crate) fn succeeded(&self) -> bool {
        !self.is_up() && self.failures.swap(0, Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_requests_away_until_the_pause_is_over() {
        let health = Health::default();
        assert!(health.is_up());
        assert!(!health.may_probe(0), "what is up needs no probe");
        assert!(health.failed(1000), "the first failure is news");
        assert!(!health.is_up());
        assert!(!health.may_probe(1000 + PAUSE_MS_MIN - 1));
        assert!(health.may_probe(1000 + PAUSE_MS_MIN));
    }

    #[test]
    fn one_request_probes_at_a_time() {
        let health = Health::default();
        health.failed(0);
        assert!(health.may_probe(5000));
        assert!(!health.may_probe(5001));
        assert!(health.may_probe(5000 + PROBE_MS), "a probe that never reports does not block for ever");
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let health = Health::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            health.failed(now);
            let free = (now..).step_by(100).find(|at| health.may_probe(*at)).unwrap_or_default();
            pauses.push(free - now);
            now = free;
        }
        assert_eq!(pauses[..5], [500, 1000, 2000, 4000, 8000]);
        assert!(pauses[5..].iter().all(|pause| *pause == PAUSE_MS_MAX), "{pauses:?}");
    }

    #[test]
    fn a_success_forgets_everything() {
        let health = Health::default();
        health.failed(0);
        health.failed(0);
        assert!(health.succeeded());
        assert!(!health.succeeded(), "only the first success is news");
        assert!(health.is_up());
        health.failed(0);
        assert!(health.may_probe(PAUSE_MS_MIN), "the pause begins small again");
    }
}
