//! Who may ask: `allow` and `deny`, and whose address counts. Pure.

use std::net::{IpAddr, SocketAddr};

use engine::RequestHead;
use smallvec::SmallVec;

use crate::conf::{AccessRule, Network};

/// Whether the first rule that matches allows it; without any match it is allowed.
pub(crate) fn is_allowed(rules: &[AccessRule], address: IpAddr) -> bool {
    let matches = |rule: &&AccessRule| rule.network.is_none_or(|network| network.contains(address));
    rules.iter().find(matches).is_none_or(|rule| rule.allow)
}

/// The client's address: the peer's, or what trusted proxies say about theirs, as far back as they are trusted: in
/// `X-Forwarded-For`, or where there is none, in `Forwarded` (RFC 7239).
///
/// Read from the end, since only the end was written by somebody who is trusted: nothing that a client put before it,
/// whatever bytes they are, makes the rest unreadable.
pub(crate) fn client(head: &RequestHead, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let mut go_back = |hop: Option<IpAddr>| {
        // What is no address was not written by a proxy of ours, or to hide it: whoever is nearer is the last one known.
        let Some(address) = hop else { return false };
        client = address.to_canonical();
        is_trusted(client)
    };
    let lines: SmallVec<[&[u8]; LINES_USUAL]> = head.fields_named("x-forwarded-for").collect();
    if lines.is_empty() {
        let lines: SmallVec<[&[u8]; LINES_USUAL]> = head.fields_named("forwarded").collect();
        let _ = lines.iter().rev().flat_map(|line| Elements::of(line)).all(|element| go_back(forwarded_for(element)));
    } else {
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let _ = hops.map(|hop| address_in(text(hop)?)).all(go_back);
    }
    client
}

/// Lines of one name that are looked at without an allocation.
const LINES_USUAL: usize = 4;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().map(str::trim)
}

/// The address in an element of `X-Forwarded-For`: alone, or as some proxies write it, with a port or in brackets.
fn address_in(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    hop.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// The `for` of an element of `Forwarded`, if it is an address.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut pairs = Elements { rest: Some(element), separator: b';' };
    let value = pairs.find_map(|pair| {
        let (name, value) = text(pair)?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    address_in(quoted.unwrap_or(value))
}

/// The elements of a value, the last one first. A separator between quotes is none; which quotes belong together is
/// found out from the end as well.
struct Elements<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Elements<'a> {
    fn of(line: &'a [u8]) -> Self {
        Self { rest: Some(line), separator: b',' }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let mut is_quoted = false;
        for (at, byte) in rest.iter().enumerate().rev() {
            let is_escaped = || rest[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
            if *byte == b'"' && !(is_quoted && is_escaped()) {
                is_quoted = !is_quoted;
            } else if *byte == self.separator && !is_quoted {
                self.rest = Some(&rest[..at]);
                return Some(&rest[at + 1..]);
            }
        }
        Some(rest)
    }
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
        seen_in(peer, fields.as_bytes())
    }

    fn seen_in(peer: &str, fields: &[u8]) -> String {
        let mut input = BytesMut::from(&[b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()[..]);
        let Ok(Some(Event::Head(head))) = RequestDecoder::new(Limits::default()).poll(&mut input) else {
            panic!("{}", fields.escape_ascii())
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

    #[test]
    fn what_a_client_writes_before_them_does_not_hide_it() {
        for garbage in [&b"\xff"[..], b"\xff, 10.0.0.1", b",,", b"\"", b"10.0.0.3, \xe9\xe9", b"unknown"] {
            let line = [b"X-Forwarded-For: ", garbage, b", 2.2.2.2\r\n"].concat();
            assert_eq!(seen_in("10.0.0.1", &line), "2.2.2.2", "{}", garbage.escape_ascii());
            let lines = [b"X-Forwarded-For: ", garbage, b"\r\nX-Forwarded-For: 2.2.2.2\r\n"].concat();
            assert_eq!(seen_in("10.0.0.1", &lines), "2.2.2.2", "{}", garbage.escape_ascii());
            let line = [b"Forwarded: for=", garbage, b", for=2.2.2.2;proto=https\r\n"].concat();
            assert_eq!(seen_in("10.0.0.1", &line), "2.2.2.2", "{}", garbage.escape_ascii());
        }
        let many = format!("X-Forwarded-For: {}2.2.2.2\r\n", "10.0.0.7,".repeat(500));
        assert_eq!(seen("10.0.0.1", &many), "2.2.2.2");
    }

    #[test]
    fn forwarded_says_it_where_x_forwarded_for_does_not() {
        let seen = |value: &str| seen("10.0.0.1", &format!("Forwarded: {value}\r\n"));
        assert_eq!(seen("for=2.2.2.2"), "2.2.2.2");
        assert_eq!(seen("proto=https;For=2.2.2.2;by=10.0.0.1"), "2.2.2.2");
        assert_eq!(seen("for=6.6.6.6, for=2.2.2.2, for=10.0.0.9"), "2.2.2.2");
        assert_eq!(seen("for=6.6.6.6, for=\"[2001:db8::1]:4711\""), "2001:db8::1");
        assert_eq!(seen("for=\"2.2.2.2:80\";host=\"a\""), "2.2.2.2");
        assert_eq!(seen("for=6.6.6.6, for=unknown"), "10.0.0.1");
        assert_eq!(seen("for=6.6.6.6, for=_hidden"), "10.0.0.1");
        assert_eq!(seen("for=6.6.6.6, proto=https"), "10.0.0.1");
        assert_eq!(seen("6.6.6.6"), "10.0.0.1");
        // What a client has its proxy quote, or leaves open before it, is no element.
        assert_eq!(seen("for=2.2.2.2;host=\"a,for=6.6.6.6;x=\";proto=http"), "2.2.2.2");
        assert_eq!(seen("for=2.2.2.2;host=\"a;for=6.6.6.6\";proto=http"), "2.2.2.2");
        assert_eq!(seen("for=6.6.6.6;host=\"a, for=2.2.2.2"), "2.2.2.2");
        assert_eq!(seen("for=6.6.6.6;host=\"a\\\", for=2.2.2.2;host=\"b\""), "2.2.2.2");
        let both = "X-Forwarded-For: 2.2.2.2\r\nForwarded: for=6.6.6.6\r\n";
        assert_eq!(super::tests::seen("10.0.0.1", both), "2.2.2.2", "it is the one that proxies write");
        assert_eq!(super::tests::seen("1.1.1.1", "Forwarded: for=6.6.6.6\r\n"), "1.1.1.1", "a stranger's word");
    }
}
