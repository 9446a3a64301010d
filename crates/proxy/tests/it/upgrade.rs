//! Upgrades (row F17): the protocol changes only when the upstream says so, and no byte is lost.

use std::time::Duration;

use engine::{Request, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

/// An upstream that speaks `shout/1`: it sends back every byte in upper case, and ends when told.
fn shouting() -> Running {
    upstream(|| {
        |request: Request| async move {
            request.upgrade("shout/1", |mut stream| async move {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    buffer[..count].make_ascii_uppercase();
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"(end)").await;
                let _ = stream.shutdown().await;
            })
        }
    })
}

const UPGRADE: &str = "GET /shout HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\n\r\n";

#[test]
fn f17_bytes_flow_both_ways_after_the_upstreams_101() {
    let upstream = shouting();
    let front = front_for(&[address(&upstream)]);
    let mut client = front.connect();
    client.send(UPGRADE);
    let response = client.read_response();
    assert_eq!(response.status, 101);
    assert_eq!(response.field("upgrade"), Some("shout/1"));
    assert_eq!(response.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(response.field("content-length"), None);
    for round in 0..3 {
        client.send("hello");
        assert_eq!(client.read_exact(5), b"HELLO", "round {round}");
    }
    assert_eq!((front.counts().tunnels, front.counts().tunnels_open), (1, 1));
    client.half_close();
    assert_eq!(client.read_to_end(), b"(end)");
    eventually("the tunnel is closed", || front.counts().tunnels_open == 0);
}

#[test]
fn f17_bytes_sent_before_the_101_are_kept() {
    let upstream = shouting();
    let front = front_for(&[address(&upstream)]);
    let mut client = front.connect();
    client.send(format!("{UPGRADE}early"));
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.read_exact(5), b"EARLY");
}

#[test]
fn f17_bytes_sent_with_the_upstreams_101_are_kept() {
    let upstream = hostile(|_, mut wire| {
        let head = wire.head();
        assert!(head.to_ascii_lowercase().contains("\r\nupgrade: x, y\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\nconnection: upgrade\r\n"), "{head}");
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: y\r\nX-More: 1\r\n\r\nfirst");
        assert_eq!(wire.exact(6), "second");
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x, h2c, y\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.field("upgrade"), response.field("x-more")), (Some("y"), Some("1")));
    assert_eq!(client.read_exact(5), b"first");
    client.send("second");
    client.expect_close();
}

#[test]
fn f17_an_upstream_that_does_not_switch_gets_no_other_protocol() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let mut client = front.connect();
    // What follows looks like a request and is one: no protocol was switched.
    client.send(format!("{UPGRADE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    let first = client.read_response();
    assert_eq!(first.status, 200);
    assert!(first.text().starts_with("GET /shout\n"), "{}", first.text());
    assert!(client.read_response().text().starts_with("GET /next\n"));
    assert_eq!(front.counts().tunnels, 0);
}

#[test]
fn f17_offers_that_do_not_count_are_not_passed_on() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: shout/1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout/1\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let response = front.ask(request);
        assert_eq!(response.status, 200, "{request}");
        assert!(!response.text().contains("upgrade") && !response.text().contains("http2"), "{}", response.text());
    }
    let mut old = front.connect();
    old.send("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: shout/1\r\n\r\n");
    let text = String::from_utf8(old.read_to_end()).unwrap();
    assert!(text.contains("\r\n\r\nGET /\n") && !text.contains("shout"), "{text}");
}

#[test]
fn f17_a_101_that_nobody_asked_for_is_502() {
    let upstream = answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false);
    let front = front_for(&[upstream.address()]);
    assert_eq!(front.get("a").status, 502);
}

#[test]
fn a_protocol_the_upstream_wants_is_named() {
    let upstream = shouting();
    let front = front_for(&[address(&upstream)]);
    let response = front.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status, response.field("upgrade")), (426, Some("shout/1")));
}

#[test]
fn an_upgrade_goes_to_another_upstream_when_the_first_is_dead() {
    let upstream = shouting();
    let front = front_for(&[dead_address(), address(&upstream)]);
    let mut client = front.connect();
    client.send(UPGRADE);
    assert_eq!(client.read_response().status, 101);
    let nowhere = front_for(&[dead_address()]);
    assert_eq!(nowhere.ask(UPGRADE).status, 503);
}

#[test]
fn either_side_that_leaves_ends_the_tunnel() {
    let upstream = hostile(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout/1\r\n\r\nbye");
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send(UPGRADE);
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.read_to_end(), b"bye");
    drop(client);
    eventually("the tunnel is closed", || front.counts().tunnels_open == 0);
}

#[test]
fn a_stop_ends_tunnels() {
    let upstream = shouting();
    let front = front_for(&[address(&upstream)]);
    let mut client = front.connect().with_deadline(Duration::from_secs(4));
    client.send(UPGRADE);
    assert_eq!(client.read_response().status, 101);
    front.stop.cancel();
    client.read_to_end(); // within its deadline, which is shorter than the grace
}
