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
        match self.keys.get(&id) {
            Some(_) => self.place(id, key),
            None => {
                self.insert(id, key, value);
                Merged::New
            }
        }
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
