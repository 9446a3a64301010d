//! What of requests and answers the front sends and receives by itself, and what it leaves to a task.

use crate::passing::{LARGE, OK, held_up_counted, known_client, passing_to, warm, warm_up};
use crate::support::{answer_once, block_on, connect, get, read_head, scripted, settings};
use engine::{Body, Client, ClientSettings, Fields, Method, OutgoingRequest, Running, Settings};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;
use testkit::RawClient;

const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Closes a connection so that the other side sees a failure.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Returns when the server has handled what came before.
fn round_trip(client: &mut RawClient) {
    client.send(get("/here"));
    assert_eq!(client.read_response().text(), "here");
}

/// A server with a kept connection to an upstream that answers everything.
fn passing_to_ok(settings: Settings) -> (Running, std::sync::Arc<crate::passing::Ways>) {
    let (addr, _) = scripted(|listener| {
        loop {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut received = [0; 1024];
            while stream.read(&mut received).is_ok_and(|count| count > 0) {
                stream.write_all(OK).unwrap();
            }
        }
    });
    let (server, ways) = passing_to(addr, settings);
    warm_up(&server);
    (server, ways)
}

#[test]
fn a_client_that_asks_for_the_end_gets_it() {
    let (server, ways) = passing_to_ok(settings());
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.text(), response.field("connection")), ("ok", Some("close")));
    client.expect_close();
    assert_eq!(ways.counts().0, 0);
}

#[test]
fn an_old_client_is_told_that_its_connection_is_kept() {
    let (server, ways) = passing_to_ok(settings());
    let mut client = connect(&server);
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.text(), response.field("connection")), ("ok", Some("keep-alive")));
    assert_eq!(ways.counts().0, 0);
}

#[test]
fn the_last_request_that_a_connection_may_send_is_answered_as_such() {
    let (server, ways) = passing_to_ok(Settings { requests_per_connection_max: 1, ..settings() });
    let mut client = connect(&server);
    client.send(get("/"));
    let response = client.read_response();
    assert_eq!((response.text(), response.field("connection")), ("ok", Some("close")));
    client.expect_close();
    assert_eq!(ways.counts().0, 0);
}

/// Content that comes behind its head, which the server has looked at by then, is no request.
#[test]
fn a_request_with_content_is_not_passed_on() {
    let (addr, upstream) = warm(|mut stream, _| {
        for _ in 0..2 {
            read_head(&mut stream);
            stream.write_all(OK).unwrap();
        }
    });
    let (server, ..) = held_up_counted(addr);
    let (mut client, mut other) = (known_client(&server), known_client(&server));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n");
    round_trip(&mut other);
    client.send("ok".to_owned() + &get("/"));
    for _ in 0..2 {
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "ok"));
    }
    upstream.join().unwrap();
}

/// The end of a client that comes together with its request is told once.
#[test]
fn a_client_that_ends_with_its_request_is_answered_and_let_go() {
    let (addr, upstream) = warm(|mut stream, _| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
    });
    let (server, ways, is_held_up, go) = held_up_counted(addr);
    let (mut client, mut other) = (known_client(&server), known_client(&server));
    other.send(get("/hold-up"));
    is_held_up.recv().unwrap();
    client.send(get("/"));
    client.half_close();
    go.send(()).unwrap();
    assert_eq!(client.read_response().text(), "ok");
    client.expect_close();
    assert_eq!(ways.counts().0, 0);
    upstream.join().unwrap();
}

#[test]
fn a_request_that_meets_the_stop_is_answered_as_the_last_one() {
    let (addr, upstream) = warm(|mut stream, _| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
    });
    let (server, _, is_held_up, go) = held_up_counted(addr);
    let (mut client, mut other) = (known_client(&server), known_client(&server));
    other.send(get("/hold-up"));
    is_held_up.recv().unwrap();
    client.send(get("/"));
    server.stop();
    go.send(()).unwrap();
    let response = client.read_response();
    assert_eq!(response.text(), "ok");
    client.expect_close();
    upstream.join().unwrap();
}

#[test]
fn a_connection_rests_after_an_answer_as_long_as_any() {
    let (server, ways) = passing_to_ok(Settings {
        head_timeout: Duration::from_hours(1),
        keep_alive_timeout: Duration::from_millis(300),
        ..settings()
    });
    let mut client = connect(&server);
    client.send(get("/"));
    assert_eq!(client.read_response().text(), "ok");
    assert_eq!(ways.counts().0, 1);
    client.expect_close();
}

