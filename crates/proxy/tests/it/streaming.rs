//! Content passes as it comes: never held back, never faster than the other side takes it.

use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use engine::{Body, BodyError, Request, Response, Source, StatusCode};
use socket2::SockRef;

use crate::harness::*;

#[test]
fn each_event_arrives_before_the_next_is_made() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            wire.send(format!("{:x}\r\n{event}\r\n", event.len()));
            wait.lock().unwrap().recv_timeout(DEADLINE).unwrap(); // the client has seen it
        }
        wire.send("0\r\n\r\n");
        wire.rest();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    let head = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for number in 0..3 {
        client.read_until(format!("data: {number}\n\n").as_bytes());
        go.send(()).unwrap();
    }
    client.read_until(b"0\r\n\r\n");
}

#[test]
fn an_upload_arrives_while_it_is_still_being_sent() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        for _ in 0..3 {
            let line = wire.exact(3);
            assert_eq!(line, "1\r\n");
            tell.send(wire.exact(3)).unwrap();
        }
        assert_eq!(wire.exact(5), "0\r\n\r\n");
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        wire.rest();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for letter in ["a", "b", "c"] {
        client.send(format!("1\r\n{letter}\r\n"));
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), format!("{letter}\r\n"));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn a_response_may_take_longer_than_any_timeout_of_the_proxy() {
    let upstream = hostile(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(20)); // slowness is what is tested here
            wire.send("x");
        }
        wire.rest();
    });
    let front = front(&everything_to(&[upstream.address()], "response_timeout 50ms;"));
    assert_eq!(front.get("a").text(), "xxxxxxxxxx");
}

/// Far more than all buffers on the way hold together.
const FLOOD_BYTES: usize = 256 * 1024 * 1024;
/// More than kernel and proxy may hold back between two ends.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Sends until the other side has not taken anything for a while, and says how much that was.
fn flood(mut send: impl FnMut(&[u8]) -> std::io::Result<usize>) -> usize {
    let block = vec![b'x'; 64 * 1024];
    let mut total = 0;
    while total < FLOOD_BYTES {
        match send(&block) {
            Ok(count) => total += count,
            Err(_) => break,
        }
    }
    total
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream() {
    use std::io::Write;
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD_BYTES}\r\n\r\n"));
        wire.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut stream = wire.stream();
        tell.send(flood(|block| stream.write(block))).unwrap();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let sent = told.recv_timeout(DEADLINE).unwrap();
    assert!(sent < HELD_BYTES_MAX, "{sent} bytes went out although nobody reads");
    drop(client);
}

#[test]
fn an_upstream_that_does_not_read_stops_the_client() {
    use std::io::Write;
    let (done, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        let _ = wait.lock().unwrap().recv_timeout(DEADLINE);
    });
    let front = front(&everything_to(&[upstream.address()], "body_bytes_max 1g;"));
    let mut client = front.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {FLOOD_BYTES}\r\n\r\n"));
    client.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut stream = client.stream();
    let sent = flood(|block| stream.write(block));
    assert!(sent < HELD_BYTES_MAX, "{sent} bytes went in although nobody reads");
    done.send(()).unwrap();
}

/// Gives a request's content back as it comes.
struct Echo(Body);

impl Source for Echo {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.0.poll_chunk(cx)
    }
}

#[test]
fn long_content_passes_whole_both_ways() {
    let upstream = upstream(|| {
        |mut request: Request| async move {
            request.body.set_limit(u64::MAX);
            Response::new(StatusCode::OK).with_body(Body::from_source(Echo(request.body)))
        }
    });
    let front = front(&everything_to(&[address(&upstream)], "body_bytes_max 1g;"));
    let content: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number % 251).to_le_bytes()).take(9_000_001).collect();
    let mut client = front.connect();
    let mut writer = client.stream().try_clone().unwrap();
    let copy = content.clone();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        write!(writer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", copy.len()).unwrap();
        writer.write_all(&copy).unwrap();
    });
    let response = client.read_response();
    sending.join().unwrap();
    assert_eq!(response.status, 200);
    assert!(response.body == content, "{} of {} bytes", response.body.len(), content.len());
}

#[test]
fn a_client_that_leaves_takes_its_upstream_request_with_it() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        tell.send("asked").unwrap();
        wire.rest();
        tell.send("left").unwrap();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "asked");
    SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "left");
}

#[test]
fn a_reader_of_events_that_leaves_ends_the_upstreams_stream() {
    let left = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&left);
    let upstream = upstream(move || {
        let seen = Arc::clone(&seen);
        move |_: Request| {
            let seen = Arc::clone(&seen);
            async move {
                let (sender, body) = Body::channel();
                tokio::task::spawn_local(async move {
                    while sender.send("data: x\n\n").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    seen.fetch_add(1, SeqCst);
                });
                Response::new(StatusCode::OK).field("content-type", "text/event-stream").with_body(body)
            }
        }
    });
    let front = front_for(&[address(&upstream)]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(b"data: x\n\n");
    client.stream().shutdown(Shutdown::Both).unwrap();
    drop(client);
    eventually("the upstream's stream ends", || left.load(SeqCst) == 1);
}

#[test]
fn a_client_that_only_stops_sending_is_still_answered() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.half_close();
    assert_eq!(client.read_response().status, 200);
    client.expect_close();
}

#[test]
fn a_stop_ends_event_streams_properly() {
    let upstream = hostile(|_, mut wire| {
        wire.head();
        wire.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        wire.send("9\r\ndata: 1\n\n\r\n");
        wire.rest();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(b"data: 1\n\n");
    front.stop.cancel();
    assert_eq!(client.read_to_end(), b"\r\n0\r\n\r\n");
}
