//! Upstreams that are dead, stale, slow or leave in the middle, and what clients notice of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use engine::{Request, Response, StatusCode};
use socket2::SockRef;

use crate::harness::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn one_of_two_killed_is_noticed_by_nobody() {
    let alive = named("alive");
    let mut doomed = Some(named("doomed"));
    let front = front_for(&[address(&alive), address(doomed.as_ref().unwrap())]);
    let mut client = front.connect();
    let ask = |client: &mut testkit::RawClient| {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_response()
    };
    for round in 0..40 {
        if round == 10 {
            doomed.take();
        }
        assert_eq!(ask(&mut client).status, 200, "round {round}");
        let other = front.get("a");
        assert_eq!(other.status, 200, "round {round}");
        assert!(round < 10 || other.text() == "alive");
    }
    let counts = front.counts();
    assert!(counts.retries > 0, "{counts:?}");
    assert_eq!((counts.bad_gateway, counts.unavailable), (0, 0));
    let states: Vec<bool> = counts.upstreams.iter().map(|upstream| upstream.up).collect();
    assert_eq!(states, [true, false]);
    assert!(counts.upstreams[1].requests < 20, "a dead upstream is left alone: {counts:?}");
}

#[test]
fn a_post_that_never_reached_an_upstream_goes_to_another() {
    let mirror = mirror();
    let front = front_for(&[dead_address(), address(&mirror)]);
    let response = front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(response.text().ends_with("\n\nhello"), "{}", response.text());

    // The same with content of unknown length, which is streamed.
    let front = front_for(&[dead_address(), address(&mirror)]);
    let response = front.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert!(response.text().ends_with("\n\nhello"), "{}", response.text());
    assert_eq!(front.counts().retries, 1);
}

#[test]
fn no_upstream_left_is_503_and_says_of_which_place() {
    let (first, second) = (dead_address(), dead_address());
    let front =
        front(&format!("host a {{ location /x/ {{ proxy_pass http://{first}; proxy_pass http://{second}; }} }}"));
    let response = front.ask("GET /x/y HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status, 503);
    assert_eq!(response.field("retry-after"), Some("1"));
    let text = response.text();
    let expect = "The upstream of a/x/ refused the connection, and none of the others can be reached either.";
    assert!(text.contains(expect), "{text}");
    let html = front.ask("GET /x/y HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    assert!(html.text().contains("<h1>503 Service Unavailable</h1>"), "{}", html.text());
    assert_eq!(front.counts().unavailable, 2);
}

#[test]
fn an_upstream_that_comes_back_is_found() {
    let doomed = named("first");
    let place = address(&doomed);
    let alive = named("alive");
    let front = front_for(&[place, address(&alive)]);
    drop(doomed);
    for _ in 0..4 {
        assert_eq!(front.get("a").text(), "alive");
    }
    assert!(!front.counts().upstreams[0].up);
    let _back = upstream_at(place, || |_: Request| async { Response::text(StatusCode::OK, "back") });
    eventually("the upstream that is back gets requests", || front.get("a").text() == "back");
    assert!(front.counts().upstreams[0].up);
}

#[test]
fn the_only_upstream_is_tried_even_if_it_was_down() {
    let doomed = named("first");
    let place = address(&doomed);
    let front = front_for(&[place]);
    drop(doomed);
    assert_eq!(front.get("a").status, 503);
    let _back = upstream_at(place, || |_: Request| async { Response::text(StatusCode::OK, "back") });
    assert_eq!(front.get("a").text(), "back");
}

/// An upstream whose connections answer `answers` requests and then do `at_the_end`.
fn tired(answers: usize, at_the_end: fn(&mut Wire)) -> (Hostile, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let upstream = hostile(move |_, mut wire| {
        counted.fetch_add(1, SeqCst);
        for _ in 0..answers {
            if wire.try_head().is_none() {
                return;
            }
            wire.send(OK);
        }
        at_the_end(&mut wire);
    });
    (upstream, connections)
}

/// Closes with a reset instead of an end.
fn reset(wire: &mut Wire) {
    SockRef::from(wire.stream()).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_is_never_an_error() {
    for at_the_end in [(|_| {}) as fn(&mut Wire), reset] {
        let (upstream, connections) = tired(1, at_the_end);
        let front = front_for(&[upstream.address()]);
        let mut client = front.connect();
        for round in 0..20 {
            let method = if round % 2 == 0 { "GET" } else { "DELETE" };
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
            assert_eq!(client.read_response().status, 200, "round {round}");
        }
        assert!(connections.load(SeqCst) >= 20);
        let counts = front.counts();
        assert_eq!((counts.retries, counts.bad_gateway), (0, 0), "the pool replaces it by itself");
    }
}

#[test]
fn a_kept_connection_that_closes_on_the_next_request_is_replaced() {
    // The second request on a connection is read and never answered: to the proxy a connection that was
    // closed just as it was used again.
    for at_the_end in [(|wire: &mut Wire| drop(wire.try_head())) as fn(&mut Wire), |wire| {
        drop(wire.try_head());
        reset(wire);
    }] {
        let (upstream, _) = tired(1, at_the_end);
        let front = front_for(&[upstream.address()]);
        let mut client = front.connect();
        for round in 0..10 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read_response().status, 200, "round {round}");
        }
    }
}

#[test]
fn an_upstream_that_hangs_up_unanswered_costs_a_get_nothing_and_a_post_502() {
    let (bad, connections) = tired(0, |wire| drop(wire.try_head()));
    let good = named("good");
    let front = front_for(&[bad.address(), address(&good)]);
    for _ in 0..2 {
        assert_eq!(front.get("a").text(), "good");
    }
    let mut statuses: Vec<u16> =
        (0..2).map(|_| front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502], "a POST may have been acted upon and is not sent again");
    assert!(connections.load(SeqCst) > 0);

    let alone = front_for(&[bad.address()]);
    let response = alone.get("a");
    assert_eq!(response.status, 502);
    assert!(
        response.text().contains("The upstream of default closed the connection before it answered."),
        "{}",
        response.text()
    );
}

