//! Large answers, which the system moves from socket to socket by itself: counted, logged, cut and reloaded like others.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use engine::{Request, Response, StatusCode};
use proxy::{Config, RouteCounts, State};
use testkit::RawClient;

use crate::harness::*;

/// Long enough to be moved by the system.
const LEN: usize = 3 * 1024 * 1024 + 5;
/// More than all buffers on the way hold together.
const FLOOD: usize = 48 * 1024 * 1024;

/// The content of that length.
fn content(len: usize) -> Vec<u8> {
    testkit::noise(0x9e37_79b9_7f4a_7c15, len)
}

fn head_of(len: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len}\r\n\r\n")
}

/// An upstream that begins to send `FLOOD` bytes, goes on when it is told to, and says how it ended.
fn flooding() -> (Hostile, mpsc::Receiver<bool>) {
    let (tell, told) = mpsc::channel();
    let bytes = content(FLOOD);
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        wire.send(head_of(FLOOD));
        let is_sent = wire.try_send(&bytes).is_ok();
        let _ = tell.send(is_sent); // not every test asks
    });
    (upstream, told)
}

fn begin(front: &Front) -> RawClient {
    let mut client = front.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_until(b"\r\n\r\n");
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
    client
}

fn counts(front: &Front) -> RouteCounts {
    front.proxy().status().routes.into_iter().find(|route| route.name == "default").unwrap()
}

#[test]
fn what_is_sent_is_counted_and_logged_also_when_it_breaks_off() {
    let bytes = Arc::new(content(LEN));
    let sent = bytes.clone();
    let upstream = hostile(move |_, mut wire| {
        while let Some(head) = wire.try_head() {
            wire.send(head_of(LEN));
            if head.contains("/cut") {
                wire.send(&sent[..LEN - 7]);
                return;
            }
            wire.send(&sent[..]);
        }
    });
    let log = tempfile::NamedTempFile::new().unwrap();
    let log_line = format!("access_log {} format=json;", log.path().display());
    let front = front(&format!("{log_line} {}", everything_to(&[upstream.address()], "")));
    let mut client = front.connect();
    for _ in 0..2 {
        client.send("GET /whole HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.read_response().body == *bytes);
    }
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(b"\r\n\r\n");
    assert!(client.read_to_end() == bytes[..LEN - 7]);
    eventually("all are over", || counts(&front).requests() == 3);
    let route = counts(&front);
    assert_eq!(route.bytes_out, (3 * LEN - 7) as u64);
    assert_eq!((route.broken_off, front.counts().broken_off), (1, 1));
    let server = front.proxy().status().servers.remove(0);
    assert_eq!(server.counts.opened, 1, "both connections went on");
    front.proxy().flush_log();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let logged: Vec<usize> = text
        .lines()
        .map(|line| {
            let after = line.split_once("\"bytes_out\":").unwrap_or_else(|| panic!("{line}")).1;
            after[..after.find([',', '}']).unwrap()].trim().parse().unwrap()
        })
        .collect();
    assert_eq!(logged, [LEN, LEN, LEN - 7]);
}

#[test]
fn a_server_that_is_disabled_is_cut_in_the_middle() {
    let bytes = Arc::new(content(LEN));
    let sent = bytes.clone();
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        wire.send(head_of(LEN));
        wire.send(&sent[..LEN - 1]);
        assert_eq!(wire.rest(), "", "the proxy closes");
    });
    let address = upstream.address();
    let front = front(&format!("upstream u {{ server {address}; }} host default {{ proxy_pass http://u; }}"));
    let mut client = begin(&front);
    assert!(client.read_exact(LEN - 1) == bytes[..LEN - 1]);
    front.proxy().order("u", address, State::Disabled).unwrap();
    client.expect_close();
    assert_eq!(front.counts().broken_off, 0, "it was us");
}

#[test]
fn a_reload_and_a_stop_let_it_arrive() {
    let (upstream, told) = flooding();
    let other = named("other");
    let front = front_for(&[upstream.address()]);
    let mut client = begin(&front).with_deadline(2 * DEADLINE);
    let config = Config::parse("test", &everything_to(&[address(&other)], "")).unwrap();
    front.proxy().reload(&config).unwrap();
    assert_eq!(front.get("a").text(), "other");
    front.stop.cancel();
    assert!(client.read_exact(FLOOD) == content(FLOOD));
    client.expect_close();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(true));
}

#[test]
fn a_client_that_leaves_frees_the_upstream() {
    let (upstream, told) = flooding();
    let front = front_for(&[upstream.address()]);
    drop(begin(&front));
    assert_eq!(told.recv_timeout(DEADLINE), Ok(false), "nobody takes the rest");
    eventually("it is over", || counts(&front).requests() == 1);
    assert!(counts(&front).bytes_out < FLOOD as u64);
}

#[test]
fn what_is_looked_at_is_not_moved() {
    let bytes = vec![b'a'; LEN];
    let upstream = upstream(move || {
        let bytes = bytes.clone();
        move |_: Request| {
            let response = Response::text(StatusCode::OK, String::from_utf8(bytes.clone()).unwrap());
            std::future::ready(response)
        }
    });
    let at = address(&upstream);
    let front = front(&format!(
        "host default {{ compression on; proxy_pass http://{at};
            location /ahead {{ compression off; proxy_buffering on; }} }}"
    ));
    let small = front.ask("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(small.field("content-encoding"), Some("gzip"));
    assert!(small.body.len() < LEN / 100);
    let ahead = front.ask("GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(ahead.body == vec![b'a'; LEN]);
}

#[test]
fn it_goes_both_ways_at_once() {
    let upstream = upstream(|| {
        |mut request: Request| async move {
            request.body.set_limit(u64::MAX);
            Response::new(StatusCode::OK).with_body(request.body)
        }
    });
    let front = front(&everything_to(&[address(&upstream)], "body_bytes_max 64m;"));
    let bytes = content(LEN);
    assert!(echoed(front.address(), &bytes) == bytes);
}

fn echoed(front: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut writing = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let head =
                format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len());
            writing.write_all(head.as_bytes()).unwrap();
            writing.write_all(bytes).unwrap();
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let start = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        all.split_off(start)
    })
}
