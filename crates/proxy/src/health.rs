//! What failures and checks say about a backend.
//!
//! ```text
//!            failures in a row            the pause is over: one request probes
//!   up ─────────────────► ejected (pause) ───────────────────────────────► probing
//!    ▲                      ▲   ▲                                            │  │
//!    │                      │   └─────────── failed: the pause doubles ──────┘  │
//!    └──────────────────────┴──────────────────── succeeded ────────────────────┘
//!
//!   checked well `rise` times:  failing ──► passing        beside that; one that is failing gets no request,
//!   checked ill  `fall` times:  passing ──► failing        not even a probe
//! ```
//!
//! A connection that cannot be opened ejects at once: the next one would fail as well. Knows no clock:
//! milliseconds since some fixed moment are arguments. Shared by all workers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::conf::{Ejection, HealthCheck};

/// How long a probe keeps others away: as long as a connection may take to open by default.
const PROBE_MS: u64 = 2_000;

/// A full share, in thousandths.
pub(crate) const FULL_SHARE: u32 = 1000;

/// The smallest share during a slow start, in thousandths: without any request it would never warm up.
const SHARE_MIN: u32 = 50;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be opened.
    Connect,
    /// The connection was open, and no answer came.
    Answer,
}

/// The record of one backend.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Failures since the last success.
    failures: AtomicU32,
    /// Pauses since the last success.
    ejections: AtomicU32,
    /// When the pause is over; 0: there is none.
    out_until_ms: AtomicU64,
    /// Whether the last request that was to find out about it has not reported.
    is_probed: AtomicBool,
    /// When it came back; 0: it was never out.
    back_since_ms: AtomicU64,
    is_failing: AtomicBool,
    /// Checks in a row that contradict `is_failing`.
    contradictions: AtomicU32,
}

impl Health {
    /// Whether requests are sent to it.
    pub(crate) fn is_up(&self) -> bool {
        self.out_until_ms.load(Relaxed) == 0 && !self.is_failing()
    }

