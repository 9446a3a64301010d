//! Limits and deadlines, each with its own answer.

use crate::support::{connect, get, length_of, serve, serve_lengths, serve_targets, settings};
use engine::{Body, Request, Response, Settings, StatusCode};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_head_that_does_not_end_is_timed_out() {
    let server = serve_targets(Settings { head_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ");
    let response = client.read_response();
    assert_eq!((response.status, response.field("connection")), (408, Some("close")));
    client.expect_close();
}

#[test]
fn the_head_deadline_is_not_moved_by_single_bytes() {
    let server = serve_targets(Settings { head_timeout: SHORT, linger_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ");
    let started = std::time::Instant::now();
    while client.try_send("x").is_ok() && started.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(20)); // the attack itself, not a wait for the server
    }
    assert!(started.elapsed() < Duration::from_secs(8), "a trickle keeps the connection open");
}

#[test]
fn the_head_deadline_holds_for_later_requests_too() {
    let server = serve_targets(Settings { head_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send(get("/") + "GET /late HT");
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.read_response().status, 408);
    client.expect_close();
}

#[test]
fn a_connection_without_a_request_is_closed_silently() {
    let server = serve_targets(Settings { head_timeout: SHORT, ..settings() });
    connect(&server).expect_close();
}

#[test]
fn an_idle_connection_is_closed_silently() {
    let server = serve_targets(Settings { keep_alive_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send(get("/"));
    assert_eq!(client.read_response().status, 200);
    client.expect_close();
}

#[test]
fn a_body_that_does_not_go_on_is_timed_out() {
    let server = serve_lengths(Settings { body_idle_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe");
    assert_eq!(client.read_response().status, 408);
    client.expect_close();
}

#[test]
fn a_body_that_trickles_is_timed_out() {
    let server = serve_lengths(Settings {
        rate_min: 1_000_000,
        rate_grace: SHORT,
        body_idle_timeout: Duration::from_mins(1),
        linger_timeout: SHORT,
        ..settings()
    });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    let started = std::time::Instant::now();
    while client.try_send("x").is_ok() && started.elapsed() < Duration::from_secs(8) {
        std::thread::sleep(Duration::from_millis(20)); // the attack itself, not a wait for the server
    }
    assert!(started.elapsed() < Duration::from_secs(8), "a trickle keeps the connection open");
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let (server, gone) = serve_endless(Settings { write_idle_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_until(b"\r\n\r\n");
    gone.recv_timeout(Duration::from_secs(10)).expect("the sender is told");
}

/// Sends content without end; tells when nobody takes it any more.
fn serve_endless(settings: Settings) -> (engine::Running, std::sync::mpsc::Receiver<()>) {
    let (sender, gone) = std::sync::mpsc::channel();
    let server = serve(settings, move || {
        let gone = sender.clone();
        move |_: Request| {
            let gone = gone.clone();
            async move {
                let (sender, body) = Body::channel();
                tokio::task::spawn_local(async move {
                    let chunk = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
                    while sender.send(chunk.clone()).await.is_ok() {}
                    gone.send(()).unwrap();
                });
                Response::new(StatusCode::OK).with_body(body)
            }
        }
    });
    (server, gone)
}

/// Reads a little at a time for a while; whether the server gave up meanwhile.
fn reads_slowly(rate_min: u64) -> bool {
    let (server, gone) = serve_endless(Settings {
        rate_min,
        rate_grace: SHORT,
        write_idle_timeout: Duration::from_mins(1),
        ..settings()
    });
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_until(b"\r\n\r\n");
    let started = std::time::Instant::now();
    while started.elapsed() < 15 * SHORT {
        // The pace of a slow reader, about 12 MB/s: never silent for long.
        if gone.recv_timeout(Duration::from_millis(20)).is_ok() {
            return true;
        }
        let mut some = vec![0; 256 * 1024];
        if std::io::Read::read(&mut client.stream(), &mut some).is_err() {
            return true;
        }
    }
    false
}

#[test]
fn a_client_that_reads_too_slowly_is_dropped() {
    assert!(reads_slowly(1_000_000_000), "a trickle keeps the answer going");
}

#[test]
fn a_client_that_reads_no_slower_than_it_must_is_served_on() {
    assert!(!reads_slowly(1));
}

#[test]
fn a_declared_body_beyond_the_limit_is_refused_unread() {
    let server = serve_lengths(Settings { body_bytes_max: 10, ..settings() });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.field("connection")), (413, Some("close")));
    client.expect_close();
}

#[test]
fn a_chunked_body_is_refused_where_it_passes_the_limit() {
    let server = serve_lengths(Settings { body_bytes_max: 10, ..settings() });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nghijk\r\n");
    assert_eq!(client.read_response().status, 413);
    client.expect_close();
}

#[test]
fn a_body_at_the_limit_is_accepted() {
    let server = serve_lengths(Settings { body_bytes_max: 10, ..settings() });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(client.read_response().text(), "10");
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(client.read_response().text(), "10");
}

#[test]
fn a_service_may_raise_the_limit_of_one_request() {
    let server = serve(Settings { body_bytes_max: 10, ..settings() }, || {
        |mut request: Request| async move {
            if request.head.path() == "/upload" {
                request.body.set_limit(20);
            }
            length_of(request).await
        }
    });
    let mut client = connect(&server);
    let fifteen = "Host: test\r\nContent-Length: 15\r\n\r\n0123456789abcde";
    client.send(format!("POST /upload HTTP/1.1\r\n{fifteen}"));
    assert_eq!(client.read_response().text(), "15");
    client.send(format!("POST / HTTP/1.1\r\n{fifteen}"));
    assert_eq!(client.read_response().status, 413);
}

#[test]
fn collect_refuses_what_is_longer_than_asked_for() {
    let server = serve(settings(), || {
        |request: Request| async move {
            match request.body.collect(4).await {
                Ok(bytes) => Response::new(StatusCode::OK).with_body(bytes),
                Err(error) => Response::text(error.status(), error.to_string()),
            }
        }
    });
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = connect(&server);
    client.send(format!("{chunked}2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"));
    assert_eq!(client.read_response().text(), "abcd");
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nabcd");
    assert_eq!(client.read_response().text(), "abcd");
    for body in ["5\r\nabcde\r\n0\r\n\r\n", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"] {
        let mut client = connect(&server);
        client.send(format!("{chunked}{body}"));
        assert_eq!(client.read_response().status, 413, "{body:?}");
    }
}

#[test]
fn requests_per_connection_are_counted() {
    let server = serve_targets(Settings { requests_per_connection_max: 2, ..settings() });
    let mut client = connect(&server);
    client.send(get("/1") + &get("/2") + &get("/3"));
    assert_eq!(client.read_response().field("connection"), None);
    assert_eq!(client.read_response().field("connection"), Some("close"));
    client.expect_close();
}

#[test]
fn connections_per_worker_are_counted() {
    let server = serve_targets(Settings { connections_per_worker_max: 2, ..settings() });
    let mut first = connect(&server);
    let mut second = connect(&server);
    for client in [&mut first, &mut second] {
        client.send(get("/"));
        assert_eq!(client.read_response().status, 200);
    }
    let mut third = connect(&server);
    assert_eq!(third.read_response().status, 503);
    third.expect_close();
    drop(first);
    drop(third);
    // A place is free as soon as the server has noticed: ask until it has.
    let admitted = (0..500).any(|_| {
        let mut client = connect(&server);
        let _ = client.try_send(get("/"));
        let admitted = client.read_response().status == 200;
        if !admitted {
            std::thread::yield_now();
        }
        admitted
    });
    assert!(admitted, "the place of a closed connection is free again");
    second.send(get("/still-here"));
    assert_eq!(second.read_response().status, 200);
}

#[test]
fn an_unread_body_is_drained_only_up_to_the_limit() {
    let server = serve(Settings { drain_bytes_max: 100, ..settings() }, || {
        |_: Request| async { Response::new(StatusCode::NO_CONTENT) }
    });
    let mut client = connect(&server);
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(50)));
    assert_eq!(client.read_response().field("connection"), None);
    client.send("x".repeat(50));
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 101\r\n\r\n{}", "x".repeat(50)));
    assert_eq!(client.read_response().field("connection"), Some("close"));
    client.expect_close();
}

#[test]
fn a_service_may_lower_the_limit_for_content_that_is_already_here() {
    let server = serve(settings(), || {
        |mut request: Request| async move {
            request.body.set_limit(3);
            length_of(request).await
        }
    });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.read_response().text(), "3");
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nabcd");
    assert_eq!(client.read_response().status, 413);
}
