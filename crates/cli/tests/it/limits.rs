//! `--limit`: what an operator asks for holds in every server.

use crate::support::process::Weaprous;
use std::net::SocketAddr;
use testkit::RawClient;

const LIMITS: [&str; 4] = ["--limit", "fields=20", "--limit", "head-timeout=300ms"];

/// Starts a server with lower limits, and sends it one field too many, and a head that does not end.
fn check(label: &str, arguments: &[&str]) {
    let mut process = Weaprous::start(arguments.iter().chain(&LIMITS));
    let address: SocketAddr = process.address(label);
    let ask = |bytes: &str| {
        let mut client = RawClient::connect(address);
        client.send(bytes);
        client.read_response().status
    };
    let with = |count: usize| format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: 1\r\n".repeat(count - 1));
    // The proxy of `up` adds some of its own.
    assert_ne!(ask(&with(10)), 431, "{label}: ten fields");
    assert_eq!(ask(&with(21)), 431, "{label}: one too many");
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: loc"), 408, "{label}: a head that does not end");
}

#[test]
fn they_hold_in_every_server() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("proxy.conf"));
    std::fs::write(&config, "host default { respond 200 here; }\n").unwrap();
    let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
    let ports = ["--tls-port", "0", "--backend-port", "0", "--tracker-port", "0"];
    check("page", &[&["up", "--data-dir", data, "--proxy-port", "0"][..], &ports].concat());
    check("backend", &["backend", "--data-dir", data, "--server-port", "0"]);
    check("tracker", &["tracker", "--data-dir", data, "--server-port", "0"]);
    check("proxy", &["proxy", "--config", config, "--server-port", "0"]);
    check("here", &["serve", folder.path().to_str().unwrap(), "--server-ip", "127.0.0.1", "--port", "0"]);
}

#[test]
fn what_makes_no_sense_is_said_and_the_help_lists_them() {
    let (status, text) = Weaprous::start(["serve", "--limit", "head-timeout=soon"].iter()).end();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("such as 500ms, 10s or 2m"), "{text}");
    let (_, help) = Weaprous::start(["serve", "--help"].iter()).end();
    assert!(help.contains("head-timeout=10s: ") && help.contains("connections-per-address=256: "), "{help}");
}
