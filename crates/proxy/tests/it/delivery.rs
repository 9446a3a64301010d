//! How answers are handed on: hints before them, taken ahead of slow clients, compressed.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;

use engine::{Body, Request, Response, Running, StatusCode};
use testkit::RawResponse;

use crate::harness::*;

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\nSet-Cookie: a=1\r\nServer: x\r\nX-Internal: 1\r\n\r\n";

/// An upstream that gives a hint and answers only when it is told to.
fn hinting() -> (Hostile, mpsc::Sender<()>) {
    let (go_on, told) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let upstream = hostile(move |_, mut wire| {
        while wire.try_head().is_some() {
            wire.send(HINT);
            if told.lock().unwrap().recv_timeout(DEADLINE).is_err() {
                return;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
        }
    });
    (upstream, go_on)
}

fn pass(upstream: &Hostile, more: &str) -> Front {
    front(&everything_to(&[upstream.address()], more))
}

#[test]
fn a_hint_is_there_before_the_answer_is() {
    let (upstream, go_on) = hinting();
    let front = pass(&upstream, "early_hints on;");
    let mut client = front.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let hint = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
        assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        go_on.send(()).unwrap();
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "final"));
    }
}

#[test]
fn nobody_gets_hints_who_was_not_meant_to() {
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let shared = std::sync::Mutex::new((arrived, told));
    let upstream = hostile(move |_, mut wire| {
        if wire.try_head().is_some() {
            wire.send(HINT);
            let (arrived, told) = &*shared.lock().unwrap();
            arrived.send(()).unwrap();
            told.recv_timeout(DEADLINE).unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfinal");
        }
    });
    for (conf, version) in
        [("", "1.1"), ("early_hints off;", "1.1"), ("early_hints http2;", "1.1"), ("early_hints on;", "1.0")]
    {
        let front = pass(&upstream, &format!("{conf} location /own {{ respond 200; }}"));
        let mut client = front.connect();
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"));
        has_arrived.recv_timeout(DEADLINE).unwrap();
        // Whatever comes of the hint has come of it when the same worker answers what was asked after it.
        assert_eq!(front.ask("GET /own HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
        go_on.send(()).unwrap();
        let all = String::from_utf8(client.read_to_end()).unwrap();
        assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("final"), "{conf} {version}: {all}");
    }
}

#[test]
fn hints_without_end_are_an_upstream_that_is_broken() {
    let upstream = hostile(|_, mut wire| {
        if wire.try_head().is_some() {
            while wire.try_send(HINT).is_ok() {}
        }
    });
    let front = pass(&upstream, "early_hints on;");
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let all = String::from_utf8(client.read_to_end()).unwrap();
    assert!(all.matches("HTTP/1.1 103 ").count() <= 16, "{all}");
    let last = all.rsplit("HTTP/1.1 ").find(|answer| !answer.starts_with("103")).unwrap();
    assert!(last.starts_with("502 "), "{last}");
}

/// An upstream with a long answer, as fast as it is taken, which counts what it has sent.
fn long(media_type: &'static str, length: usize, sent: Arc<AtomicUsize>) -> Running {
    upstream(move || {
        let sent = Arc::clone(&sent);
        move |_: Request| {
            let sent = Arc::clone(&sent);
            async move {
                let (sender, body) = Body::channel();
                tokio::task::spawn_local(async move {
                    let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
                    for _ in 0..length / piece.len() {
                        if sender.send(piece.clone()).await.is_err() {
                            return;
                        }
                        sent.fetch_add(piece.len(), SeqCst);
                    }
                });
                Response::new(StatusCode::OK).field("content-type", media_type).with_body(body)
            }
        }
    })
}

/// More than the sockets between two programs hold.
const LONG: usize = 48 * 1024 * 1024;

fn in_flight(front: &Front) -> u32 {
    front.counts().upstreams.iter().map(|upstream| upstream.in_flight).sum()
}

#[test]
fn a_slow_client_does_not_hold_an_upstream_that_is_buffered() {
    let upstream = long("text/plain", LONG, Arc::default());
    let front = front(&everything_to(&[address(&upstream)], "proxy_buffering on size=64m;"));
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = client.read_until(b"\r\n\r\n");
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    eventually("the upstream is free", || in_flight(&front) == 0);
    let body = client.read_to_end();
    let content = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"x"));
    assert_eq!(content.map(|line| line.len() - 1).sum::<usize>(), LONG);
    assert!(body.ends_with(b"0\r\n\r\n"));
}

#[test]
fn beyond_the_buffer_the_client_sets_the_pace_and_event_streams_are_never_buffered() {
    for (media_type, size) in [("text/plain", "64k"), ("text/event-stream", "512m")] {
        let sent = Arc::new(AtomicUsize::new(0));
        let upstream = long(media_type, 3 * LONG, Arc::clone(&sent));
        let front = front(&everything_to(&[address(&upstream)], &format!("proxy_buffering on size={size};")));
        let mut client = front.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.read_until(b"\r\n\r\n");
        let taken = LONG / 2;
        client.read_exact(taken);
        // What the sockets hold, and no more.
        assert!(sent.load(SeqCst) < taken + LONG, "{media_type}: {}", sent.load(SeqCst));
        assert_eq!(in_flight(&front), 1, "{media_type}");
        drop(client);
        eventually("it is let go with its client", || in_flight(&front) == 0);
    }
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_through_a_buffer() {
    let upstream = answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true);
    let front = pass(&upstream, "proxy_buffering on;");
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let all = client.read_to_end();
    assert!(all.starts_with(b"HTTP/1.1 200 ") && all.ends_with(b"half"), "{}", all.escape_ascii());
}