#[test]
fn a_slow_upstream_is_504_and_is_not_asked_twice() {
    let silent = hostile(|_, mut wire| {
        wire.head();
        wire.rest();
    });
    let other = named("other");
    let config = everything_to(&[silent.address(), address(&other)], "response_timeout 50ms;");
    let front = front(&config);
    let response = front.get("a");
    assert_eq!(response.status, 504);
    assert!(response.text().contains("The upstream of default did not answer in time."), "{}", response.text());
    let counts = front.counts();
    assert_eq!((counts.timed_out, counts.retries), (1, 0));
}

#[test]
fn with_a_try_timeout_another_upstream_stands_in_for_a_stalled_one() {
    let silent = hostile(|_, mut wire| while wire.try_head().is_some() {});
    let other = named("other");
    let config = everything_to(&[silent.address(), address(&other)], "try_timeout 50ms;");
    let front = front(&config);
    for _ in 0..8 {
        assert_eq!(front.get("a").text(), "other");
    }
    assert!(!front.counts().upstreams[0].up, "three failures in a row are a state");
    assert!((3..8).contains(&front.counts().retries), "{:?}", front.counts());
    // What must not be sent twice is waited for, and so is the only one there is.
    let alone = crate::harness::front(&everything_to(&[silent.address()], "try_timeout 50ms; response_timeout 300ms;"));
    let begun = std::time::Instant::now();
    assert_eq!(alone.get("a").status, 504);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let config = everything_to(&[silent.address(), address(&other)], "try_timeout 50ms; response_timeout 300ms;");
    let posting = crate::harness::front(&config);
    let response = posting.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!((response.status, posting.counts().retries), (504, 0));
}

#[test]
fn an_upstream_that_hangs_up_on_everything_is_not_asked_for_everything_many_times() {
    let bad: Vec<_> = (0..4).map(|_| tired(0, |wire| drop(wire.try_head()))).collect();
    let addresses: Vec<SocketAddr> = bad.iter().map(|(upstream, _)| upstream.address()).collect();
    let front = front(&everything_to(&addresses, "retries 3;"));
    for _ in 0..200 {
        assert_eq!(front.get("a").status, 502);
    }
    let counts = front.counts();
    // A burst of 256, a fifth of 200, ten per second of the seconds this took: far below three for each.
    assert!((256..450).contains(&counts.retries), "{counts:?}");
}

