//! Round-robin by weight that spreads each one's turns instead of bunching them: 5 to 1 to 1 gives
//! `a a b a c a a`, never `a a a a a b c`.
//!
//! Everybody earns their weight each turn; whoever has most is chosen and pays the sum of all weights.

use std::collections::HashMap;

use super::Candidate;

/// Backends remembered at most; those that come and go by name look-ups are forgotten then.
const REMEMBERED_MAX: usize = 4096;

/// What everybody has earned and not yet spent.
#[derive(Debug, Default)]
pub(crate) struct Smooth {
    credit: HashMap<u64, i64>,
}

impl Smooth {
    /// The place of the next one among `candidates`, which are not empty.
    pub(crate) fn next(&mut self, candidates: &[Candidate]) -> usize {
        if self.credit.len() > REMEMBERED_MAX {
            self.credit.clear();
        }
        let sum: i64 = candidates.iter().map(|candidate| i64::from(candidate.weight)).sum();
        let mut best = (i64::MIN, 0);
        for (index, candidate) in candidates.iter().enumerate() {
            let credit = self.credit.entry(candidate.id).or_default();
            // Who had another weight, or other rivals, has no claim on a burst now. In steady state a credit stays
            // below the sum before it grows, so below twice the sum here.
            *credit = (*credit + i64::from(candidate.weight)).clamp(-2 * sum, 2 * sum);
            if *credit > best.0 {
                best = (*credit, index);
            }
        }
        if let Some(credit) = candidates.get(best.1).and_then(|chosen| self.credit.get_mut(&chosen.id)) {
            *credit -= sum;
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::candidates;
    use super::*;

    fn turns(weights: &[u32], count: usize) -> Vec<usize> {
        let all = candidates(&weights.iter().map(|weight| (*weight, 0)).collect::<Vec<_>>());
        let mut smooth = Smooth::default();
        (0..count).map(|_| smooth.next(&all)).collect()
    }

    #[test]
    fn turns_are_spread() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[3, 1], 8), [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(turns(&[1, 1], 4), [0, 1, 0, 1]);
        // Credits of a heavy one grow beyond the sum in between.
        assert_eq!(turns(&[15, 1, 1], 17).iter().filter(|turn| **turn == 0).count(), 15);
    }

    proptest! {
        #[test]
        fn after_a_whole_round_everybody_had_exactly_their_share(weights in prop::collection::vec(1u32..20, 1..8)) {
            let sum = weights.iter().sum::<u32>() as usize;
            let seen = turns(&weights, 3 * sum);
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(seen.iter().filter(|turn| **turn == index).count(), 3 * *weight as usize);
            }
        }

        #[test]
        fn nobody_waits_much_longer_than_their_share_says(weights in prop::collection::vec(1u32..20, 2..6)) {
            let sum = weights.iter().sum::<u32>() as usize;
            let seen = turns(&weights, 4 * sum);
            for (index, weight) in weights.iter().enumerate() {
                let places: Vec<usize> = (0..seen.len()).filter(|at| seen[*at] == index).collect();
                let longest = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
                prop_assert!(longest <= 2 * sum.div_ceil(*weight as usize), "{weights:?}: {seen:?}");
            }
        }
    }
}