#[test]
fn an_upstream_is_asked_when_the_request_is_there() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = hostile(move |_, mut wire| {
        while wire.try_head().is_some() {
            count.fetch_add(1, SeqCst);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let front = pass(&upstream, "proxy_request_buffering on size=100;");
    let mut slow = front.connect();
    slow.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    assert_eq!(front.get("a").status, 200); // on the same worker, after the slow one has had its turn
    assert_eq!(asked.load(SeqCst), 1, "only the other one");
    slow.send("0\r\n\r\n");
    assert_eq!(slow.read_response().text(), "ok");
    assert_eq!(asked.load(SeqCst), 2);
}

/// An upstream with text, and fields as the target says: `/name=value&name=value`.
fn texts() -> Running {
    upstream(|| {
        |request: Request| async move {
            let target = request.head.target().trim_start_matches('/').replace("%20", " ");
            let mut response = Response::text(StatusCode::OK, "all work and no play ".repeat(500));
            response = response.field("etag", "\"strong\"");
            for (name, value) in target.split('&').filter_map(|field| field.split_once('=')) {
                match name {
                    "status" => response.status = StatusCode::new(value.parse().unwrap()).unwrap(),
                    name => response.fields.set(name, value).unwrap(),
                }
            }
            response
        }
    })
}

fn ask(front: &Front, method: &str, target: &str, fields: &str) -> RawResponse {
    front.ask(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n{fields}\r\n"))
}

#[test]
fn answers_are_compressed_where_that_is_safe_and_worth_it() {
    let upstream = texts();
    let config = everything_to(
        &[address(&upstream)],
        "compression on; location /trusted { compression on trusted; } location /off { compression off; }
         location /own { respond 200 \"short\"; }",
    );
    let front = front(&config);
    let small = ask(&front, "GET", "/", "");
    assert_eq!(small.field("content-encoding"), Some("gzip"));
    assert_eq!((small.field("vary"), small.field("etag")), (Some("Accept-Encoding"), Some("W/\"strong\"")));
    let mut text = String::new();
    flate2::read::GzDecoder::new(small.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "all work and no play ".repeat(500));
    assert!(small.body.len() < 200, "{}", small.body.len());
    let check = |target: &str, fields: &str, expect: Option<&str>| {
        let response = ask(&front, "GET", target, fields);
        assert_eq!(response.field("content-encoding"), expect, "{target} {fields}");
    };
    check("/x", "Cookie: a=1\r\n", None);
    check("/trusted", "Cookie: a=1\r\n", Some("gzip"));
    check("/trusted", "", Some("gzip"));
    check("/off", "", None);
    check("/own", "", None);
    check("/set-cookie=a", "", None);
    check("/cache-control=private", "", None);
    check("/cache-control=no-transform", "", None);
    check("/content-encoding=br", "", Some("br"));
    check("/content-type=image/png", "", None);
    check("/content-type=text/event-stream", "", None);
    check("/status=206&content-range=bytes%200-9/10", "", None);
    let head = ask(&front, "HEAD", "/", "");
    assert_eq!((head.field("content-encoding"), head.field("content-length")), (Some("gzip"), None));
    assert_eq!(front.get("a").field("content-encoding"), None, "who asks for nothing gets it as it is");
}

#[test]
fn a_compressed_stream_is_handed_on_when_it_pauses() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = hostile(move |_, mut wire| {
        if wire.try_head().is_some() {
            wire.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
            );
            let _ = told.lock().unwrap().recv_timeout(DEADLINE);
            wire.send("4\r\nlast\r\n0\r\n\r\n");
        }
    });
    let front = pass(&upstream, "compression on;");
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
    assert!(head.to_ascii_lowercase().contains("content-encoding: gzip"), "{head}");
    let mut decoder = flate2::write::GzDecoder::new(Vec::new());
    while decoder.get_ref().as_slice() != b"first" {
        std::io::Write::write_all(&mut decoder, &chunk(&mut client)).unwrap();
        std::io::Write::flush(&mut decoder).unwrap();
    }
    go_on.send(()).unwrap();
    loop {
        let bytes = chunk(&mut client);
        if bytes.is_empty() {
            break;
        }
        std::io::Write::write_all(&mut decoder, &bytes).unwrap();
    }
    assert_eq!(decoder.finish().unwrap(), b"firstlast");
}

fn chunk(client: &mut testkit::RawClient) -> Vec<u8> {
    let line = String::from_utf8(client.read_until(b"\r\n")).unwrap();
    let length = usize::from_str_radix(line.trim(), 16).unwrap();
    let mut bytes = client.read_exact(length + 2);
    bytes.truncate(length);
    bytes
}

#[test]
fn files_may_lie_elsewhere_than_their_address_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("assets/css")).unwrap();
    std::fs::write(folder.path().join("assets/css/a.css"), "inner").unwrap();
    std::fs::write(folder.path().join("a.css"), "outer").unwrap();
    let front = front(&format!("host default {{ files {}; rewrite /static /assets/css; }}", folder.path().display()));
    let get = |target: &str| front.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(get("/static/a.css").text(), "inner");
    assert_eq!(get("/a.css").text(), "outer");
    assert!(matches!(get("/static/../../a.css").status, 400 | 404));
    assert_eq!(get("/static/b.css").status, 404);
}
