//! The values a configuration is made of. Only the parser (or a test) builds them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a connection to a backend may take to open when nothing else is said.
pub(super) const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// How long a backend may take to begin its answer when nothing else is said.
/// Longer than the tracker holds a long poll or a relay request open.
pub(super) const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);

/// One `host` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What the block answers to; never empty.
    pub names: Vec<HostPattern>,
    /// What is done with a path that no location matches; `None`: such a path is unknown here.
    pub root: Option<Pass>,
    /// The `location` blocks in the order of the file; prefixes are distinct.
    pub locations: Vec<Location>,
}

/// What a `host` block answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host that no other block names.
    Default,
    /// A host by name.
    Name {
        /// In lower case, without a final dot; an IPv6 address keeps its brackets.
        name: String,
        /// `None` matches every port.
        port: Option<u16>,
    },
}

/// One `location` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Begins with `/`. One that ends with `/` matches every path that begins with it; any other matches
    /// only whole segments: `/api` matches `/api` and `/api/x`, not `/apis`.
    pub prefix: String,
    /// What is done with a matching request.
    pub pass: Pass,
}

/// Where requests go and how they are dressed for the journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The backends in the order of the file; never empty. One that is named twice gets twice the share.
    pub backends: Vec<SocketAddr>,
    /// How a backend is chosen.
    pub policy: Policy,
    /// Fields to set on the way to the backend.
    pub set_headers: Vec<SetHeader>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long the backend may take to begin its answer once it has the request.
    pub response_timeout: Duration,
    /// Longest request body passed on, in bytes; `None` leaves it to the server the proxy runs on.
    pub body_bytes_max: Option<u64>,
}

/// How a backend is chosen among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Each in turn.
    #[default]
    RoundRobin,
}

/// One `proxy_set_header`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetHeader {
    /// A field name, as written.
    pub name: String,
    /// Its value; an empty one means that the field is not sent at all.
    pub value: Template,
}

/// A field value with variables in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// The parts in order.
    pub parts: Vec<Part>,
}

impl Template {
    /// Whether it always stands for the empty string.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself: visible ASCII, spaces and tabs.
    Literal(String),
    /// Stands for something the request brings.
    Variable(Variable),
}

/// What a template may take from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `$host`: the host the client asked for, with the port if it gave one.
    Host,
    /// `$remote_addr`: the address of the client's end of the connection, without the port.
    RemoteAddr,
    /// `$scheme`: `http` or `https`, as the client spoke to the proxy.
    Scheme,
    /// `$proxy_add_x_forwarded_for`: the value the proxy itself would give `X-Forwarded-For`.
    ForwardedFor,
}

impl Variable {
    /// All of them by name, without the `$`.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("host", Self::Host),
        ("remote_addr", Self::RemoteAddr),
        ("scheme", Self::Scheme),
        ("proxy_add_x_forwarded_for", Self::ForwardedFor),
    ];
}

/// A range of addresses: `10.0.0.0/8`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Parses `address` or `address/bits`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        match address.to_canonical() {
            _ if bits > width => None,
            v4 if v4 != address && bits >= 96 => Some(Self { address: v4, bits: bits - 96 }),
            _ => Some(Self { address, bits }),
        }
    }

    /// Whether `address` is in it. An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = u32::from(ours) ^ u32::from(theirs);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = u128::from(ours) ^ u128::from(theirs);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(network: &str, address: &str, inside: bool) {
        let network = Network::parse(network).unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), inside, "{network:?} {address}");
    }

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("192.168.1.128/25", "192.168.1.129", true);
        check("192.168.1.128/25", "192.168.1.127", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("fd00::/8", "fd12::1", true);
        check("fd00::/8", "fe80::1", false);
        check("::/0", "::1", true);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_counts_as_ipv4() {
        check("10.0.0.0/8", "::ffff:10.1.1.1", true);
        check("::ffff:10.0.0.0/104", "10.1.1.1", true);
        check("::ffff:10.0.0.0/104", "11.1.1.1", false);
        check("::/0", "10.1.1.1", false);
    }

    #[test]
    fn what_is_not_a_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "::/129", "a/8"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
