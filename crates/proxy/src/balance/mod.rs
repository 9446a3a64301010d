//! Which of several candidates takes a request: one pure function for each policy.
//!
//! Knows no upstream, no health and no clock: whoever asks has already left out those that cannot take a
//! request. Weights are compared with each other only, so they may be scaled.

mod hash;
mod smooth;
pub(crate) mod sticky;

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::conf::Policy;

pub(crate) use hash::{key_of, rendezvous};
pub(crate) use smooth::Smooth;

/// One that could take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Whose it is, for the one who asks.
    pub(crate) index: usize,
    /// The same for the same backend, whatever else is configured.
    pub(crate) id: u64,
    /// From 1.
    pub(crate) weight: u32,
    /// Requests it has now.
    pub(crate) in_flight: u32,
}

/// What a policy remembers from one request to the next. Shared by all workers, so that turns hold across
/// connections.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    turn: AtomicU64,
    smooth: Mutex<Smooth>,
    random: RandomState,
}

impl Balance {
    /// The place among `candidates` of the one that takes the request; `None` when there are none. `key` is the hash
    /// of what the policy looks at, if the request has it.
    pub(crate) fn choose(&self, policy: &Policy, candidates: &[Candidate], key: Option<u64>) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        let turn = self.turn.fetch_add(1, Relaxed);
        let chosen = match (policy, key) {
            (Policy::IpHash | Policy::HashHeader(_) | Policy::HashCookie(_), Some(key)) => rendezvous(candidates, key),
            (Policy::LeastConn, _) => least_busy(candidates, turn),
            (Policy::RandomTwo, _) => less_busy_of_two(candidates, self.random.hash_one(turn)),
            _ => self.in_turn(candidates, turn),
        };
        Some(chosen)
    }

    fn in_turn(&self, candidates: &[Candidate], turn: u64) -> usize {
        let are_equal = candidates.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        if are_equal {
            return (turn % candidates.len() as u64) as usize;
        }
        self.smooth.lock().unwrap_or_else(PoisonError::into_inner).next(candidates)
    }
}

/// Whether `a` has fewer requests for its weight than `b`.
fn is_less_busy(a: &Candidate, b: &Candidate) -> bool {
    // One more request is what the choice is about; so an idle heavy one wins over an idle light one.
    (u64::from(a.in_flight) + 1) * u64::from(b.weight) < (u64::from(b.in_flight) + 1) * u64::from(a.weight)
}

/// The one with the fewest requests for its weight; those that are equal take turns.
fn least_busy(candidates: &[Candidate], turn: u64) -> usize {
    let count = candidates.len();
    let first = (turn % count as u64) as usize;
    let order = (first..count).chain(0..first);
    order.reduce(|best, next| if is_less_busy(&candidates[next], &candidates[best]) { next } else { best }).unwrap_or(0)
}

/// The less busy of two different ones drawn by weight.
fn less_busy_of_two(candidates: &[Candidate], random: u64) -> usize {
    let first = drawn(candidates, random >> 32, None);
    if candidates.len() == 1 {
        return first;
    }
    let second = drawn(candidates, random & 0xffff_ffff, Some(first));
    if is_less_busy(&candidates[second], &candidates[first]) { second } else { first }
}

/// One drawn by weight, not `except`.
fn drawn(candidates: &[Candidate], random: u64, except: Option<usize>) -> usize {
    let weight = |(index, candidate): (usize, &Candidate)| {
        if Some(index) == except { 0 } else { u64::from(candidate.weight.max(1)) }
    };
    let sum: u64 = candidates.iter().enumerate().map(weight).sum();
    let mut left = random % sum.max(1);
    for pair in candidates.iter().enumerate() {
        let share = weight(pair);
        if left < share {
            return pair.0;
        }
        left -= share;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn candidates(weights_and_requests: &[(u32, u32)]) -> Vec<Candidate> {
        let make = |(index, (weight, in_flight)): (usize, &(u32, u32))| Candidate {
            index,
            id: key_of(format!("backend {index}").as_bytes()),
            weight: *weight,
            in_flight: *in_flight,
        };
        weights_and_requests.iter().enumerate().map(make).collect()
    }

    fn picks(policy: &Policy, weights_and_requests: &[(u32, u32)], count: usize) -> Vec<usize> {
        let (balance, all) = (Balance::default(), candidates(weights_and_requests));
        (0..count).filter_map(|_| balance.choose(policy, &all, None)).collect()
    }

    #[test]
    fn nobody_can_be_chosen_from_nobody() {
        assert_eq!(Balance::default().choose(&Policy::RoundRobin, &[], None), None);
    }

    #[test]
    fn each_takes_its_turn() {
        assert_eq!(picks(&Policy::RoundRobin, &[(1, 0), (1, 0), (1, 0)], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_least_busy_for_its_weight_is_chosen_and_equals_take_turns() {
        assert_eq!(picks(&Policy::LeastConn, &[(1, 2), (1, 1), (1, 2)], 3), [1, 1, 1]);
        assert_eq!(
            picks(&Policy::LeastConn, &[(1, 1), (3, 3)], 2),
            [1, 1],
            "4 requests on weight 3 beat 2 on weight 1"
        );
        assert_eq!(picks(&Policy::LeastConn, &[(1, 0), (3, 0)], 1), [1]);
        assert_eq!(picks(&Policy::LeastConn, &[(1, 0), (1, 0), (1, 5)], 4), [0, 1, 0, 0]);
    }

    #[test]
    fn of_two_drawn_the_less_busy_is_chosen() {
        let busy_one_of_two = picks(&Policy::RandomTwo, &[(1, 9), (1, 0)], 50);
        assert_eq!(busy_one_of_two, [1; 50], "both are always drawn");
        assert_eq!(picks(&Policy::RandomTwo, &[(1, 9)], 3), [0; 3]);
        let many = picks(&Policy::RandomTwo, &[(1, 9), (1, 9), (1, 9), (1, 0)], 4000);
        let idle = many.iter().filter(|index| **index == 3).count();
        assert!((1600..2400).contains(&idle), "the idle one is among two of four half the time: {idle}");
    }

    #[test]
    fn drawing_follows_the_weights() {
        let all = candidates(&[(1, 0), (3, 0)]);
        let hits = (0..4000).filter(|random| drawn(&all, *random, None) == 1).count();
        assert_eq!(hits, 3000);
        assert_eq!(drawn(&all, 7, Some(1)), 0);
    }

    #[test]
    fn without_its_key_a_hash_falls_back_to_turns() {
        assert_eq!(picks(&Policy::HashHeader("x".to_owned()), &[(1, 0), (1, 0)], 3), [0, 1, 0]);
    }
}
