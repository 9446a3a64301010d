//! The same key meets the same backend (weighted rendezvous hashing): every backend gets a score for the key
//! and the highest wins. When one leaves, only its own keys move; when one comes, it takes only its share.

use super::Candidate;

/// The hash of what a policy looks at; the same in every process and on every machine.
pub(crate) fn key_of(bytes: &[u8]) -> u64 {
    // FNV-1a, then mixed: what differs in the last byte alone must differ everywhere.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mixed(hash)
}

/// The place of the one with the highest score for `key` among `candidates`, which are not empty.
pub(crate) fn rendezvous(candidates: &[Candidate], key: u64) -> usize {
    let mut best = (f64::NEG_INFINITY, 0);
    for (index, candidate) in candidates.iter().enumerate() {
        let score = score(key, candidate);
        if score > best.0 {
            best = (score, index);
        }
    }
    best.1
}

/// Weighted so that shares follow the weights: −w / ln(u), u evenly between 0 and 1.
fn score(key: u64, candidate: &Candidate) -> f64 {
    let bits = mixed(key ^ candidate.id.rotate_left(17));
    // 53 bits fit a float exactly; the half keeps it off 0 and 1, whose logarithms are of no use.
    let even = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight.max(1)) / even.ln()
}

/// Every bit of the input changes half of the output (the finaliser of `SplitMix64`).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::candidates;
    use super::*;

    const KEYS: usize = 20_000;

    fn owners(all: &[Candidate]) -> Vec<usize> {
        (0..KEYS)
            .map(|key| all[rendezvous(all, key_of(format!("10.0.{}.{}", key / 256, key % 256).as_bytes()))].index)
            .collect()
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let owners = owners(&candidates(&[(1, 0), (1, 0), (2, 0)]));
        for (index, expect) in [(0, 5000), (1, 5000), (2, 10_000)] {
            let count = owners.iter().filter(|owner| **owner == index).count();
            assert!(count.abs_diff(expect) < 400, "{index}: {count}");
        }
    }

    #[test]
    fn when_one_leaves_only_its_own_keys_move() {
        let all = candidates(&[(1, 0); 10]);
        let before = owners(&all);
        let without: Vec<Candidate> = all.iter().filter(|candidate| candidate.index != 3).copied().collect();
        let after = owners(&without);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 3));
        assert!(moved.abs_diff(KEYS / 10) < 300, "{moved} of {KEYS}");
        let heirs: Vec<usize> = (0..10)
            .map(|heir| before.iter().zip(&after).filter(|(before, after)| **before == 3 && **after == heir).count())
            .collect();
        assert!(
            heirs.iter().enumerate().all(|(heir, count)| heir == 3 || *count > 100),
            "shared out evenly: {heirs:?}"
        );
    }

    proptest! {
        #[test]
        fn the_order_of_the_candidates_does_not_matter(key in any::<u64>(), turn in 0usize..7) {
            let mut all = candidates(&[(1, 0), (2, 0), (3, 0), (1, 0), (1, 0), (9, 0), (1, 0)]);
            let owner = all[rendezvous(&all, key)].index;
            all.rotate_left(turn);
            prop_assert_eq!(all[rendezvous(&all, key)].index, owner);
        }
    }
}
