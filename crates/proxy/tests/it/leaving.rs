//! Clients that leave: what their requests hold is free at once where it can be known that they are gone.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use testkit::RawClient;

use crate::harness::*;

/// An upstream that sends this when it has a request, and then what it is told to until that is nothing; it says when it
/// was asked, and when the proxy has closed.
fn telling(begin: &'static str) -> (Hostile, Sender<&'static str>, Receiver<&'static str>) {
    let (tell, told) = channel::<&'static str>();
    let (say, said) = channel();
    let told = Mutex::new(told);
    let upstream = hostile(move |_, mut wire| {
        if wire.try_head().is_none() {
            return;
        }
        wire.send(begin);
        say.send("asked").unwrap();
        while let Ok(more) = told.lock().unwrap().recv() {
            if more.is_empty() {
                break;
            }
            wire.send(more);
        }
        let _ = wire.rest();
        say.send("closed").unwrap();
    });
    (upstream, tell, said)
}

fn fronts(upstream: SocketAddr) -> [Front; 2] {
    let host = format!("host default {{ proxy_pass http://{upstream}; response_timeout 1m; idle_timeout 1m; }}");
    [front(&host), front(&format!("client_requests_max off; {host}"))]
}

fn is_free(front: &Front) -> bool {
    front.counts().upstreams.iter().all(|upstream| upstream.in_flight == 0)
}

/// Closes without the usual end: the other side is told that nobody is there any more.
fn reset(client: RawClient) {
    socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
}

#[test]
fn one_that_resets_while_its_request_waits_frees_the_upstream_at_once() {
    let (upstream, tell, said) = telling("");
    for front in fronts(upstream.address()) {
        let mut client = front.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(said.recv_timeout(DEADLINE), Ok("asked"));
        tell.send("").unwrap();
        assert!(!is_free(&front));
        reset(client);
        eventually("the upstream is free", || is_free(&front));
        assert_eq!(said.recv_timeout(DEADLINE), Ok("closed"), "and does not go on working for nobody");
    }
}

#[test]
fn one_that_is_found_gone_by_a_write_frees_the_upstream_though_that_says_nothing_more() {
    const BEGIN: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    let (upstream, tell, said) = telling(BEGIN);
    for front in fronts(upstream.address()) {
        let mut client = front.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_until(b"data: 1\n\n");
        assert_eq!(said.recv_timeout(DEADLINE), Ok("asked"));
        drop(client); // as a browser does: nothing tells it from one that still reads
        tell.send("data: 2\n\n").unwrap();
        tell.send("").unwrap();
        eventually("the upstream is free", || is_free(&front));
        assert_eq!(said.recv_timeout(DEADLINE), Ok("closed"));
    }
}

#[test]
fn one_that_only_stops_sending_is_answered() {
    let (upstream, tell, said) = telling("");
    for front in fronts(upstream.address()) {
        let mut client = front.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.half_close();
        assert_eq!(said.recv_timeout(DEADLINE), Ok("asked"));
        tell.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        tell.send("").unwrap();
        assert_eq!(client.read_response().text(), "ok");
        assert_eq!(said.recv_timeout(DEADLINE), Ok("closed"));
    }
}
