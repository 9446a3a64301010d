//! A channel as it is shown: entries in display order, gaps of the log made visible, nothing twice.

use crate::ids::EnvelopeId;
use crate::order::OrderKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

/// Sequence numbers of the log that are missing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap(pub RangeInclusive<u64>);

/// What merging an entry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It was not there.
    New,
    /// It was there, and its place changed because its sequence number became known.
    Moved,
    /// It was there; nothing changed.
    Known,
}

/// The shown part of one channel: what was loaded of the past, and all that came since.
#[derive(Debug, Clone)]
pub struct Timeline<T> {
    /// Keyed by the id as well: should two claim one sequence number, both are shown.
    entries: BTreeMap<(OrderKey, EnvelopeId), T>,
    keys: HashMap<EnvelopeId, OrderKey>,
    /// Sequence numbers that are held, for finding gaps.
    logged: BTreeSet<u64>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Timeline<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { entries: BTreeMap::new(), keys: HashMap::new(), logged: BTreeSet::new() }
    }

    /// Puts an entry in its place. One that is known keeps its first value, and its place unless `key` says that the
    /// log has numbered it.
    pub fn merge(&mut self, id: EnvelopeId, key: OrderKey, value: T) -> Merged {
        if self.keys.contains_key(&id) {
            return self.place(id, key);
        }
        self.insert(id, key, value);
        Merged::New
    }

    /// Notes the place of a known entry, once the log has numbered it.
    pub fn place(&mut self, id: EnvelopeId, key: OrderKey) -> Merged {
        let Some(old) = self.keys.get(&id).copied() else { return Merged::Known };
        // the log numbers an envelope once: a number is never taken back or changed
        if old.seq().is_some() || key.seq().is_none() {
            return Merged::Known;
        }
        let Some(value) = self.entries.remove(&(old, id)) else { return Merged::Known };
        self.insert(id, key, value);
        Merged::Moved
    }

    /// The entries in display order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (OrderKey, &T)> {
        self.entries.iter().map(|((key, _), value)| (*key, value))
    }

    /// An entry by its id.
    pub fn get(&self, id: &EnvelopeId) -> Option<&T> {
        self.entries.get(&(*self.keys.get(id)?, *id))
    }

    /// An entry by its id, to change its value.
    pub fn get_mut(&mut self, id: &EnvelopeId) -> Option<&mut T> {
        self.entries.get_mut(&(*self.keys.get(id)?, *id))
    }

    /// The place of the first entry.
    pub fn first(&self) -> Option<OrderKey> {
        self.entries.keys().next().map(|(key, _)| *key)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The holes between the sequence numbers held, ascending. What lies before the first one is not a gap: it was not
    /// loaded.
    pub fn gaps(&self) -> Vec<Gap> {
        let numbers = self.logged.iter();
        numbers
            .clone()
            .zip(numbers.skip(1))
            .filter(|(before, after)| **after > **before + 1)
            .map(|(before, after)| Gap(before + 1..=after - 1))
            .collect()
    }

    fn insert(&mut self, id: EnvelopeId, key: OrderKey, value: T) {
        self.keys.insert(id, key);
        self.logged.extend(key.seq());
        self.entries.insert((key, id), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u64) -> EnvelopeId {
        EnvelopeId::of(&number.to_be_bytes())
    }

    fn pending(lamport: u64, number: u64) -> OrderKey {
        OrderKey::new(None, lamport, id(number))
    }

    fn shown(timeline: &Timeline<u64>) -> Vec<u64> {
        timeline.iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn logged_come_first_then_lamport_time() {
        let mut timeline = Timeline::new();
        timeline.merge(id(1), pending(9, 1), 1);
        timeline.merge(id(2), OrderKey::Logged(7), 2);
        timeline.merge(id(3), pending(2, 3), 3);
        timeline.merge(id(4), OrderKey::Logged(6), 4);
        assert_eq!(shown(&timeline), [4, 2, 3, 1]);
        assert_eq!(timeline.first(), Some(OrderKey::Logged(6)));
    }

    #[test]
    fn a_gap_is_seen_and_closes() {
        let mut timeline = Timeline::new();
        for seq in [7, 9, 15] {
            assert_eq!(timeline.merge(id(seq), OrderKey::Logged(seq), seq), Merged::New);
        }
        assert_eq!(timeline.gaps(), [Gap(8..=8), Gap(10..=14)]);
        timeline.merge(id(8), OrderKey::Logged(8), 8);
        assert_eq!(timeline.gaps(), [Gap(10..=14)]);
    }

    #[test]
    fn known_ids_are_dropped_and_move_once_to_their_number() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.merge(id(1), pending(5, 1), 10), Merged::New);
        assert_eq!(timeline.merge(id(1), pending(5, 1), 11), Merged::Known);
        assert_eq!(timeline.merge(id(1), OrderKey::Logged(3), 12), Merged::Moved);
        assert_eq!(timeline.merge(id(1), pending(5, 1), 13), Merged::Known, "a number is not forgotten");
        assert_eq!(timeline.merge(id(1), OrderKey::Logged(4), 14), Merged::Known, "a number does not change");
        assert_eq!(timeline.place(id(2), OrderKey::Logged(9)), Merged::Known, "nothing to place");
        assert_eq!((timeline.len(), timeline.get(&id(1))), (1, Some(&10)));
        assert_eq!(timeline.first(), Some(OrderKey::Logged(3)));
    }

    #[test]
    fn two_that_claim_one_number_are_both_shown() {
        let mut timeline = Timeline::new();
        timeline.merge(id(1), OrderKey::Logged(1), 1);
        timeline.merge(id(2), OrderKey::Logged(1), 2);
        assert_eq!(timeline.len(), 2);
    }

    proptest! {
        /// Whatever order things arrive in, twice or with their number late: everybody shows the same.
        #[test]
        fn arrival_order_does_not_matter(
            entries in proptest::collection::vec((1..20_u64, proptest::option::of(Just(()))), 1..40),
            shuffle in any::<u64>(),
        ) {
            let mut next_seq = 0;
            let facts: Vec<_> = entries.iter().enumerate().map(|(index, (lamport, logged))| {
                let number = index as u64;
                let seq = logged.map(|()| { next_seq += 1; next_seq });
                (number, *lamport, seq)
            }).collect();
            let mut straight = Timeline::new();
            for (number, lamport, seq) in &facts {
                straight.merge(id(*number), OrderKey::new(*seq, *lamport, id(*number)), *number);
            }
            // the same facts, shuffled by a hash, each first without its number
            let mut arrivals: Vec<_> = facts.iter().flat_map(|(number, lamport, seq)| {
                [(*number, *lamport, None), (*number, *lamport, *seq)]
            }).collect();
            arrivals.sort_by_key(|(number, _, seq)| id(shuffle ^ (number * 2 + u64::from(seq.is_some()))));
            let mut crooked = Timeline::new();
            for (number, lamport, seq) in arrivals {
                crooked.merge(id(number), OrderKey::new(seq, lamport, id(number)), number);
            }
            prop_assert_eq!(shown(&straight), shown(&crooked));
            prop_assert!(straight.gaps().is_empty() && crooked.gaps().is_empty());
            let keys: Vec<_> = crooked.iter().map(|(key, _)| key).collect();
            prop_assert!(keys.is_sorted());
        }
    }
}
