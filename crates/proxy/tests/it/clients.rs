//! Whose request it is: behind a trusted proxy the client that it names, everywhere alike; from anybody else the other end
//! of the connection, whatever it says.

use std::net::SocketAddr;

use crate::harness::*;

const TRUSTED: &str = "trusted_proxy 127.0.0.0/8; trusted_proxy 10.0.0.0/8;";
const DISTRUSTED: &str = "trusted_proxy 10.0.0.0/8;";

/// What a client may claim, and whom a trusted proxy's word makes of it.
const CLAIMS: [(&str, &str); 9] = [
    ("X-Forwarded-For: 203.0.113.9", "203.0.113.9"),
    ("X-Forwarded-For: 192.0.2.1, 203.0.113.9", "203.0.113.9"),
    ("X-Forwarded-For: 192.0.2.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
    ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 203.0.113.9", "203.0.113.9"),
    ("X-Forwarded-For: \u{fffd}\u{7fff}, 203.0.113.9:4711", "203.0.113.9"),
    ("X-Forwarded-For: [2001:db8::9]:443", "2001:db8::9"),
    ("Forwarded: for=192.0.2.1, for=\"[2001:db8::9]\";host=\"a,for=192.0.2.1\"", "2001:db8::9"),
    ("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=192.0.2.1", "203.0.113.9"),
    ("X-Forwarded-For: 203.0.113.9, nobody", "127.0.0.1"),
];

fn ask(front: &Front, path: &str, claim: &str) -> testkit::RawResponse {
    front.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{claim}\r\n\r\n"))
}

#[test]
fn templates_know_the_client_and_the_connection() {
    let host = "host default { redirect 307 /$remote_addr/$realip_remote_addr; }";
    let (trusting, distrusting) = (front(&format!("{TRUSTED} {host}")), front(&format!("{DISTRUSTED} {host}")));
    for (claim, client) in CLAIMS {
        let seen = ask(&trusting, "/", claim);
        assert_eq!(seen.field("location"), Some(format!("/{client}/127.0.0.1").as_str()), "{claim}");
        let seen = ask(&distrusting, "/", claim);
        assert_eq!(seen.field("location"), Some("/127.0.0.1/127.0.0.1"), "{claim}");
    }
}

#[test]
fn rules_by_address_are_about_the_client() {
    let host = "host default { respond 200; location /own { allow 203.0.113.0/24; deny all; respond 200; }
        location /far { deny 127.0.0.0/8; respond 200; } }";
    let (trusting, distrusting) = (front(&format!("{TRUSTED} {host}")), front(&format!("{DISTRUSTED} {host}")));
    for (claim, client) in CLAIMS {
        let expect = if client.starts_with("203.0.113.") { 200 } else { 403 };
        assert_eq!(ask(&trusting, "/own", claim).status, expect, "{claim}");
        assert_eq!(ask(&distrusting, "/own", claim).status, 403, "{claim}");
        let expect = if client == "127.0.0.1" { 403 } else { 200 };
        assert_eq!(ask(&trusting, "/far", claim).status, expect, "{claim}");
        assert_eq!(ask(&distrusting, "/far", claim).status, 403, "{claim}");
    }
}

#[test]
fn rates_are_those_of_the_client() {
    let host = "host default { rate_limit 1/h burst=1; respond 200; }";
    let trusting = front(&format!("{TRUSTED} {host}"));
    let from = |address: &str| ask(&trusting, "/", &format!("X-Forwarded-For: 192.0.2.1, {address}")).status;
    assert_eq!([from("203.0.113.1"), from("203.0.113.2")], [200, 200], "each has its own");
    assert_eq!([from("203.0.113.1"), from("203.0.113.2")], [429, 429]);
    assert_eq!([from("2001:db8::1"), from("2001:db8::2"), from("2001:db8:0:1::1")], [200, 429, 200], "a /64 is one");
    let distrusting = front(&format!("{DISTRUSTED} {host}"));
    let from = |address: &str| ask(&distrusting, "/", &format!("X-Forwarded-For: {address}")).status;
    assert_eq!([from("203.0.113.1"), from("203.0.113.2")], [200, 429], "another name is no other client");
}

#[test]
fn ip_hash_sends_the_client_where_it_was() {
    let upstreams = [named("0"), named("1"), named("2"), named("3")];
    let addresses: Vec<SocketAddr> = upstreams.iter().map(address).collect();
    let host = everything_to(&addresses, "dist_policy ip-hash;");
    let (trusting, distrusting) = (front(&format!("{TRUSTED} {host}")), front(&format!("{DISTRUSTED} {host}")));
    let meets = |front: &Front, client: u8, before: &str| {
        ask(front, "/", &format!("X-Forwarded-For: {before}203.0.113.{client}")).text().to_owned()
    };
    let met: Vec<String> = (0..40).map(|client| meets(&trusting, client, "")).collect();
    assert!((0..4).all(|name| met.contains(&name.to_string())), "{met:?}");
    for (client, upstream) in met.iter().enumerate() {
        assert_eq!(meets(&trusting, client as u8, "192.0.2.77, "), *upstream, "what it says itself changes nothing");
    }
    let first = meets(&distrusting, 0, "");
    assert!((0..40).all(|client| meets(&distrusting, client, "") == first));
}

#[test]
fn the_log_names_the_client() {
    for (trust, is_trusted) in [(TRUSTED, true), (DISTRUSTED, false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = format!("access_log {} format=common;", path.display());
        let front = front(&format!("{trust} {log} host default {{ respond 200; }}"));
        for (claim, _) in CLAIMS {
            ask(&front, "/", claim);
        }
        front.proxy().flush_log();
        let text = std::fs::read_to_string(&path).unwrap();
        let seen: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        let expect: Vec<&str> =
            CLAIMS.iter().map(|(_, client)| if is_trusted { client } else { "127.0.0.1" }).collect();
        assert_eq!(seen, expect);
    }
}
