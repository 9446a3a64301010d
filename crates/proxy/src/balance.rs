//! Which upstream of a location takes a request.
//!
//! Each in turn among those that are up. One that is down is asked again by a single request when its
//! pause is over; and when nothing else is left, it is tried all the same: a wrong guess about health
//! must never be the reason for an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::upstream::Upstream;

/// Takes upstreams in turn. Shared by all workers, so that turns hold across connections.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    turn: AtomicUsize,
}

impl RoundRobin {
    /// The upstream to try next, none of `tried`; `None` when all have been.
    pub(crate) fn pick<'a>(
        &self,
        upstreams: &'a [Arc<Upstream>],
        tried: &[SocketAddr],
        now_ms: u64,
    ) -> Option<&'a Arc<Upstream>> {
        let fresh = || upstreams.iter().filter(|upstream| !tried.contains(&upstream.address));
        if let Some(probed) = fresh().find(|upstream| upstream.health.may_probe(now_ms)) {
            return Some(probed);
        }
        let up = fresh().filter(|upstream| upstream.health.is_up()).count();
        let turn = self.turn.fetch_add(1, Relaxed);
        if up > 0 {
            // Health may change between counting and choosing: then any fresh one does.
            let chosen = fresh().filter(|upstream| upstream.health.is_up()).nth(turn % up);
            return chosen.or_else(|| fresh().next());
        }
        let count = fresh().count();
        if count == 0 { None } else { fresh().nth(turn % count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(ports: &[u16]) -> Vec<Arc<Upstream>> {
        ports.iter().map(|port| Upstream::new(([127, 0, 0, 1], *port).into())).collect()
    }

    fn picks(balance: &RoundRobin, upstreams: &[Arc<Upstream>], now_ms: u64, count: usize) -> Vec<u16> {
        (0..count)
            .filter_map(|_| balance.pick(upstreams, &[], now_ms))
            .map(|upstream| upstream.address.port())
            .collect()
    }

    #[test]
    fn each_takes_its_turn() {
        let all = upstreams(&[1, 2, 3]);
        assert_eq!(picks(&RoundRobin::default(), &all, 0, 7), [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn one_that_is_down_is_left_out_and_the_others_share_its_turns() {
        let all = upstreams(&[1, 2, 3]);
        all[1].health.failed(0);
        assert_eq!(picks(&RoundRobin::default(), &all, 0, 6), [1, 3, 1, 3, 1, 3]);
    }

    #[test]
    fn one_request_probes_after_the_pause() {
        let all = upstreams(&[1, 2]);
        all[1].health.failed(0);
        assert_eq!(picks(&RoundRobin::default(), &all, 10_000, 3), [2, 1, 1]);
        all[1].health.succeeded();
        let mut both = picks(&RoundRobin::default(), &all, 10_000, 2);
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
    }

    #[test]
    fn when_all_are_down_all_are_tried() {
        let all = upstreams(&[1, 2]);
        assert!(all.iter().all(|upstream| upstream.health.failed(0)));
        assert_eq!(picks(&RoundRobin::default(), &all, 0, 3), [1, 2, 1]);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let all = upstreams(&[1, 2, 2]);
        let balance = RoundRobin::default();
        let tried = [all[1].address];
        assert_eq!(balance.pick(&all, &tried, 0).map(|upstream| upstream.address), Some(all[0].address));
        assert!(balance.pick(&all, &[all[0].address, all[1].address], 0).is_none());
    }
}