#[test]
fn a_post_gets_no_connection_that_the_upstream_may_be_closing() {
    // The upstream closes kept connections when it has heard the next request: the worst moment. A connection that
    // has been unused for a while is not tried for what must not be sent twice.
    let (upstream, connections) = tired(1, |wire| drop(wire.try_head()));
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    for round in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.read_response().status, 200, "round {round}");
        std::thread::sleep(Duration::from_millis(1100)); // being unused for so long is what is tested here
    }
    assert_eq!(connections.load(SeqCst), 3);
}

/// What a client sees when the upstream sends `bytes` and leaves.
fn broken_off(bytes: &'static str, request: &str, leave: fn(&mut Wire)) -> Vec<u8> {
    let upstream = hostile(move |_, mut wire| {
        if wire.try_head().is_some() {
            wire.send(bytes);
            leave(&mut wire);
        }
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send(request);
    let seen = client.read_to_end();
    assert_eq!(front.counts().broken_off, 1);
    seen
}

#[test]
fn a_response_that_breaks_off_never_looks_complete() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for leave in [(|_| {}) as fn(&mut Wire), reset] {
        let seen = broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", request, leave);
        let text = String::from_utf8_lossy(&seen);
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
        let seen = broken_off("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", request, leave);
        let text = String::from_utf8_lossy(&seen);
        assert!(!text.contains("\r\n\r\n") || (text.contains("ength: 10\r\n") && !text.contains("hello.")), "{text}");
        let content = text.split_once("\r\n\r\n").map_or(0, |(_, content)| content.len());
        assert!(content < 10, "{text}");
    }
}

#[test]
fn a_broken_chunk_in_a_response_never_looks_complete() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let seen = broken_off(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n0\r\n\r\n",
        request,
        |wire| drop(wire.rest()),
    );
    let text = String::from_utf8_lossy(&seen);
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
}

#[test]
fn an_old_client_sees_a_reset_where_an_end_would_lie() {
    use std::io::{Read, Write};
    let upstream = hostile(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let front = front_for(&[upstream.address()]);
    let mut client = std::net::TcpStream::connect(front.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    let end = client.read_to_end(&mut seen).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn content_too_long_for_a_location_is_413() {
    let mirror = mirror();
    let config = format!(
        "host default {{ proxy_pass http://{0}; body_bytes_max 10; location /big {{ proxy_pass http://{0}; body_bytes_max 8m; }} }}",
        address(&mirror)
    );
    let front = front(&config);
    let post = |path: &str, length: usize| {
        front
            .ask(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length)))
            .status
    };
    assert_eq!(post("/", 10), 200);
    assert_eq!(post("/", 11), 413);
    assert_eq!(post("/big", 900_000), 200);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    assert_eq!(front.ask(chunked).status, 413);
    assert!(front.counts().upstreams[0].up, "that was not the upstream's fault");
}

#[test]
fn an_address_that_is_not_there_is_not_waited_for_long() {
    // Nobody accepts on this socket and its queue is full, so that further connections hang.
    let (full, _held) = full_listener();
    let good = named("good");
    let front = front(&everything_to(&[full, address(&good)], "connect_timeout 100ms;"));
    for _ in 0..4 {
        assert_eq!(front.get("a").text(), "good");
    }
    assert!(!front.counts().upstreams[0].up);
    let alone = crate::harness::front(&everything_to(&[full], "connect_timeout 100ms;"));
    let response = alone.get("a");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("did not accept a connection in time"), "{}", response.text());
}

/// A listener whose queue of connections is full, and what fills it.
fn full_listener() -> (SocketAddr, (socket2::Socket, Vec<socket2::Socket>)) {
    use socket2::{Domain, SockAddr, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address); // under way, or in the queue
            socket
        })
        .collect();
    (address.as_socket().unwrap(), (listener, waiting))
}