/// What the upstream does not take at once is sent by a task, where the front has stopped.
#[test]
fn a_request_that_is_sent_in_parts_arrives_whole() {
    let (go, goes) = channel::<()>();
    let (addr, upstream) = warm(move |mut stream, _| {
        goes.recv().unwrap();
        let head = read_head(&mut std::io::BufReader::new(stream.try_clone().unwrap()));
        assert_eq!(head.bytes().filter(|byte| *byte == b'x').count(), LARGE + 1);
        stream.write_all(OK).unwrap();
    });
    let (server, ways) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/large"));
    while ways.counts().1 < 2 {
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    assert_eq!(client.read_response().text(), "ok");
    upstream.join().unwrap();
}

#[test]
fn a_post_of_which_something_was_sent_is_not_repeated() {
    let (addr, upstream) = warm(|mut stream, listener| {
        read_head(&mut stream);
        drop(stream);
        drop(answer_once(listener, OK)); // for the next one
    });
    let (server, _) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(POST);
    assert_eq!(client.read_response().status, 502);
    warm_up(&server);
    upstream.join().unwrap();
}

#[test]
fn a_post_of_which_nothing_was_sent_is_repeated() {
    let (end, ends) = channel();
    let (ended, has_ended) = channel();
    let (addr, upstream) = warm(move |stream, listener| {
        ends.recv().unwrap();
        reset(stream);
        ended.send(()).unwrap();
        drop(answer_once(listener, OK));
    });
    let (server, _, is_held_up, go) = held_up_counted(addr);
    let (mut client, mut first, mut second) = (known_client(&server), known_client(&server), known_client(&server));
    first.send(get("/hold-up"));
    is_held_up.recv().unwrap();
    client.send(POST);
    second.send(get("/hold-up"));
    go.send(()).unwrap();
    is_held_up.recv().unwrap(); // the request is in the outbox
    end.send(()).unwrap();
    has_ended.recv().unwrap();
    go.send(()).unwrap();
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (200, "ok"));
    upstream.join().unwrap();
}

/// How an upstream goes away behind these bytes of an answer.
#[derive(Debug, Clone, Copy)]
enum End {
    Stays,
    Closes,
    Resets,
}

/// Whatever is not to be told again is the task's at once: the front would wait for nothing.
#[test]
fn the_front_does_not_wait_for_what_never_comes() {
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n{}", "x".repeat(40_000));
    for (part, end) in [
        ("", End::Closes),
        ("", End::Resets),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", End::Closes),
        (&long, End::Stays),
    ] {
        let part = part.to_owned();
        let ((asked, is_asked), (speak, speaks), (spoke, spoken)) = (channel(), channel::<()>(), channel());
        let (addr, upstream) = warm(move |mut stream, listener| {
            read_head(&mut stream);
            asked.send(()).unwrap();
            speaks.recv().unwrap();
            stream.write_all(part.as_bytes()).unwrap();
            match end {
                End::Stays => {}
                End::Closes => stream.shutdown(Shutdown::Write).unwrap(),
                End::Resets => reset(stream.try_clone().unwrap()),
            }
            if matches!(end, End::Resets) {
                drop(stream);
            }
            spoke.send(()).unwrap();
            if part.is_empty() {
                drop(answer_once(listener, OK));
            }
        });
        let (server, ways, is_held_up, go) = held_up_counted(addr);
        let (mut client, mut other) = (known_client(&server), known_client(&server));
        client.send(get("/"));
        is_asked.recv().unwrap();
        other.send(get("/hold-up"));
        is_held_up.recv().unwrap();
        speak.send(()).unwrap();
        spoken.recv().unwrap();
        go.send(()).unwrap();
        assert_eq!(other.read_response().text(), "here");
        round_trip(&mut other);
        assert_eq!(ways.counts(), (0, 2), "{end:?}"); // the first one opened the connection
        client.read_until(b"\r\n\r\n");
        upstream.join().unwrap();
    }
}

async fn ask(client: &Client, addr: SocketAddr) {
    let mut fields = Fields::new();
    fields.append("host", "upstream").unwrap();
    let request = OutgoingRequest { method: Method::Get, target: "/".to_owned(), fields, body: Body::Empty };
    let (_, mut body) = client.send(addr, request).await.unwrap();
    while let Some(chunk) = body.chunk().await {
        chunk.unwrap();
    }
}

/// Connections are lent for what goes over a plain socket of a worker; others stay where they are.
#[test]
fn a_connection_that_the_front_cannot_use_is_not_lent() {
    let (addr, upstream) = warm(|mut stream, _| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
    });
    block_on(async {
        let client = Client::new(ClientSettings::default());
        ask(&client, addr).await;
        assert_eq!(client.idle_connections(), 1);
        assert!(client.take_kept(addr).is_none());
        assert_eq!(client.idle_connections(), 1);
        ask(&client, addr).await; // the upstream accepts no second one
    });
    upstream.join().unwrap();
}

/// The front puts an answer together from five parts at most; one in more of them is a task's from then on.
#[test]
fn an_answer_in_more_than_five_parts_is_left_to_a_task() {
    for (count, ways) in [(5, (1, 1)), (6, (0, 2))] {
        let ((speak, speaks), (spoke, spoken)) = (channel(), channel());
        let (addr, upstream) = warm(move |mut stream, _| {
            stream.set_nodelay(true).unwrap(); // each part in a packet of its own
            read_head(&mut stream);
            spoke.send(()).unwrap();
            let mut left = OK;
            for number in 1..=count {
                speaks.recv().unwrap();
                let part = if number == count { left.len() } else { 4 };
                stream.write_all(&left[..part]).unwrap();
                left = &left[part..];
                spoke.send(()).unwrap();
            }
        });
        let (server, counted, _held_up, _go) = held_up_counted(addr);
        let (mut client, mut other) = (known_client(&server), known_client(&server));
        client.send(get("/"));
        spoken.recv().unwrap();
        for _ in 0..count {
            speak.send(()).unwrap();
            spoken.recv().unwrap();
            round_trip(&mut other);
        }
        assert_eq!(client.read_response().text(), "ok");
        assert_eq!(counted.counts(), ways, "{count} parts"); // the first request opened the connection
        upstream.join().unwrap();
    }
}
