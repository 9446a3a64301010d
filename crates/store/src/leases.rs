//! Leases: values that vanish unless renewed. They live in this process's memory alone, by contract.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat::StoreError;

use crate::register::under;

/// Leases held at once. A key beyond it is refused until others lapse; each is a few hundred bytes.
const LEASES_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<BTreeMap<String, Lease>>,
}

struct Lease {
    value: Vec<u8>,
    until: Instant,
}

impl Leases {
    /// Takes or renews a lease.
    pub(crate) fn lease(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<(), StoreError> {
        self.lease_at(Instant::now(), key, value, ttl)
    }

    /// Gives a lease up before its time.
    pub(crate) fn release(&self, key: &str) {
        self.locked().remove(key);
    }

    /// The live leases whose key begins with `prefix`, in key order.
    pub(crate) fn live(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.live_at(Instant::now(), prefix)
    }

    fn lease_at(&self, now: Instant, key: &str, value: Vec<u8>, ttl: Duration) -> Result<(), StoreError> {
        let mut held = self.locked();
        if held.len() >= LEASES_MAX && !held.contains_key(key) {
            held.retain(|_, lease| lease.until > now);
            if held.len() >= LEASES_MAX {
                return Err(StoreError::Busy);
            }
        }
        let until = now + ttl;
        held.insert(key.to_owned(), Lease { value, until });
        Ok(())
    }

    fn live_at(&self, now: Instant, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let mut held = self.locked();
        let lapsed = under(&held, prefix).filter(|(_, lease)| lease.until <= now);
        let lapsed: Vec<_> = lapsed.map(|(key, _)| key.clone()).collect();
        for key in lapsed {
            held.remove(&key);
        }
        under(&held, prefix).map(|(key, lease)| (key.clone(), lease.value.clone())).collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys(leases: &Leases, now: Instant, prefix: &str) -> Vec<String> {
        let live = leases.live_at(now, prefix);
        live.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn lapses_exactly_when_its_time_is_over_and_a_renewal_moves_that() {
        let leases = Leases::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        leases.lease_at(start, "presence/a", vec![1], 15 * second).unwrap();
        leases.lease_at(start, "presence/b", vec![2], 15 * second).unwrap();
        leases.lease_at(start, "other/c", vec![3], 15 * second).unwrap();
        leases.lease_at(start + 5 * second, "presence/b", vec![4], 15 * second).unwrap();
        assert_eq!(keys(&leases, start + 14 * second, "presence/"), ["presence/a", "presence/b"]);
        assert_eq!(keys(&leases, start + 15 * second, "presence/"), ["presence/b"]);
        assert_eq!(leases.live_at(start + 19 * second, "presence/"), [("presence/b".to_owned(), vec![4])]);
        assert!(keys(&leases, start + 20 * second, "presence/").is_empty());
    }

    #[test]
    fn a_released_lease_is_gone_at_once() {
        let leases = Leases::default();
        leases.lease("presence/a", vec![1], Duration::from_secs(15)).unwrap();
        leases.release("presence/a");
        assert!(leases.live("presence/").is_empty());
    }

    #[test]
    fn lapsed_leases_make_room_for_new_ones() {
        let leases = Leases::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for i in 0..LEASES_MAX {
            leases.lease_at(start, &format!("old/{i}"), Vec::new(), second).unwrap();
        }
        assert_eq!(leases.lease_at(start, "new", Vec::new(), second), Err(StoreError::Busy));
        leases.lease_at(start, "old/7", vec![7], second).unwrap();
        leases.lease_at(start + second, "new", Vec::new(), second).unwrap();
        assert_eq!(keys(&leases, start + second, ""), ["new"]);
    }
}
