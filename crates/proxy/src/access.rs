//! Who may ask: `allow` and `deny`, and whose address counts. Pure.

use std::net::{IpAddr, SocketAddr};

use engine::RequestHead;

use crate::conf::{AccessRule, Network};

/// Whether the first rule that matches allows it; without any match it is allowed.
pub(crate) fn is_allowed(rules: &[AccessRule], address: IpAddr) -> bool {
    let matches = |rule: &&AccessRule| rule.network.is_none_or(|network| network.contains(address));
    rules.iter().find(matches).is_none_or(|rule| rule.allow)
}

/// The client's address: the peer's, or what trusted proxies say about theirs, as far back as they are trusted.
pub(crate) fn client(head: &RequestHead, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let values: Vec<&str> =
        head.fields_named("x-forwarded-for").filter_map(|value| std::str::from_utf8(value).ok()).collect();
    let mut client = peer;
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')).map(str::trim) {
        // What is no address was not written by a proxy of ours: whoever is nearer is the last one known.
        let Some(address) = address_in(hop) else { break };
        client = address.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// The address in an element of `X-Forwarded-For`: alone, or as some proxies write it, with a port or in brackets.
fn address_in(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    hop.parse().ok().or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BytesMut;
    use http1::{Event, Limits, RequestDecoder};

    use super::*;

    fn rules(text: &str) -> Vec<AccessRule> {
        text.split_whitespace()
            .map(|rule| AccessRule { network: Network::parse(&rule[1..]), allow: rule.starts_with('+') })
            .collect()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (text, address, expect) in [
            ("", "1.2.3.4", true),
            ("+10.0.0.0/8 -all", "10.1.1.1", true),
            ("+10.0.0.0/8 -all", "11.1.1.1", false),
            ("-10.1.0.0/16 +10.0.0.0/8 -all", "10.1.1.1", false),
            ("-10.1.0.0/16", "10.2.1.1", true),
            ("-all +10.0.0.1", "10.0.0.1", false),
            ("+::1 -all", "::1", true),
            ("+10.0.0.0/8 -all", "::ffff:10.0.0.1", true),
        ] {
            assert_eq!(is_allowed(&rules(text), address.parse().unwrap()), expect, "{text} {address}");
        }
    }

    fn seen(peer: &str, fields: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut input = BytesMut::from(text.as_bytes());
        let Ok(Some(Event::Head(head))) = RequestDecoder::new(Limits::default()).poll(&mut input) else {
            panic!("{text}")
        };
        let trusted = [Network::parse("10.0.0.0/8").unwrap()];
        client(&head, peer.parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_say_who_the_client_is() {
        assert_eq!(seen("1.1.1.1", "X-Forwarded-For: 2.2.2.2\r\n"), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 2.2.2.2\r\n"), "2.2.2.2");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 2.2.2.2, 10.0.0.9\r\n"), "2.2.2.2");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 2.2.2.2\r\n"), "2.2.2.2");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 6.6.6.6, unknown\r\n"), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 2.2.2.2:51\r\n"), "2.2.2.2");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: [2001:db8::1]:51\r\n"), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: [2001:db8::1]\r\n"), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 10.0.0.2\r\n"), "10.0.0.2");
    }
}