    /// Whether checks say that it must not get requests.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed)
    }

    /// When its pause is over, if that is yet to come.
    pub(crate) fn out_until(&self, now_ms: u64) -> Option<u64> {
        Some(self.out_until_ms.load(Relaxed)).filter(|until| *until > now_ms)
    }

    /// Whether this request may find out if an ejected backend is back. At most one caller per pause gets
    /// `true`; the next one comes when the probe has failed or did not report for [`PROBE_MS`].
    pub(crate) fn may_probe(&self, now_ms: u64) -> bool {
        let until = self.out_until_ms.load(Relaxed);
        let may = until != 0
            && now_ms >= until
            && !self.is_failing()
            && self.out_until_ms.compare_exchange(until, now_ms + PROBE_MS, Relaxed, Relaxed).is_ok();
        if may {
            self.is_probed.store(true, Relaxed);
        }
        may
    }

    /// A request failed. Whether it is ejected now and was not before; `may_eject` says whether that is allowed.
    pub(crate) fn failed(&self, failure: Failure, rules: &Ejection, may_eject: bool, now_ms: u64) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).min(u32::MAX - 1) + 1;
        let was_out = self.out_until_ms.load(Relaxed) != 0;
        let is_enough = failure == Failure::Connect || failures >= rules.failures || was_out;
        if !is_enough || !(may_eject || was_out) {
            return false;
        }
        if !self.is_probed.swap(false, Relaxed) && was_out {
            return false; // it was sent before the pause began: that it fails as well says nothing new
        }
        let ejections = self.ejections.fetch_add(1, Relaxed).min(16);
        let pause =
            (rules.pause.as_millis() as u64).saturating_mul(1 << ejections).min(rules.pause_max.as_millis() as u64);
        self.out_until_ms.store(now_ms.saturating_add(pause).max(1), Relaxed);
        !was_out
    }

    /// A request was answered. Whether it was ejected before.
    pub(crate) fn succeeded(&self, now_ms: impl FnOnce() -> u64) -> bool {
        if self.failures.load(Relaxed) == 0 && self.out_until_ms.load(Relaxed) == 0 {
            return false; // the usual case, for which nobody has to know the time
        }
        self.failures.store(0, Relaxed);
        self.ejections.store(0, Relaxed);
        let was_out = self.out_until_ms.swap(0, Relaxed) != 0;
        if was_out {
            self.back_since_ms.store(now_ms().max(1), Relaxed);
        }
        was_out
    }

    /// A check was answered well or not. `Some` with the new state when it changes.
    pub(crate) fn checked(&self, is_well: bool, rules: &HealthCheck, now_ms: u64) -> Option<bool> {
        let was_failing = self.is_failing();
        if is_well != was_failing {
            self.contradictions.store(0, Relaxed); // as expected
            return None;
        }
        let needed = if is_well { rules.rise } else { rules.fall };
        if self.contradictions.fetch_add(1, Relaxed) + 1 < needed {
            return None;
        }
        self.contradictions.store(0, Relaxed);
        self.is_failing.store(!is_well, Relaxed);
        if is_well {
            self.back_since_ms.store(now_ms.max(1), Relaxed);
        }
        Some(is_well)
    }

    /// How much of its share it gets, in thousandths: less than [`FULL_SHARE`] for a while after it came back.
    pub(crate) fn share(&self, slow_start: Option<Duration>, now_ms: u64) -> u32 {
        let Some(duration) = slow_start else { return FULL_SHARE };
        let back_since = self.back_since_ms.load(Relaxed);
        if back_since == 0 {
            return FULL_SHARE;
        }
        let elapsed = now_ms.saturating_sub(back_since);
        let share = elapsed.saturating_mul(u64::from(FULL_SHARE)) / (duration.as_millis() as u64).max(1);
        (share.min(u64::from(FULL_SHARE)) as u32).max(SHARE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: u64 = 500;

    fn check() -> HealthCheck {
        HealthCheck {
            path: "/".to_owned(),
            status: (200, 399),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }

    fn refuse(health: &Health, now_ms: u64) -> bool {
        health.failed(Failure::Connect, &Ejection::default(), true, now_ms)
    }

    #[test]
    fn a_refused_connection_keeps_requests_away_until_the_pause_is_over() {
        let health = Health::default();
        assert!(health.is_up());
        assert!(!health.may_probe(0), "what is up needs no probe");
        assert!(refuse(&health, 1000), "the first failure is news");
        assert!(!health.is_up());
        assert!(!health.may_probe(1000 + PAUSE - 1));
        assert!(health.may_probe(1000 + PAUSE));
    }

    #[test]
    fn other_failures_eject_when_there_are_enough_in_a_row() {
        let (health, rules) = (Health::default(), Ejection::default());
        let fail = |now| health.failed(Failure::Answer, &rules, true, now);
        assert!(!fail(1) && !fail(2) && health.is_up());
        health.succeeded(|| 3);
        assert!(!fail(4) && !fail(5) && health.is_up(), "a success in between begins anew");
        assert!(fail(6) && !health.is_up());
        assert!(!fail(7), "news only once");
    }

    #[test]
    fn when_too_many_are_out_nobody_else_is_ejected() {
        let health = Health::default();
        assert!(!health.failed(Failure::Connect, &Ejection::default(), false, 1));
        assert!(health.is_up());
        assert!(refuse(&health, 2));
    }

    #[test]
    fn one_request_probes_at_a_time() {
        let health = Health::default();
        refuse(&health, 0);
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
            refuse(&health, now);
            let free = (now..).step_by(100).find(|at| health.may_probe(*at)).unwrap_or_default();
            pauses.push(free - now);
            now = free;
        }
        assert_eq!(pauses[..5], [500, 1000, 2000, 4000, 8000]);
        assert!(pauses[5..].iter().all(|pause| *pause == 15_000), "{pauses:?}");
    }

    #[test]
    fn those_that_fail_together_are_one_failure() {
        let health = Health::default();
        for _ in 0..20 {
            refuse(&health, 0);
        }
        assert!(health.may_probe(PAUSE), "the pause has not grown");
        for _ in 0..20 {
            refuse(&health, PAUSE);
        }
        assert!(!health.may_probe(3 * PAUSE - 1) && health.may_probe(3 * PAUSE), "it has doubled once");
    }

    #[test]
    fn a_success_forgets_everything() {
        let health = Health::default();
        refuse(&health, 0);
        refuse(&health, 0);
        assert!(health.succeeded(|| 0));
        assert!(!health.succeeded(|| 0), "only the first success is news");
        assert!(health.is_up());
        refuse(&health, 0);
        assert!(health.may_probe(PAUSE), "the pause begins small again");
    }

    #[test]
    fn a_success_in_the_middle_of_a_failure_does_not_leave_it_out_for_ever() {
        let health = Health::default();
        refuse(&health, 0);
        health.failures.store(0, Relaxed); // of another worker, between the failure's count and its pause
        assert!(health.succeeded(|| 1));
        assert!(health.is_up());
    }

    #[test]
    fn checks_take_it_out_and_bring_it_back() {
        let (health, rules) = (Health::default(), check());
        let seen: Vec<Option<bool>> = [true, false, false, true, false, false, false, false, true, false, true, true]
            .into_iter()
            .map(|is_well| health.checked(is_well, &rules, 0))
            .collect();
        let expect = [None, None, None, None, None, None, Some(false), None, None, None, None, Some(true)];
        assert_eq!(seen, expect);
    }

    #[test]
    fn one_that_fails_its_checks_is_not_even_probed() {
        let (health, rules) = (Health::default(), check());
        refuse(&health, 0);
        for _ in 0..3 {
            health.checked(false, &rules, 0);
        }
        assert!(!health.may_probe(60_000));
        assert!(!health.is_up());
        health.checked(true, &rules, 0);
        health.checked(true, &rules, 0);
        assert!(!health.is_up(), "the pause after the refused connection still holds");
        assert!(health.may_probe(60_000));
    }

    #[test]
    fn one_that_comes_back_gets_more_and_more() {
        let health = Health::default();
        let slow = Some(Duration::from_secs(10));
        assert_eq!(health.share(slow, 0), FULL_SHARE, "who was never out starts at once");
        refuse(&health, 1000);
        health.succeeded(|| 2000);
        let shares: Vec<u32> = [2000, 3000, 7000, 12_000, 90_000].map(|now| health.share(slow, now)).to_vec();
        assert_eq!(shares, [SHARE_MIN, 100, 500, FULL_SHARE, FULL_SHARE]);
        assert_eq!(health.share(None, 2000), FULL_SHARE);
    }
}
