//! `client_requests_max`: one client cannot take all there is, however it asks, and has its share back when an answer ends.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use engine::{Request, Response, StatusCode};
use testkit::{RawClient, RawResponse};

use crate::harness::*;

/// What trusted proxies say; connections come from loopback, which alone is not bounded.
fn as_client(front: &Front, address: &str, more: &str) -> RawClient {
    let mut client = front.connect();
    client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n{more}\r\n"));
    client
}

fn status(front: &Front, address: &str) -> u16 {
    as_client(front, address, "").read_response().status
}

/// An upstream that begins event streams and ends one for each word it hears, all when it can hear none any more; counts
/// those it has begun.
fn streaming(begun: Arc<AtomicUsize>) -> (Hostile, Sender<()>) {
    let (end, ended) = channel();
    let ended = Mutex::new(ended);
    let upstream = hostile(move |_, mut wire| {
        if wire.try_head().is_none() {
            return;
        }
        begun.fetch_add(1, SeqCst);
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        let _ = ended.lock().unwrap().recv(); // the others wait for their turn at the lock
    });
    (upstream, end)
}

fn bounded(upstream: std::net::SocketAddr, max: &str) -> Front {
    let hosts = format!("host default {{ proxy_pass http://{upstream}; location = /free {{ respond 200 free; }} }}");
    front(&format!("trusted_proxy 127.0.0.1; trusted_proxy ::1; client_requests_max {max};\n{hosts}"))
}

fn free(front: &Front, address: &str) -> RawResponse {
    front.ask(&format!("GET /free HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n"))
}

#[test]
fn a_client_has_so_many_answers_at_a_time_and_others_have_theirs() {
    let begun = Arc::new(AtomicUsize::new(0));
    let (upstream, end) = streaming(Arc::clone(&begun));
    let front = bounded(upstream.address(), "2");
    let mut streams: Vec<RawClient> = Vec::new();
    for _ in 0..2 {
        let mut client = as_client(&front, "198.51.100.7", "");
        client.read_until(b"data: 1\n\n");
        streams.push(client);
    }
    let refused = free(&front, "198.51.100.7");
    assert_eq!((refused.status, refused.field("retry-after")), (429, Some("1")), "{refused:?}");
    assert_eq!(status(&front, "198.51.100.7"), 429);
    assert_eq!(begun.load(SeqCst), 2, "what is refused reaches no upstream");
    assert_eq!(free(&front, "198.51.100.8").status, 200, "another client has its own");
    end.send(()).unwrap();
    eventually("an event stream that has ended makes room", || free(&front, "198.51.100.7").status == 200);
    drop((streams, end));
}

#[test]
fn a_network_of_ipv6_is_one_client_and_upgraded_connections_count() {
    let upstream = upstream(|| {
        |request: Request| async move {
            request.upgrade("shout/1", |mut stream| async move {
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 16]).await;
            })
        }
    });
    let front = bounded(address(&upstream), "1");
    let upgrade = "Connection: Upgrade\r\nUpgrade: shout/1\r\n";
    let mut tunnel = as_client(&front, "2001:db8::1", upgrade);
    assert_eq!(tunnel.read_response().status, 101);
    assert_eq!(free(&front, "2001:db8::2").status, 429, "the same /64");
    assert_eq!(free(&front, "2001:db8:0:1::1").status, 200);
    drop(tunnel);
    eventually("a tunnel that has ended makes room", || free(&front, "2001:db8::2").status == 200);
}

#[test]
fn it_may_be_lifted_and_has_a_default_and_loopback_is_free() {
    let begun = Arc::new(AtomicUsize::new(0));
    let (upstream, end) = streaming(Arc::clone(&begun));
    let lifted = bounded(upstream.address(), "off");
    let config =
        |more: &str| proxy::Config::parse("p.conf", &format!("host default {{ respond 200; }} {more}")).unwrap();
    assert_eq!(config("").client_requests_max, Some(512));
    assert_eq!(config("client_requests_max off;").client_requests_max, None);
    let bounded = bounded(upstream.address(), "1");
    // Nobody is announced: these are from this machine.
    let local = |front: &Front| {
        let mut client = front.connect();
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_until(b"data: 1\n\n");
        client
    };
    let open: Vec<RawClient> = (0..3).map(|_| local(&bounded)).collect();
    let theirs: Vec<RawClient> = (0..3)
        .map(|_| {
            let mut client = as_client(&lifted, "198.51.100.7", "");
            client.read_until(b"data: 1\n\n");
            client
        })
        .collect();
    assert_eq!(begun.load(SeqCst), 6);
    drop((open, theirs, end));
}

#[test]
fn whoever_is_answered_at_once_is_never_refused() {
    let upstream = upstream(|| |_: Request| async { Response::text(StatusCode::OK, "in") });
    let front = bounded(address(&upstream), "1");
    let mut client = front.connect();
    for round in 0..200 {
        client.send("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n");
        assert_eq!(client.read_response().status, 200, "{round}");
    }
}
