//! How often a client may ask: a bucket per client that a request empties by one and time fills again.
//!
//! Kept as one number per client: when its bucket will be full again (the generic cell rate algorithm). A
//! client that has been quiet for long needs no entry. Knows no clock: microseconds are arguments.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::conf::RateLimit;

/// Clients remembered per limit and shard. When more are busy at once, the limit is not what helps; then the
/// shard begins anew.
const CLIENTS_PER_SHARD_MAX: usize = 16 * 1024;

/// Parts with a lock of their own, so that workers seldom meet.
const SHARDS: usize = 16;

/// One limit at work.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Microseconds that one request costs.
    cost_us: u64,
    /// Microseconds a bucket holds.
    burst_us: u64,
    hash: RandomState,
    /// Client → when its bucket is full again.
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Limiter {
    pub(crate) fn new(limit: &RateLimit) -> Self {
        let cost_us = (limit.period.as_micros() as u64 / u64::from(limit.requests)).max(1);
        Self {
            cost_us,
            burst_us: cost_us * u64::from(limit.burst),
            hash: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Lets one request of `client` through.
    ///
    /// # Errors
    /// It came too early: by so many microseconds.
    pub(crate) fn take(&self, client: &[u8], now_us: u64) -> Result<(), u64> {
        let key = self.hash.hash_one(client);
        let shard = &self.shards[(key % SHARDS as u64) as usize];
        let mut clients = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_PER_SHARD_MAX {
            clients.retain(|_, full_at| *full_at > now_us);
            if clients.len() >= CLIENTS_PER_SHARD_MAX {
                clients.clear();
            }
        }
        let full_at = clients.entry(key).or_insert(now_us);
        let next = (*full_at).max(now_us) + self.cost_us;
        let too_early = next.saturating_sub(now_us + self.burst_us);
        if too_early > 0 {
            return Err(too_early);
        }
        *full_at = next;
        Ok(())
    }
}

/// What a client is known by: its address, of IPv6 the /64.
pub(crate) fn client_key(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0, 0, 0, 4, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            std::array::from_fn(|index| octets[index])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conf::RateKey;

    const SECOND: u64 = 1_000_000;

    fn limiter(requests: u32, burst: u32) -> Limiter {
        Limiter::new(&RateLimit { requests, period: Duration::from_secs(1), burst, key: RateKey::Address })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limiter = limiter(10, 3);
        let passed = |now| (0..10).filter(|_| limiter.take(b"a", now).is_ok()).count();
        assert_eq!(passed(0), 3);
        assert_eq!(passed(SECOND / 10), 1);
        assert_eq!(passed(SECOND / 10), 0);
        assert_eq!(limiter.take(b"a", SECOND / 10), Err(SECOND / 10));
        assert_eq!(passed(10 * SECOND), 3, "a long silence fills the bucket and no more");
        assert_eq!((0..5).filter(|_| limiter.take(b"b", 0).is_ok()).count(), 3, "each client has a bucket");
    }

    #[test]
    fn over_a_long_time_the_rate_is_exact() {
        let limiter = limiter(10, 3);
        let passed = (0..10 * SECOND).step_by(7_000).filter(|now| limiter.take(b"a", *now).is_ok()).count();
        assert!((100..=103).contains(&passed), "{passed}");
    }

    #[test]
    fn many_clients_do_not_fill_the_memory() {
        let limiter = limiter(1, 1);
        for client in 0..600_000u32 {
            assert!(limiter.take(&client.to_be_bytes(), 0).is_ok());
        }
        let kept: usize = limiter.shards.iter().map(|shard| shard.lock().map_or(0, |clients| clients.len())).sum();
        assert!(kept <= SHARDS * CLIENTS_PER_SHARD_MAX, "{kept}");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let key = |address: &str| client_key(address.parse().unwrap_or(IpAddr::V4([0; 4].into())));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
        assert_eq!(key("1.2.3.4"), key("::ffff:1.2.3.4"));
    }
}
