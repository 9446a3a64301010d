//! How many connections each address has, on all workers together.

use crate::{Settings, TrustedProxies};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections of one address that are told at a time that they are too many; further ones are dropped.
const REFUSED_MAX: usize = 32;

/// Counts connections per IPv4 address or IPv6 /64 network: whoever has one address of such a network has all.
#[derive(Debug)]
pub(super) struct Addresses {
    max: usize,
    counts_loopback: bool,
    uncounted: Option<TrustedProxies>,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

/// The connections of one network.
#[derive(Debug, Default)]
struct Count {
    admitted: usize,
    /// Those that are being told that they are too many.
    refused: usize,
}

/// One connection that is counted. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    network: IpAddr,
    is_refused: bool,
}

/// The address has as many connections as it may have.
#[derive(Debug)]
pub(super) struct TooMany;

impl Addresses {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            max: settings.connections_per_address_max,
            counts_loopback: settings.counts_loopback,
            uncounted: settings.uncounted.clone(),
            counts: Mutex::default(),
        })
    }

    /// Counts a connection; `None` for one that is exempt.
    pub(super) fn count(self: &Arc<Self>, addr: SocketAddr) -> Result<Option<Box<Counted>>, TooMany> {
        let network = network_of(addr.ip());
        if network.is_loopback() && !self.counts_loopback || self.max == usize::MAX {
            return Ok(None);
        }
        if self.uncounted.as_ref().is_some_and(|proxies| proxies.include(addr.ip().to_canonical())) {
            return Ok(None);
        }
        self.admit(network, false).map(Some)
    }

    /// Counts a connection that is only told that there are too many; an error where enough are being told so. Each
    /// costs a task for a while, and without a bound one address would fill the worker with them.
    pub(super) fn count_refused(self: &Arc<Self>, addr: SocketAddr) -> Result<Box<Counted>, TooMany> {
        self.admit(network_of(addr.ip()), true)
    }

    fn admit(self: &Arc<Self>, network: IpAddr, is_refused: bool) -> Result<Box<Counted>, TooMany> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        let (number, max) =
            if is_refused { (&mut count.refused, REFUSED_MAX) } else { (&mut count.admitted, self.max) };
        let has_room = *number < max;
        if has_room {
            *number += 1;
        }
        if count.is_empty() {
            counts.remove(&network);
        }
        drop(counts);
        has_room.then(|| Box::new(Counted { addresses: self.clone(), network, is_refused })).ok_or(TooMany)
    }
}

impl Count {
    fn is_empty(&self) -> bool {
        self.admitted + self.refused == 0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *(if self.is_refused { &mut count.refused } else { &mut count.admitted }) -= 1;
            if count.is_empty() {
                counts.remove(&self.network);
            }
        }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::into(address),
        IpAddr::V6(address) if address.is_loopback() => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(max: usize, counts_loopback: bool) -> Arc<Addresses> {
        Addresses::new(&Settings { connections_per_address_max: max, counts_loopback, ..Settings::default() })
    }

    fn addr(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1234)
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let addresses = addresses(2, false);
        let first = addresses.count(addr("192.0.2.1")).unwrap();
        let second = addresses.count(addr("::ffff:192.0.2.1")).unwrap();
        assert!(first.is_some() && second.is_some());
        addresses.count(addr("192.0.2.1")).unwrap_err();
        addresses.count(addr("192.0.2.2")).unwrap();
        drop(first);
        addresses.count(addr("192.0.2.1")).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let addresses = addresses(1, false);
        let kept = addresses.count(addr("2001:db8:0:1::1")).unwrap();
        addresses.count(addr("2001:db8:0:1:ffff::2")).unwrap_err();
        addresses.count(addr("2001:db8:0:2::1")).unwrap();
        drop(kept);
        assert!(addresses.counts.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn only_some_are_told_that_they_are_too_many() {
        let addresses = addresses(1, false);
        let here = addr("192.0.2.1");
        let admitted = addresses.count(here).unwrap();
        let mut told: Vec<_> = (0..REFUSED_MAX).map(|_| addresses.count_refused(here).unwrap()).collect();
        addresses.count_refused(here).unwrap_err();
        addresses.count_refused(addr("192.0.2.2")).unwrap();
        drop(admitted);
        addresses.count(here).expect("those who are told take no place of others");
        told.pop();
        told.push(addresses.count_refused(here).unwrap());
        drop(told);
        assert!(addresses.counts.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn loopback_is_exempt_unless_it_is_not() {
        let exempting = addresses(0, false);
        for exempt in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(exempting.count(addr(exempt)).unwrap().is_none(), "{exempt}");
        }
        exempting.count(addr("192.0.2.1")).unwrap_err();
        addresses(0, true).count(addr("::1")).unwrap_err();
    }

    #[test]
    fn proxies_in_front_may_have_as_many_as_their_clients_need() {
        let proxies = TrustedProxies::new(|ip| ip == IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let settings = Settings { connections_per_address_max: 0, uncounted: Some(proxies), ..Settings::default() };
        let addresses = Addresses::new(&settings);
        assert!(addresses.count(addr("192.0.2.1")).unwrap().is_none());
        assert!(addresses.count(addr("::ffff:192.0.2.1")).unwrap().is_none());
        addresses.count(addr("192.0.2.2")).unwrap_err();
    }
}
